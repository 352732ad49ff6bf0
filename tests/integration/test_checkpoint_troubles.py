"""What goes wrong with a checkpoint, or with restoring from one: told with CRIU's own reasons, and nothing lost or left
(BEHAVIOURS 46, 12, 27 and 31): also when daemon or shim are killed in the middle of it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.checkpoints import Counted, SlowCriu
from tests.support.events import Subscriber, of, topics
from tests.support.pipes import Fifo
from tests.support.runtimes import CHECKPOINTING, need_criu
from tests.support.scarce import SmallDisk
from tests.support.scene import Scene
from tests.support.specs import Map

Pipes = Callable[[str], Fifo]


@pytest.fixture(params=CHECKPOINTING)
def runtime(request: pytest.FixtureRequest) -> str:
    """Those that can checkpoint here."""
    return need_criu(request.param)


@pytest.fixture
def counted(scene: Scene, tmp_path: Path, fifo: Pipes) -> Counted:
    """A task that counts, not yet made."""
    return Counted(scene, tmp_path, fifo)


def kill_shim(scene: Scene, task_id: str) -> None:
    """It is gone then; another one follows."""
    pid = int(scene.get(task_id)["shim_pid"])
    with proc.pidfds_of([pid]) as pidfds:
        os.kill(pid, signal.SIGKILL)
        assert proc.all_ended(pidfds)


def with_criu(scene: Scene, path: str) -> None:
    """For the containers that are made from now on."""
    scene.options["criu_path"] = path


def free_port() -> int:
    """On the loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def connected(scene: Scene) -> Map:
    """A task that has a TCP connection with itself, on the host's loopback: told on stdout once it stands."""
    port = free_port()
    ends = f"(echo up; sleep 1000) | nc -l -p {port} & sleep 1000 | until nc 127.0.0.1 {port}; do :; done"
    params = scene.shell(ends.replace("nc ", "/bin/busybox nc "), stdio={"stdout": "log:"})
    spaces = params["spec"]["linux"]["namespaces"]
    params["spec"]["linux"]["namespaces"] = [one for one in spaces if one["type"] != "network"]
    return params


def test_criu_says_why_it_cannot_and_the_task_goes_on(scene: Scene, tmp_path: Path) -> None:
    params = connected(scene)
    pid = scene.run(params)["pid"]
    said = scene.api.stream("tasks.logs", id=params["id"], follow=True)
    assert next(one["chunk"]["data"] for one in said if one.get("chunk")) == b"up\n"
    path = str(tmp_path / "images")
    error = scene.api.refused("failed_precondition", "tasks.checkpoint", id=params["id"], path=path)
    log = Path(error.details["criu_log"])
    assert log.name == "dump.log"
    assert "--tcp-established" in error.message
    assert str(log) in error.message
    assert "Connected TCP socket" in error.details["criu_error"]
    assert error.details["criu_errors"][-1].endswith("Dumping FAILED.")
    assert "Dumping FAILED" in log.read_text()
    assert not Path(path).exists()
    assert (scene.get(params["id"])["status"], scene.get(params["id"])["pid"]) == ("running", pid)
    scene.api.call("tasks.checkpoint", id=params["id"], path=path, open_tcp=True, exit=True)
    scene.api.call("tasks.delete", id=params["id"])
    scene.api.call("tasks.create", id=params["id"], checkpoint=path)  # which knows by itself what was put up with
    assert scene.api.call("tasks.start", id=params["id"])["pid"]
    scene.remove(params["id"], force=True)
    assert not log.exists()


def test_a_checkpoint_that_is_none_makes_no_task(counted: Counted, tmp_path: Path) -> None:
    api = counted.scene.api
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (str(empty), str(tmp_path / "no"), "images", ""):
        assert api.refused("invalid_argument", "tasks.create", id=counted.id, checkpoint=path).message.startswith("checkpoint: ")
    more = {"id": counted.id, "checkpoint": counted.path}
    assert "parent" in api.refused("invalid_argument", "tasks.create", **more, parent_checkpoint=str(empty)).message
    error = api.refused("invalid_argument", "tasks.create", id=counted.id, parent_checkpoint=str(empty))
    assert error.message.startswith("parent_checkpoint: ")
    assert api.call("tasks.list")["tasks"] == []
    api.call("containers.delete", id=counted.id)


def test_a_checkpoint_without_a_terminal_is_not_restored_on_one(counted: Counted) -> None:
    api = counted.scene.api
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    spec = counted.params["spec"]
    api.call("containers.update", id=counted.id, spec={**spec, "process": {**spec["process"], "terminal": True}})
    stdio = {"terminal": True}
    error = api.refused("invalid_argument", "tasks.create", id=counted.id, checkpoint=counted.path, stdio=stdio)
    assert error.message.startswith("stdio.terminal: ")
    api.call("containers.delete", id=counted.id)


