"""``log:`` keeps what a task wrote, and ``tasks.logs`` gives it back, byte for byte."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.pipes import Fifo
from tests.support.scene import Scene

LOG = {"stdout": "log:", "stderr": "log:"}


def logged(chunks: list[dict[str, Any]], stream: str) -> bytes:
    """All that one stream holds."""
    return b"".join(chunk["data"] for chunk in chunks if chunk["stream"] == stream)


def ended(scene: Scene, script: str, **more: Any) -> str:
    """The id of a task that ran a script to its end with its output logged."""
    params = scene.shell(script, stdio=LOG, **more)
    scene.run(params, wait=True)
    return str(params["id"])


def test_both_streams_come_back_as_they_were_written(scene: Scene) -> None:
    before = time.time_ns()
    task_id = ended(scene, "echo out; echo err >&2; printf last")
    chunks = scene.api.chunks("tasks.logs", id=task_id)
    assert logged(chunks, "stdout") == b"out\nlast"
    assert logged(chunks, "stderr") == b"err\n"
    assert all(before <= chunk["timestamp"] <= time.time_ns() for chunk in chunks)


def test_bytes_of_every_value_and_very_long_lines_come_back(scene: Scene) -> None:
    every = "".join(f"\\{value:03o}" for value in range(256))
    task_id = ended(scene, f"printf '{every}'; head -c 100000 /dev/zero; echo; printf '{every}'")
    expected = bytes(range(256)) + bytes(100_000) + b"\n" + bytes(range(256))
    assert logged(scene.api.chunks("tasks.logs", id=task_id), "stdout") == expected


def test_a_task_that_wrote_nothing_has_an_empty_log(scene: Scene) -> None:
    assert scene.api.chunks("tasks.logs", id=ended(scene, ":")) == []


def test_tail_gives_the_last_lines(scene: Scene) -> None:
    task_id = ended(scene, "seq 1 100")
    assert logged(scene.api.chunks("tasks.logs", id=task_id, tail=3), "stdout") == b"98\n99\n100\n"
    assert scene.api.chunks("tasks.logs", id=task_id, tail=0) == []
    assert len(logged(scene.api.chunks("tasks.logs", id=task_id, tail=1000), "stdout").split()) == 100


def test_since_leaves_out_what_is_older(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    params = scene.shell("echo old; read line; echo new", stdio={**LOG, "stdin": stdin.uri})
    scene.run(params)
    follow = scene.api.replies(scene.api.send("tasks.logs", id=params["id"], follow=True))
    while not ((answer := next(follow)).get("chunk") or {}).get("data", b"").startswith(b"old"):
        pass
    since = time.time_ns()
    stdin.open_for_writing().write(b"go\n")
    scene.wait(params["id"])
    assert answer["chunk"]["timestamp"] < since
    assert logged(scene.api.chunks("tasks.logs", id=params["id"], since=since), "stdout") == b"new\n"


def test_follow_gives_what_comes_and_ends_with_the_task(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    params = scene.params("/bin/cat", stdio={**LOG, "stdin": stdin.uri})
    scene.run(params)
    request = scene.api.send("tasks.logs", id=params["id"], follow=True)
    stdin.open_for_writing().write(b"one\n")
    answers = scene.api.replies(request)
    seen = b""
    while b"one\n" not in seen:
        seen += (next(answers).get("chunk") or {}).get("data", b"")
    stdin.write(b"two\nthree")
    stdin.close()
    seen += b"".join((answer.get("chunk") or {}).get("data", b"") for answer in answers)
    assert seen == b"one\ntwo\nthree"


def test_the_log_of_a_running_task_can_be_read_without_waiting(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell("echo logged >&2; echo ready; sleep 10000", stdio={"stdout": out.uri, "stderr": "log:"})
    scene.run(params)
    out.read_until(b"ready\n")
    follow = scene.api.replies(scene.api.send("tasks.logs", id=params["id"], follow=True))
    while (next(follow).get("chunk") or {}).get("data") != b"logged\n":
        pass
    assert logged(scene.api.chunks("tasks.logs", id=params["id"]), "stderr") == b"logged\n"


def test_the_log_stays_until_the_container_is_deleted(scene: Scene) -> None:
    task_id = ended(scene, "echo kept")
    scene.api.call("tasks.delete", id=task_id)
    assert logged(scene.api.chunks("tasks.logs", id=task_id), "stdout") == b"kept\n"
    scene.api.call("containers.delete", id=task_id)
    scene.api.refused("not_found", "tasks.logs", id=task_id)


def test_credit_bounds_what_is_sent_and_more_is_sent_for_more(plain_scene: Scene) -> None:
    api = plain_scene.api
    task_id = ended(plain_scene, "for i in 1 2 3 4 5 6 7 8 9; do echo $i >&$(( i % 2 + 1 )); done")
    every = len(api.chunks("tasks.logs", id=task_id))
    assert every > 2
    request = api.send("tasks.logs", id=task_id, credit=1)
    got = 0
    while (answer := api.reply(request))["more"]:
        if answer.get("chunk") is not None:
            got += 1
            assert api.chunks_arrived(request) == []
            api.send("stream.credit", stream=answer["stream"], n=1)
    assert got == every


def test_the_log_survives_the_daemon(own_scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    params = own_scene.params("/bin/cat", stdio={**LOG, "stdin": stdin.uri})
    own_scene.run(params)
    stdin.open_for_writing().write(b"before\n")
    own_scene.daemon.kill9()
    stdin.write(b"meanwhile\n")
    own_scene.daemon.restart()
    stdin.write(b"after\n")
    stdin.close()
    own_scene.wait(params["id"])
    chunks = own_scene.api.chunks("tasks.logs", id=params["id"])
    assert logged(chunks, "stdout") == b"before\nmeanwhile\nafter\n"


def test_a_reader_that_vanishes_leaves_nothing_open(plain_scene: Scene) -> None:
    task_id = ended(plain_scene, "echo out; echo err >&2; echo out")
    reader = plain_scene.daemon.connect(plain_scene.token)
    request = reader.send("tasks.logs", id=task_id, credit=1)
    while reader.reply(request).get("chunk") is None:
        pass
    reader.close()


@pytest.mark.parametrize("name", ["tail", "credit"])
def test_a_number_below_zero_is_refused_by_its_name(plain_scene: Scene, name: str) -> None:
    task_id = ended(plain_scene, "echo x")
    error = plain_scene.api.refused("invalid_argument", "tasks.logs", id=task_id, **{name: -1})
    assert name in error.message


def test_following_ends_however_close_to_the_exit_it_begins(plain_scene: Scene) -> None:
    task = plain_scene.run(plain_scene.sleeper())["id"]
    process = plain_scene.process("/bin/echo", "told")
    for number in range(60):
        name = f"e{number}"
        plain_scene.api.call("tasks.exec", id=task, exec_id=name, process=process, stdio={"stdout": "log:"})
        plain_scene.api.call("tasks.start", id=task, exec_id=name)
        assert plain_scene.exec_log(task, name) == b"told\n"
    plain_scene.remove(task, force=True)
