"""Terminals, and clients at a task's streams (BEHAVIOURS 35, 37, 41)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support import proc
from tests.support.attached import Attached
from tests.support.events import Subscriber
from tests.support.pipes import Fifo
from tests.support.scene import Scene
from tests.support.specs import Map

LOG = {"stdout": "log:", "stderr": "log:"}


def running(scene: Scene, params: Map) -> str:
    """Its id, once it runs."""
    scene.run(params)
    return str(params["id"])


def logged(scene: Scene, task: str) -> bytes:
    """What the managed log has, once the task has ended."""
    return b"".join(chunk["data"] for chunk in scene.api.chunks("tasks.logs", id=task, follow=True))


def test_a_process_has_the_terminal_and_its_output_is_complete(scene: Scene) -> None:
    params = scene.terminal("test -t 0 && test -t 1 && test -t 2 && tty; seq 20000; printf end", stdout="log:")
    task = running(scene, params)
    assert scene.wait(task)["exit_status"] == 0
    written = logged(scene, task)
    assert written.startswith(b"/dev/")
    assert written.endswith(b"20000\r\nend")
    assert [int(line) for line in written.splitlines()[1:-1]] == list(range(1, 20001))
    scene.remove(task)


def test_what_an_attached_client_types_is_read_and_a_resize_is_seen_inside(scene: Scene) -> None:
    params = scene.terminal("stty -echo; echo ready; read line; echo got $line; read line; stty size; exit 5")
    scene.create(params)
    task = params["id"]
    with Attached(scene.api, id=task, stdin=True) as client:
        scene.api.call("tasks.start", id=task)
        client.until(b"ready\r\n")
        client.write(b"hello\n")
        client.until(b"got hello\r\n")
        scene.api.call("tasks.resize", id=task, width=123, height=45)
        client.write(b"\n")
        assert client.until(b"45 123\r\n").endswith(b"45 123\r\n")
        client.read_to_end()
    assert scene.wait(task)["exit_status"] == 5
    scene.remove(task)


def test_several_clients_see_the_same_and_one_that_comes_back_goes_on(scene: Scene) -> None:
    stdio = {"stdin": "attach:", "stdout": "attach:"}
    task = running(scene, scene.shell("while read line; do echo got $line; done", stdio=stdio))
    first = Attached(scene.api, id=task, stdin=True)
    second = Attached(scene.api, id=task)
    first.write(b"one\n")
    assert first.until(b"got one\n") == second.until(b"got one\n") == b"got one\n"
    second.close()
    first.write(b"two\n")
    first.until(b"got two\n")
    again = Attached(scene.api, id=task, stdin=True)
    again.write(b"three\n")
    assert again.until(b"got three\n") == b"got three\n"
    first.until(b"got three\n")
    error = scene.api.refused("failed_precondition", "tasks.attach.write", stream=Attached(scene.api, id=task).stream, data=b"x")
    assert "stdin: true" in error.message
    scene.api.call("tasks.close_io", id=task, stdin=True)
    assert scene.wait(task)["exit_status"] == 0
    assert again.read_to_end() == b""
    scene.remove(task)


def test_an_exec_with_a_terminal_is_attached_before_it_starts(scene: Scene) -> None:
    params = scene.sleeper()
    task = running(scene, params)
    process = scene.process("/bin/sh", "-c", "echo first; read line; echo $line; exit 4", terminal=True)
    scene.api.call("tasks.exec", id=task, exec_id="tty", process=process, stdio={"terminal": True})
    with Attached(scene.api, id=task, exec_id="tty", stdin=True) as client:
        scene.api.call("tasks.start", id=task, exec_id="tty")
        client.until(b"first\r\n")
        client.write(b"typed\n")
        client.until(b"typed\r\ntyped\r\n")
        client.read_to_end()
    assert scene.api.call("tasks.wait", id=task, exec_id="tty")["exit_status"] == 4
    scene.remove(task, force=True)


def test_close_io_ends_the_input_of_a_terminal(scene: Scene) -> None:
    task = running(scene, scene.terminal("cat; exit 3"))
    scene.api.call("tasks.close_io", id=task, stdin=True)
    assert scene.wait(task)["exit_status"] == 3
    scene.remove(task)


def test_a_terminal_outlives_its_shim(scene: Scene, ears: Subscriber) -> None:
    task = running(scene, scene.terminal("stty -echo; while read line; do echo got $line; done; exit 6"))
    with Attached(scene.api, id=task, stdin=True) as client:
        client.write(b"one\n")
        client.until(b"got one\r\n")
        shim = scene.get(task)["shim_pid"]
        with proc.pidfds_of([shim]) as pidfds:
            os.kill(shim, signal.SIGKILL)
            assert proc.all_ended(pidfds)
        ears.until("TaskShimAdopted", task)
        client.write(b"two\n")
        assert client.until(b"got two\r\n") == b"got two\r\n"
        scene.api.call("tasks.close_io", id=task, stdin=True)
        client.read_to_end()
    assert scene.wait(task)["exit_status"] == 6
    scene.remove(task)


def test_input_and_output_of_a_terminal_may_be_named_pipes(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    given, taken = fifo("in"), fifo("out").open_for_reading()
    task = running(scene, scene.terminal("stty -echo; echo ready; read line; echo got $line", stdin=given.uri, stdout=taken.uri))
    taken.read_until(b"ready\r\n")
    given.open_for_writing().write(b"hello\n")
    assert taken.read_until(b"got hello\r\n")
    assert scene.wait(task)["exit_status"] == 0
    scene.remove(task)


def test_a_client_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(scene: Scene) -> None:
    params = scene.shell("head -c 8000000 /dev/zero; read line", stdio={"stdin": "attach:", "stdout": "attach:"})
    scene.create(params)
    task = params["id"]
    slow = scene.api.send("tasks.attach", id=task, credit=1)
    with Attached(scene.api, id=task) as client:
        scene.api.call("tasks.start", id=task)
        assert len(client.until_bytes(8_000_000)) == 8_000_000
    scene.api.call("tasks.close_io", id=task, stdin=True)
    scene.wait(task)
    replies = [scene.api.reply(slow) for _ in range(3)]
    assert replies[-1]["error"]["code"] == "resource_exhausted"
    scene.remove(task)


@pytest.mark.parametrize("method", ["tasks.attach", "tasks.resize"])
def test_what_has_no_stream_or_terminal_says_so(plain_scene: Scene, method: str) -> None:
    task = running(plain_scene, plain_scene.sleeper())
    more = {"width": 80, "height": 24} if method == "tasks.resize" else {}
    error = plain_scene.api.refused("failed_precondition", method, id=task, **more)
    assert "stdio" in error.message
    plain_scene.remove(task, force=True)