def test_a_restore_that_fails_is_explained_and_may_be_tried_again(counted: Counted) -> None:
    scene = counted.scene
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    counted.create()
    core = Path(counted.path, "core-1.img")
    core.rename(core.with_suffix(".away"))
    for _ in range(2):
        error = scene.api.refused("failed_precondition", "tasks.start", id=counted.id)
        log = error.details["criu_log"]
        assert log.endswith("/restore.log")
        assert log in error.message
        assert "empty-image" in error.message
        assert (counted.status(), scene.get(counted.id)["pid"]) == ("created", 0)
    core.with_suffix(".away").rename(core)
    counted.start()
    assert counted.first() > 3
    counted.delete()
    counted.create()
    core.unlink()
    scene.api.refused("failed_precondition", "tasks.start", id=counted.id)
    scene.remove(counted.id)
    assert Path(log).name == "restore.log"


def test_the_criu_that_is_named_is_taken(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    own = tmp_path / "own-criu"
    own.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nexec {shutil.which("criu")} "$@"\n')
    own.chmod(0o755)
    with_criu(scene, str(own))
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    counted.checkpoint()
    assert (tmp_path / "asked").exists()
    own.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    scene.api.refused("failed_precondition", "tasks.checkpoint", id=counted.id, path=f"{counted.path}2")
    own.unlink()
    error = scene.api.refused("failed_precondition", "tasks.checkpoint", id=counted.id, path=f"{counted.path}2")
    assert error.message.startswith("runtime.options.criu_path: ")
    assert counted.status() == "running"
    with_criu(scene, "criu")
    wrong = scene.api.refused("invalid_argument", "containers.create", **scene.sleeper())
    assert wrong.message.startswith("runtime.options.criu_path: ")
    scene.remove(counted.id, force=True)


def test_while_a_task_is_checkpointed_only_what_ends_it_is_let_in(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    slow = SlowCriu(tmp_path)
    with_criu(scene, slow.path)
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    asked = scene.api.send("tasks.checkpoint", id=counted.id, path=counted.path)
    slow.reached()
    assert counted.status() == "running"
    process = scene.process("/bin/true")
    scene.api.refused("failed_precondition", "tasks.exec", id=counted.id, exec_id="no", process=process)
    refused: dict[str, Map] = {
        "pause": {},
        "checkpoint": {"path": f"{counted.path}2"},
        "update": {"resources": {"pids": {"limit": 9}}},
        "delete": {},
    }
    for method, more in refused.items():
        assert "checkpointing" in scene.api.refused("failed_precondition", f"tasks.{method}", id=counted.id, **more).message
    deleted = scene.api.send("tasks.delete", id=counted.id, force=True)
    scene.wait(counted.id)
    slow.let_go()
    assert scene.api.result(deleted)["exit_status"] == 137
    assert scene.api.reply(asked)["error"]["code"] == "not_found"
    assert not Path(counted.path).exists()
    scene.api.call("containers.delete", id=counted.id)


def test_a_checkpoint_outlives_its_daemon(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    slow = SlowCriu(tmp_path)
    with_criu(scene, slow.path)
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    params = {"id": counted.id, "path": counted.path}
    scene.api.using(key="once").send("tasks.checkpoint", **params)
    slow.reached()
    scene.daemon.kill9()
    scene.daemon.restart()
    asked = scene.api.using(key="once").send("tasks.checkpoint", **params)
    assert counted.status() == "running"
    assert "checkpointing" in scene.api.refused("failed_precondition", "tasks.pause", id=counted.id).message
    slow.let_go()
    assert scene.api.result(asked) == {}
    assert counted.status() == "running"
    scene.daemon.kill9()
    scene.daemon.restart()
    assert scene.api.using(key="once").call("tasks.checkpoint", **params) == {}
    lived = topics(of(scene.daemon.replay(), counted.id))
    assert lived.count("/tasks/checkpointed") == 1
    scene.remove(counted.id, force=True)


def test_a_checkpoint_outlives_its_shim(scene: Scene, tmp_path: Path, fifo: Pipes, ears: Subscriber) -> None:
    slow = SlowCriu(tmp_path)
    with_criu(scene, slow.path)
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    asked = scene.api.send("tasks.checkpoint", id=counted.id, path=counted.path, exit=True)
    slow.reached()
    kill_shim(scene, counted.id)
    slow.let_go()
    assert scene.api.result(asked) == {}
    ears.until("TaskShimAdopted", counted.id)
    ended = scene.wait(counted.id)
    assert (ended["exit_status"], ended["reason"]) == (137, "checkpoint")
    counted.delete()
    counted.create()
    counted.start()
    assert counted.first() > 3
    scene.remove(counted.id, force=True)
    heard = topics(of(ears.up_to(scene.daemon.last_seq()), counted.id))
    assert heard.count("/tasks/checkpointed") == 1


def test_what_is_to_be_restored_waits_for_its_start_whoever_is_killed(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    counted.create()
    kill_shim(scene, counted.id)
    scene.daemon.kill9()
    scene.daemon.restart()
    assert (counted.status(), scene.get(counted.id)["pid"]) == ("created", 0)
    client = scene.api.using(key="start")
    pid = client.call("tasks.start", id=counted.id)["pid"]
    assert client.call("tasks.start", id=counted.id)["pid"] == pid
    assert counted.first() > 3
    kill_shim(scene, counted.id)
    scene.api.call("tasks.kill", id=counted.id, signal="SIGKILL")
    ended = scene.wait(counted.id)
    assert (ended["exit_status"], ended["pid"], ended.get("reason")) == (137, pid, None)
    scene.remove(counted.id)


@pytest.mark.parametrize("whose", ["shim", "daemon"])
def test_a_restore_outlives_its_shim_and_its_daemon(scene: Scene, tmp_path: Path, fifo: Pipes, whose: str) -> None:
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    counted.checkpoint(exit=True)
    scene.remove(counted.id)
    slow = SlowCriu(tmp_path)
    with_criu(scene, slow.path)
    counted.params["runtime"]["options"] = scene.options
    scene.api.call("containers.create", **counted.params)
    counted.create()
    asked = scene.api.using(key="start").send("tasks.start", id=counted.id)
    slow.reached()
    if whose == "shim":
        kill_shim(scene, counted.id)
    else:
        scene.daemon.kill9()
        scene.daemon.restart()
        asked = scene.api.using(key="start").send("tasks.start", id=counted.id)
    slow.let_go()
    pid = scene.api.result(asked)["pid"]
    assert counted.first() > 3
    assert Path(f"/proc/{pid}").exists()
    assert topics(of(scene.daemon.replay(), counted.id)).count("/tasks/start") == 2
    scene.remove(counted.id, force=True)


def test_a_task_that_is_just_restored_is_deleted_by_force(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    slow = SlowCriu(tmp_path)
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    counted.checkpoint(exit=True)
    scene.remove(counted.id)
    with_criu(scene, slow.path)
    counted.params["runtime"]["options"] = scene.options
    scene.api.call("containers.create", **counted.params)
    counted.create()
    asked = scene.api.send("tasks.start", id=counted.id)
    slow.reached()
    assert counted.status() == "created"
    refused: dict[str, Map] = {"checkpoint": {"path": f"{counted.path}2"}, "update": {"resources": {"pids": {"limit": 9}}}}
    for method, more in {"pause": {}, **refused}.items():
        scene.api.refused("failed_precondition", f"tasks.{method}", id=counted.id, **more)
    deleted = scene.api.send("tasks.delete", id=counted.id, force=True)
    slow.let_go()
    scene.api.result(deleted)
    scene.api.reply(asked)  # as it came
    scene.api.call("containers.delete", id=counted.id)


def test_a_disk_without_room_is_named_and_left_as_it_was(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    small = SmallDisk.mount(tmp_path / "small", 64).path
    try:
        counted = Counted(scene, small, fifo)
        counted.run()
        error = scene.api.refused("resource_exhausted", "tasks.checkpoint", id=counted.id, path=counted.path)
        assert "No space left" in error.message
        assert not Path(counted.path).exists()
        assert counted.status() == "running"
        counted.out.read_until(b"\n", counted.out.seen.count(b"\n") + 3)
        scene.remove(counted.id, force=True)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_a_health_probe_is_waited_for(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    gate = fifo("gate")
    probe = f"read line <{tmp_path}/gate"
    counted = Counted(scene, tmp_path, fifo, health={"args": ["/bin/sh", "-c", probe], "interval": 0.01})
    counted.params["spec"]["mounts"].append(
        {"destination": str(tmp_path), "type": "bind", "source": str(tmp_path), "options": ["rbind"]}
    )
    counted.run()
    gate.open_for_writing()  # the probe runs
    asked = scene.api.send("tasks.checkpoint", id=counted.id, path=counted.path)
    process = scene.process("/bin/true")
    scene.api.refused("failed_precondition", "tasks.exec", id=counted.id, exec_id="no", process=process)
    gate.write(b"\n")
    assert scene.api.result(asked) == {}
    scene.remove(counted.id, force=True)


def test_what_was_never_restored_has_no_exit_though_its_bundle_is_removed(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    counted = Counted(scene, tmp_path, fifo)
    counted.run()
    counted.checkpoint(exit=True)
    counted.delete()
    made = counted.create()
    shutil.rmtree(made["bundle"])
    kill_shim(scene, counted.id)
    assert scene.remove(counted.id, force=True)["exit_status"] == 0
    assert topics(of(scene.daemon.replay(), counted.id)).count("/tasks/exit") == 1  # the first one's


def test_a_policy_does_not_start_again_what_a_checkpoint_has_ended(scene: Scene, tmp_path: Path, fifo: Pipes) -> None:
    counted = Counted(scene, tmp_path, fifo, restart={"policy": "always", "backoff": 0.001})
    counted.run()
    counted.checkpoint(exit=True)
    assert scene.wait(counted.id)["reason"] == "checkpoint"
    counted.delete()
    lived = topics(of(scene.daemon.replay(), counted.id))
    assert lived[-3:] == ["/tasks/checkpointed", "/tasks/exit", "/tasks/delete"]
    scene.api.call("containers.delete", id=counted.id)
