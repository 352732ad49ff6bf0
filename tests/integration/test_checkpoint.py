"""Checkpoints by a real CRIU through runc, and tasks restored from them (BEHAVIOURS 46; 35 to 37 and 41 for what goes on)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.attached import Attached
from tests.support.checkpoints import Counted
from tests.support.events import Subscriber, of, topics
from tests.support.pipes import Fifo
from tests.support.runtimes import CHECKPOINTING, need, need_criu
from tests.support.scene import Scene

Pipes = Callable[[str], Fifo]
CAUSED = "trap 'echo told; exit 5' TERM; i=0; while :; do echo n$i; i=$((i+1)); sleep 0.05; done"


@pytest.fixture(params=CHECKPOINTING)
def runtime(request: pytest.FixtureRequest) -> str:
    """Those that can checkpoint here."""
    return need_criu(request.param)


@pytest.fixture
def counted(scene: Scene, tmp_path: Path, fifo: Pipes) -> Counted:
    """A task that counts, not yet made."""
    return Counted(scene, tmp_path, fifo, CAUSED)


def test_a_task_that_is_left_running_goes_on_and_its_checkpoint_is_whole(counted: Counted, ears: Subscriber) -> None:
    pid = counted.run()
    counted.checkpoint()
    task = counted.scene.get(counted.id)
    assert (task["status"], task["pid"]) == ("running", pid)
    counted.out.read_until(b"\n", counted.out.seen.count(b"\n") + 3)
    folder = Path(counted.path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {"inventory.img", "shimyard.json"} <= {one.name for one in folder.iterdir()}
    assert json.loads((folder / "shimyard.json").read_text())["runtime"] == counted.scene.runtime
    assert ears.until("TaskCheckpointed", counted.id)["event"] == {"container_id": counted.id, "path": counted.path}
    counted.scene.remove(counted.id, force=True)
    assert topics(of(ears.up_to(counted.scene.daemon.last_seq()), counted.id)).count("/tasks/checkpointed") == 1


def test_exit_ends_the_task_and_another_goes_on_where_it_stood(counted: Counted, ears: Subscriber) -> None:
    scene = counted.scene
    counted.run()
    counted.checkpoint(exit=True)
    ended = scene.wait(counted.id)
    assert (counted.status(), ended["exit_status"], ended["reason"]) == ("stopped", 137, "checkpoint")
    last = int(counted.out.read_to_end().split()[-1].removeprefix(b"n"))
    counted.delete()
    made = counted.create()
    assert (made["status"], made["pid"]) == ("created", 0)
    assert "start" in scene.api.refused("failed_precondition", "tasks.kill", id=counted.id, signal="SIGTERM").message
    pid = counted.start()
    assert counted.first() == last + 1
    assert (scene.get(counted.id)["status"], scene.get(counted.id)["pid"]) == ("running", pid)
    scene.exec(counted.id, "look", "exit 6")
    assert scene.api.call("tasks.wait", id=counted.id, exec_id="look")["exit_status"] == 6
    scene.api.call("tasks.kill", id=counted.id, signal="SIGTERM")
    ended = scene.wait(counted.id)
    assert (ended["exit_status"], ended["pid"], ended.get("reason")) == (5, pid, None)
    assert counted.out.read_to_end().endswith(b"told\n")
    scene.remove(counted.id)
    heard = of(ears.up_to(scene.daemon.last_seq()), counted.id)
    lives = [topic.removeprefix("/tasks/") for topic in topics(heard) if topic.startswith("/tasks/")]
    execs = ["exec-added", "exec-started", "exit", "delete"]
    assert [topic for topic in lives if topic not in ("exec-added", "exec-started")] == [
        *("create", "start", "checkpointed", "exit", "delete"),
        *("create", "start", execs[2], "exit", "delete", execs[3]),
    ]
    created = [one["event"] for one in heard if one["type"] == "TaskCreate"]
    assert [(one["checkpoint"], one["pid"] == 0) for one in created] == [("", False), (counted.path, True)]


def test_one_checkpoint_is_restored_any_number_of_times(counted: Counted) -> None:
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    seen = set()
    for _ in range(2):
        counted.create()
        counted.start()
        seen.add(counted.first())
        counted.delete()
    assert len(seen) == 1


def test_what_is_read_and_written_goes_on_by_the_new_tasks_streams(scene: Scene, tmp_path: Path) -> None:
    params = scene.shell("while read line; do echo got $line; done; echo over", stdio={"stdin": "attach:", "stdout": "log:"})
    scene.run(params)
    with Attached(scene.api, id=params["id"], stdin=True) as client:
        client.write(b"one\n")
        client.until(b"got one\n")
        path = str(tmp_path / "images")
        scene.api.call("tasks.checkpoint", id=params["id"], path=path, exit=True)
        assert client.read_to_end() == b""
    scene.api.call("tasks.delete", id=params["id"])
    scene.api.call("tasks.create", id=params["id"], checkpoint=path)
    with Attached(scene.api, id=params["id"], stdin=True) as client:  # before its start
        client.write(b"two\n")
        scene.api.call("tasks.start", id=params["id"])
        client.until(b"got two\n")
        scene.api.call("tasks.close_io", id=params["id"], stdin=True)
        assert client.read_to_end() == b"over\n"
    assert scene.wait(params["id"])["exit_status"] == 0
    logged = [piece["data"] for piece in scene.api.chunks("tasks.logs", id=params["id"])]
    assert logged == [b"got one\n", b"got two\n", b"over\n"]
    scene.remove(params["id"])


def test_a_terminal_is_a_terminal_again(scene: Scene, tmp_path: Path) -> None:
    params = scene.terminal("while read line; do stty size; done", stdin="attach:")
    scene.run(params)
    path = str(tmp_path / "images")
    with Attached(scene.api, id=params["id"], stdin=True) as client:
        scene.api.call("tasks.resize", id=params["id"], width=91, height=31)
        client.write(b"\n")
        client.until(b"31 91")
        scene.api.call("tasks.checkpoint", id=params["id"], path=path, exit=True, terminal=True)
        client.read_to_end()
    scene.api.call("tasks.delete", id=params["id"])
    scene.api.call("tasks.create", id=params["id"], checkpoint=path)
    scene.api.call("tasks.start", id=params["id"])
    with Attached(scene.api, id=params["id"], stdin=True) as client:
        scene.api.call("tasks.resize", id=params["id"], width=93, height=33)
        client.write(b"\n")
        client.until(b"33 93")
        scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
        client.read_to_end()
    scene.wait(params["id"])
    scene.remove(params["id"])


def test_a_paused_task_is_paused_still_and_what_is_restored_runs(counted: Counted) -> None:
    counted.run()
    counted.scene.api.call("tasks.pause", id=counted.id)
    folder = Path(counted.path)
    folder.mkdir(mode=0o755)
    counted.checkpoint()
    assert all(one.stat().st_mode & 0o077 == 0 for one in folder.iterdir())  # memory is nobody else's to read
    assert counted.status() == "paused"
    counted.scene.api.call("tasks.resume", id=counted.id)
    counted.out.read_until(b"\n", counted.out.seen.count(b"\n") + 3)
    counted.delete()
    counted.create()
    counted.start()
    assert counted.first() > 0
    counted.scene.remove(counted.id, force=True)


def test_a_task_without_a_shim_of_its_own_is_restored_too(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    scene.options["no_shim"] = True
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    counted.create()
    counted.start()
    assert counted.first() > 3
    scene.remove(counted.id, force=True)


def test_a_running_exec_is_in_the_way_and_named(counted: Counted) -> None:
    scene = counted.scene
    counted.run()
    scene.exec(counted.id, "shell", "sleep 1000")
    error = scene.api.refused("failed_precondition", "tasks.checkpoint", id=counted.id, path=counted.path)
    assert "exec shell" in error.message
    assert not Path(counted.path).exists()
    scene.api.call("tasks.kill", id=counted.id, exec_id="shell", signal="SIGKILL")
    scene.api.call("tasks.wait", id=counted.id, exec_id="shell")
    counted.checkpoint()
    scene.remove(counted.id, force=True)


def test_only_a_running_or_paused_task_is_checkpointed(counted: Counted) -> None:
    scene = counted.scene
    scene.create(counted.params)
    assert "created" in scene.api.refused("failed_precondition", "tasks.checkpoint", id=counted.id, path=counted.path).message
    scene.api.call("tasks.start", id=counted.id)
    scene.api.call("tasks.kill", id=counted.id, signal="SIGKILL")
    scene.wait(counted.id)
    assert "stopped" in scene.api.refused("failed_precondition", "tasks.checkpoint", id=counted.id, path=counted.path).message
    scene.api.refused("not_found", "tasks.checkpoint", id="nobody", path=counted.path)
    scene.remove(counted.id)
    assert not Path(counted.path).exists()


def test_bad_paths_are_refused_and_the_task_goes_on(counted: Counted, tmp_path: Path) -> None:
    api = counted.scene.api
    counted.run()
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "kept").touch()
    file.touch()
    wrong = {
        "invalid_argument": ["images", "", str(tmp_path / "no" / "images"), str(file), "/a\0b"],
        "failed_precondition": [str(full)],
    }
    for code, paths in wrong.items():
        for path in paths:
            assert api.refused(code, "tasks.checkpoint", id=counted.id, path=path).message.startswith("path: "), path
    api.refused("invalid_argument", "tasks.checkpoint", id=counted.id, path=counted.path, work_path="work")
    assert [one.name for one in full.iterdir()] == ["kept"]
    counted.checkpoint(work_path=str(tmp_path / "work"))
    assert (tmp_path / "work" / "dump.log").exists()
    counted.scene.remove(counted.id, force=True)


def test_a_file_that_the_process_itself_writes_is_gone_on_with(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    told = fifo("told").open_for_reading()
    stdio = {"stdout": f"file://{tmp_path}/out", "stderr": told.uri}
    script = "exec 5>&1; i=0; while :; do echo n$i; echo m$i >&5; echo >&2; i=$((i+1)); sleep 0.05; done"
    params = scene.shell(script, stdio=stdio)
    scene.run(params)
    told.read_until(b"\n", 3)
    path = str(tmp_path / "images")
    scene.api.call("tasks.checkpoint", id=params["id"], path=path, exit=True)
    scene.remove(params["id"])
    before = (tmp_path / "out").read_text().split()
    other = {**params, "id": scene.fresh_id()}
    scene.api.call("containers.create", **other)
    again = fifo("again").open_for_reading()
    stdio = {"stdout": f"file://{tmp_path}/next", "stderr": again.uri}
    scene.api.call("tasks.create", id=other["id"], checkpoint=path, stdio=stdio)
    scene.api.call("tasks.start", id=other["id"])
    again.read_until(b"\n", 3)
    scene.remove(other["id"], force=True)
    lines = before + (tmp_path / "next").read_text().split()
    expected = [f"{letter}{number}" for number in range(len(lines)) for letter in "nm"]
    assert lines == expected[: len(lines)]
    assert len(lines) > len(before) + 3


def test_a_file_that_the_process_itself_reads_is_in_the_way(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    params = scene.sleeper(stdio={"stdin": f"file://{tmp_path}/in"})
    scene.run(params)
    error = scene.api.refused("failed_precondition", "tasks.checkpoint", id=params["id"], path=str(tmp_path / "images"))
    assert error.message.startswith("stdio.stdin: ")
    scene.remove(params["id"], force=True)


@pytest.mark.parametrize("name", ["process", "crun"])
def test_a_runtime_that_cannot_says_why(daemon: object, scene: Scene, tmp_path: Path, name: str) -> None:
    scene.runtime = need(name)
    runtimes = {one["name"]: one for one in scene.api.call("version")["runtimes"]}
    assert runtimes["runc"]["checkpoint"]
    assert runtimes["runc"]["checkpoint_why"] is None
    if runtimes[name]["checkpoint"]:
        pytest.skip(f"{name} can")
    assert runtimes[name]["checkpoint_why"]
    params = scene.sleeper()
    pid = scene.run(params)["pid"]
    code = "unimplemented" if name == "process" else "failed_precondition"
    path = str(tmp_path / "images")
    error = scene.api.refused(code, "tasks.checkpoint", id=params["id"], path=path)
    assert "runc" in error.message
    assert "CRIU" in error.message
    assert not Path(path).exists()
    task = scene.get(params["id"])
    assert (task["status"], task["pid"]) == ("running", pid)
    scene.remove(params["id"], force=True)


def test_the_process_runtime_restores_nothing_and_says_why(plain_scene: Scene, tmp_path: Path) -> None:
    params = plain_scene.sleeper()
    plain_scene.api.call("containers.create", **params)
    error = plain_scene.api.refused("unimplemented", "tasks.create", id=params["id"], checkpoint=str(tmp_path))
    assert error.message.startswith("checkpoint: ")
    assert plain_scene.api.call("tasks.list")["tasks"] == []
    plain_scene.api.call("containers.delete", id=params["id"])
