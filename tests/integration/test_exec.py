"""Execs: more processes in a running task, each with its own stdio, logs and exit status (BEHAVIOURS 3, 7, 14-20)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.attached import Attached
from tests.support.events import Subscriber, of, topics
from tests.support.pipes import Fifo
from tests.support.scene import Scene

LOG = {"stdout": "log:", "stderr": "log:"}


@pytest.fixture
def task(scene: Scene) -> str:
    """The id of a running task."""
    params = scene.sleeper()
    scene.run(params)
    return str(params["id"])


def test_an_exec_is_added_then_started_and_has_its_own_status_and_logs(scene: Scene, task: str) -> None:
    added = scene.exec(task, "one", "echo out; echo err >&2; exit 7", **LOG)
    assert (added["id"], added["task_id"], added["status"], added["exit_status"]) == ("one", task, "created", None)
    ended = scene.api.call("tasks.wait", id=task, exec_id="one")
    assert (ended["id"], ended["exit_status"]) == ("one", 7)
    assert scene.exec_log(task, "one") == b"out\nerr\n"
    (shown,) = scene.get(task)["execs"]
    assert (shown["status"], shown["exit_status"], shown["pid"]) == ("stopped", 7, ended["pid"])
    assert scene.api.call("tasks.delete_process", id=task, exec_id="one") == ended
    assert scene.get(task)["execs"] == []
    assert scene.get(task)["status"] == "running"
    scene.remove(task, force=True)


def test_every_step_is_an_event_and_inits_exit_is_the_last(scene: Scene, ears: Subscriber, task: str) -> None:
    scene.exec(task, "short", "exit 3")
    scene.api.call("tasks.wait", id=task, exec_id="short")
    scene.exec(task, "long", "sleep 1000")
    scene.api.call("tasks.delete_process", id=task, exec_id="short")
    scene.api.call("tasks.kill", id=task, signal="SIGKILL")
    scene.wait(task)
    assert scene.api.call("tasks.wait", id=task, exec_id="long")["exit_status"] == 137
    scene.remove(task)
    ears.until("ContainerDelete", task)
    told = [(one["type"], one["event"].get("exec_id") or one["event"].get("id")) for one in of(ears.heard, task)]
    assert told[-13:] == [
        ("TaskCreate", None),
        ("TaskStart", None),
        ("TaskExecAdded", "short"),
        ("TaskExecStarted", "short"),
        ("TaskExit", "short"),
        ("TaskExecAdded", "long"),
        ("TaskExecStarted", "long"),
        ("TaskDelete", "short"),
        ("TaskExit", "long"),
        ("TaskExit", task),
        ("TaskDelete", "long"),
        ("TaskDelete", task),
        ("ContainerDelete", task),
    ]


def test_a_missing_program_fails_the_exec_alone(scene: Scene, task: str) -> None:
    process = scene.process("/no/such/program")
    scene.api.call("tasks.exec", id=task, exec_id="bad", process=process)
    error = scene.api.refused("invalid_argument", "tasks.start", id=task, exec_id="bad")
    assert "/no/such/program" in error.message
    (shown,) = scene.get(task)["execs"]
    assert (shown["status"], shown["exit_status"]) == ("stopped", 127)
    scene.api.call("tasks.delete_process", id=task, exec_id="bad")
    assert scene.get(task)["status"] == "running"
    scene.exec(task, "bad", "exit 4")
    assert scene.api.call("tasks.wait", id=task, exec_id="bad")["exit_status"] == 4
    scene.remove(task, force=True)


def test_seventy_execs_at_once_all_end_with_their_own_status(scene: Scene, task: str) -> None:
    names = [f"e{number}" for number in range(70)]
    for number, name in enumerate(names):
        process = scene.process("/bin/sh", "-c", f"exit {number}")
        scene.api.call("tasks.exec", id=task, exec_id=name, process=process)
    started = [scene.api.send("tasks.start", id=task, exec_id=name) for name in names]
    waits = [scene.api.send("tasks.wait", id=task, exec_id=name) for name in names]
    for request in started:
        scene.api.result(request, 60)
    assert [scene.api.result(request, 60)["exit_status"] for request in waits] == list(range(70))
    scene.remove(task, force=True)


def test_an_exec_that_leaves_a_child_with_its_output_ends_at_once(scene: Scene, task: str) -> None:
    scene.exec(task, "parent", "echo told; sleep 1000 & exit 5", **LOG)
    begun = time.monotonic()
    assert scene.api.call("tasks.wait", id=task, exec_id="parent")["exit_status"] == 5
    assert time.monotonic() - begun < 1.0
    assert scene.exec_log(task, "parent") == b"told\n"
    scene.remove(task, force=True)


def test_ids_that_are_taken_are_refused_and_unknown_ones_not_found(scene: Scene, task: str) -> None:
    process = scene.process("/bin/true")
    scene.exec(task, "one", "sleep 1000")
    before = scene.get(task)["execs"]
    scene.api.refused("already_exists", "tasks.exec", id=task, exec_id="one", process=process)
    scene.api.refused("already_exists", "tasks.exec", id=task, exec_id=task, process=process)
    assert scene.get(task)["execs"] == before
    methods: dict[str, dict[str, object]] = {
        "tasks.start": {},
        "tasks.wait": {},
        "tasks.kill": {"signal": 9},
        "tasks.delete_process": {},
        "tasks.close_io": {"stdin": True},
        "tasks.logs": {},
    }
    for method, more in methods.items():
        scene.api.refused("not_found", method, id=task, exec_id="none", **more)
    scene.api.refused("invalid_argument", "tasks.delete_process", id=task, exec_id=task)
    scene.api.refused("failed_precondition", "tasks.delete_process", id=task, exec_id="one")
    scene.api.refused("failed_precondition", "tasks.start", id=task, exec_id="one")
    scene.remove(task, force=True)


def test_kill_reaches_the_exec_and_a_second_kill_is_not_found(scene: Scene, task: str) -> None:
    scene.exec(task, "one", "sleep 1000")
    scene.api.call("tasks.kill", id=task, exec_id="one", signal="SIGKILL")
    assert scene.api.call("tasks.wait", id=task, exec_id="one")["exit_status"] == 137
    scene.api.refused("not_found", "tasks.kill", id=task, exec_id="one", signal="SIGKILL")
    assert scene.get(task)["status"] == "running"
    scene.remove(task, force=True)


def test_pids_tell_which_process_is_an_exec(scene: Scene, task: str) -> None:
    scene.exec(task, "one", "exec sleep 1000")
    (shown,) = scene.get(task)["execs"]
    pids = scene.api.call("tasks.pids", id=task)["pids"]
    assert {"pid": shown["pid"], "exec_id": "one"} in pids
    assert {"pid": scene.get(task)["pid"]} in pids
    scene.remove(task, force=True)


def test_a_task_with_an_exec_that_was_only_added_can_be_deleted(scene: Scene, ears: Subscriber, task: str) -> None:
    scene.api.call("tasks.exec", id=task, exec_id="idle", process=scene.process("/bin/true"))
    scene.remove(task, force=True)
    ears.until("TaskDelete", task, nth=2)
    assert "/tasks/exec-started" not in topics(of(ears.heard, task))


def test_an_exec_is_refused_when_init_is_gone(scene: Scene, task: str) -> None:
    scene.api.call("tasks.exec", id=task, exec_id="late", process=scene.process("/bin/true"))
    scene.api.call("tasks.kill", id=task, signal="SIGKILL")
    scene.wait(task)
    scene.api.refused("failed_precondition", "tasks.exec", id=task, exec_id="two", process=scene.process("/bin/true"))
    scene.api.refused("failed_precondition", "tasks.start", id=task, exec_id="late")
    scene.remove(task)


def test_arguments_of_100_kb_arrive(scene: Scene, task: str) -> None:
    long = "x" * 100_000
    process = scene.process("/bin/sh", "-c", 'printf %s "$1" | wc -c', "sh", long)
    scene.api.call("tasks.exec", id=task, exec_id="long", process=process, stdio={"stdout": "log:"})
    scene.api.call("tasks.start", id=task, exec_id="long")
    scene.api.call("tasks.wait", id=task, exec_id="long")
    assert scene.exec_log(task, "long").strip() == b"100000"
    scene.remove(task, force=True)


def test_input_by_a_named_pipe_ends_with_close_io(scene: Scene, task: str, fifo: Callable[[str], Fifo]) -> None:
    given = fifo("in")
    process = scene.process("/bin/cat")
    stdio = {"stdin": given.uri, "stdout": "log:"}
    scene.api.call("tasks.exec", id=task, exec_id="cat", process=process, stdio=stdio)
    scene.api.call("tasks.start", id=task, exec_id="cat")
    given.open_for_writing().write(b"through")
    scene.api.call("tasks.close_io", id=task, exec_id="cat", stdin=True)
    assert scene.api.call("tasks.wait", id=task, exec_id="cat")["exit_status"] == 0
    assert scene.exec_log(task, "cat") == b"through"
    scene.remove(task, force=True)


def test_bad_input_names_the_field(plain_scene: Scene) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    call, task = plain_scene.api.refused, params["id"]
    for process, field in (
        ({}, "process.args"),
        ({"args": []}, "process.args"),
        ({"args": ["x"], "cwd": "here"}, "process.cwd"),
        ({"args": ["x"], "cwd": "/", "env": ["novalue"]}, "process.env[0]"),
        ({"args": ["x"], "cwd": "/", "terminal": True}, "process.terminal"),
    ):
        assert field in call("invalid_argument", "tasks.exec", id=task, exec_id="e", process=process).message
    stdio = {"stdout": "nowhere"}
    process = plain_scene.process("/bin/true")
    assert "stdio.stdout" in call("invalid_argument", "tasks.exec", id=task, exec_id="e", process=process, stdio=stdio).message
    assert plain_scene.get(task)["execs"] == []
    plain_scene.remove(task, force=True)


def test_execs_are_as_before_after_a_restart_of_the_daemon(own_scene: Scene) -> None:
    params = own_scene.sleeper()
    task = str(own_scene.run(params)["id"])
    own_scene.exec(task, "over", "echo told; exit 9", **LOG)
    own_scene.api.call("tasks.wait", id=task, exec_id="over")
    own_scene.exec(task, "runs", "while read line; do echo $line; done; exit 6")
    own_scene.exec(task, "sleeps", "exec sleep 1000")
    own_scene.api.call("tasks.exec", id=task, exec_id="idle", process=own_scene.process("/bin/sh", "-c", "exit 8"))
    before = own_scene.get(task)["execs"]
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    own_scene.api.call("tasks.pids", id=task)  # the shim has been heard by then
    assert own_scene.get(task)["execs"] == before
    assert own_scene.api.call("tasks.wait", id=task, exec_id="over")["exit_status"] == 9
    assert own_scene.exec_log(task, "over") == b"told\n"
    own_scene.api.call("tasks.kill", id=task, exec_id="sleeps", signal="SIGTERM")
    assert own_scene.api.call("tasks.wait", id=task, exec_id="sleeps")["exit_status"] == 143
    own_scene.api.call("tasks.start", id=task, exec_id="idle")
    assert own_scene.api.call("tasks.wait", id=task, exec_id="idle")["exit_status"] == 8
    own_scene.remove(task, force=True)


def test_execs_outlive_their_shim(scene: Scene, ears: Subscriber, task: str, fifo: Callable[[str], Fifo]) -> None:
    given, taken = fifo("in"), fifo("out").open_for_reading()
    stdio = {"stdin": given.uri, "stdout": taken.uri}
    process = scene.process("/bin/sh", "-c", "while read line; do echo got $line; done; exit 6")
    scene.api.call("tasks.exec", id=task, exec_id="reads", process=process, stdio=stdio)
    scene.api.call("tasks.start", id=task, exec_id="reads")
    scene.exec(task, "sleeps", "exec sleep 1000")
    given.open_for_writing().write(b"one\n")
    taken.read_until(b"got one\n")
    shim = scene.get(task)["shim_pid"]
    with proc.pidfds_of([shim]) as pidfds:
        os.kill(shim, signal.SIGKILL)
        assert proc.all_ended(pidfds)
    ears.until("TaskShimAdopted", task)
    given.write(b"two\n")
    assert taken.read_until(b"got two\n") == b"got one\ngot two\n"
    given.close()
    assert scene.api.call("tasks.wait", id=task, exec_id="reads")["exit_status"] == 6
    scene.api.call("tasks.kill", id=task, exec_id="sleeps", signal="SIGTERM")
    assert scene.api.call("tasks.wait", id=task, exec_id="sleeps")["exit_status"] == 143
    scene.exec(task, "new", "exit 2")
    assert scene.api.call("tasks.wait", id=task, exec_id="new")["exit_status"] == 2
    scene.remove(task, force=True)


def test_a_task_of_many_execs_has_a_small_journal_and_is_taken_over_all_the_same(own_scene: Scene) -> None:
    params = own_scene.sleeper()
    task = own_scene.run(params)
    kept = own_scene.exec(params["id"], "kept", "exec sleep 10000")["id"]
    long = own_scene.process("/bin/" + "./" * 1800 + "true")
    for _ in range(90):
        own_scene.api.call("tasks.exec", id=params["id"], exec_id="again", process=long)
        own_scene.api.call("tasks.start", id=params["id"], exec_id="again")
        own_scene.api.call("tasks.wait", id=params["id"], exec_id="again")
        own_scene.api.call("tasks.delete_process", id=params["id"], exec_id="again")
    journal = Path(task["bundle"]) / "journal"
    assert journal.stat().st_size < 200 << 10
    own_scene.daemon.kill9()
    with proc.pidfds_of([task["shim_pid"]]) as pidfds:
        os.kill(task["shim_pid"], signal.SIGKILL)
        assert proc.all_ended(pidfds)
    own_scene.daemon.restart()
    own_scene.api.call("tasks.kill", id=params["id"], exec_id=kept, signal="SIGKILL")
    assert own_scene.api.call("tasks.wait", id=params["id"], exec_id=kept)["exit_status"] == 137
    assert [one["id"] for one in own_scene.get(params["id"])["execs"]] == [kept]
    own_scene.remove(params["id"], force=True)


@pytest.mark.parametrize("what", ["exec", "init"])
def test_a_client_that_is_gone_takes_its_process_with_it_if_it_has_asked_for_that(scene: Scene, what: str) -> None:
    params = scene.sleeper(stdio={"stdout": "attach:"})
    scene.run(params)
    about = {"id": params["id"]}
    if what == "exec":
        scene.exec(params["id"], "own", "exec sleep 10000", stdout="attach:")
        about["exec_id"] = "own"
    with scene.daemon.connect(scene.token) as client:
        Attached(client, **about, kill_on_disconnect=True)
    assert scene.api.call("tasks.wait", **about)["exit_status"] == 137
    scene.remove(params["id"], force=True)


def test_a_client_that_detaches_leaves_its_process_running(scene: Scene) -> None:
    params = scene.sleeper()
    scene.run(params)
    scene.exec(params["id"], "own", "exec sleep 10000", stdout="attach:")
    with scene.daemon.connect(scene.token) as client:
        stream = Attached(client, id=params["id"], exec_id="own", kill_on_disconnect=True).stream
        client.call("stream.cancel", stream=stream)
    scene.exec(params["id"], "after", "exit 0")
    scene.api.call("tasks.wait", id=params["id"], exec_id="after")
    assert [one["status"] for one in scene.get(params["id"])["execs"] if one["id"] == "own"] == ["running"]
    scene.remove(params["id"], force=True)
