"""A shim that is killed costs nothing: another takes the task over, with its output, its input and its true exit status."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import proc
from tests.support.daemon import Daemon
from tests.support.events import Subscriber, check_order, of, topics
from tests.support.files import until_holds
from tests.support.pipes import Fifo
from tests.support.scene import Scene


def kill(*pids: int) -> None:
    """SIGKILL, and wait until they are gone."""
    with proc.pidfds_of(pids) as pidfds:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert proc.all_ended(pidfds)


def logged(scene: Scene, task_id: str) -> list[dict[str, Any]]:
    """What the managed log has."""
    request = scene.api.send("tasks.logs", id=task_id)
    chunks = []
    while (reply := scene.api.reply(request))["more"]:
        if reply["chunk"] is not None:
            chunks.append(reply["chunk"])
    return chunks


def forkserver_of(daemon: Daemon) -> int:
    """The pid of a daemon's forkserver."""
    (found,) = [one.pid for one in proc.belonging_to(daemon.folder, "") if one.name == "shim-forkserver"]
    return found


def test_the_task_lives_and_another_shim_takes_it_over(scene: Scene, ears: Subscriber) -> None:
    params = scene.sleeper()
    task = scene.run(params)
    kill(task["shim_pid"])
    lost = ears.until("TaskShimLost", params["id"])
    adopted = ears.until("TaskShimAdopted", params["id"])
    after = scene.get(params["id"])
    assert lost["event"]["shim_pid"] == adopted["event"]["shim_pid"] == task["shim_pid"]
    assert (after["status"], after["pid"], after["shim"]) == ("running", task["pid"], "alive")
    assert after["shim_pid"] == adopted["event"]["new_shim_pid"] != task["shim_pid"]
    told = scene.api.call("tasks.shim", id=params["id"])
    assert (told["pid"], told["adopted"]) == (after["shim_pid"], True)
    assert task["pid"] in [one["pid"] for one in scene.api.call("tasks.pids", id=params["id"])["pids"]]
    scene.api.call("tasks.kill", id=params["id"], signal="SIGTERM")
    scene.api.call("tasks.stop", id=params["id"], grace=0)
    assert scene.wait(params["id"])["exit_status"] in (137, 143)
    scene.remove(params["id"])


@pytest.mark.parametrize("status", [0, 77, 255])
def test_its_exit_status_is_true(scene: Scene, fifo: Callable[[str], Fifo], status: int) -> None:
    stdin = fifo("in")
    task = scene.run(params := scene.shell(f"read line; exit {status}", stdio={"stdin": stdin.uri}))
    kill(task["shim_pid"])
    stdin.open_for_writing().write(b"go\n")
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended["pid"], ended.get("reason")) == (status, task["pid"], None)
    assert scene.remove(params["id"]) == ended


def test_its_output_and_input_go_on_through_named_pipes(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin, out = fifo("in"), fifo("out").open_for_reading()
    task = scene.run(params := scene.params("/bin/cat", stdio={"stdin": stdin.uri, "stdout": out.uri}))
    stdin.open_for_writing().write(b"before ")
    out.read_until(b"before ")
    kill(task["shim_pid"])
    stdin.write(b"after")
    stdin.close()
    assert scene.wait(params["id"])["exit_status"] == 0
    assert out.read_to_end() == b"before after"
    scene.remove(params["id"])


def test_its_log_goes_on(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    stdio = {"stdin": stdin.uri, "stdout": "log:", "stderr": "log:"}
    task = scene.run(params := scene.shell("echo before; read line; echo after", stdio=stdio))
    until_holds(scene.daemon.root / "logs" / scene.token / params["id"] / "log", b"before")
    kill(task["shim_pid"])
    stdin.open_for_writing().write(b"go\n")
    assert scene.wait(params["id"])["exit_status"] == 0
    assert b"".join(chunk["data"] for chunk in logged(scene, params["id"])) == b"before\nafter\n"
    scene.remove(params["id"])


def test_what_was_captured_before_is_not_lost(scene: Scene, fifo: Callable[[str], Fifo], ears: Subscriber) -> None:
    stdin = fifo("in")
    params = scene.shell("echo before; read line; echo after; exit 5", stdio={"stdin": stdin.uri})
    request = scene.api.send("tasks.run", **params, rm=True, wait=True, capture=1000)
    ears.until("TaskStart", params["id"])
    task = scene.get(params["id"])
    until_holds(Path(task["bundle"]) / "captured.stdout", b"before")
    kill(task["shim_pid"])
    stdin.open_for_writing().write(b"go\n")
    done = scene.api.result(request)
    assert (done["stdout"], done["exit"]["exit_status"]) == (b"before\nafter\n", 5)


def test_a_created_task_can_still_be_started(scene: Scene, ears: Subscriber) -> None:
    task = scene.create(params := scene.shell("exit 9"))
    kill(task["shim_pid"])
    ears.until("TaskShimAdopted", params["id"])
    assert scene.api.call("tasks.start", id=params["id"]) == {"pid": task["pid"]}
    assert scene.wait(params["id"])["exit_status"] == 9
    scene.remove(params["id"])


def test_a_stopped_task_keeps_its_status_and_can_be_deleted(scene: Scene, ears: Subscriber) -> None:
    task = scene.run(params := scene.shell("exit 4"))
    ended = scene.wait(params["id"])
    kill(scene.get(params["id"])["shim_pid"])
    ears.until("TaskShimAdopted", params["id"])
    assert scene.wait(params["id"]) == ended
    assert scene.remove(params["id"]) == ended
    assert ended["pid"] == task["pid"]


def test_shims_killed_again_and_again_are_followed_each_time(scene: Scene, ears: Subscriber) -> None:
    task = scene.run(params := scene.sleeper())
    shims = [task["shim_pid"]]
    for count in range(1, 6):
        kill(shims[-1])
        adopted = [ears.until("TaskShimAdopted", params["id"], nth=count)]
        shims.append(adopted[-1]["event"]["new_shim_pid"])
    assert len(set(shims)) == 6
    assert scene.get(params["id"])["pid"] == task["pid"]
    scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    assert scene.wait(params["id"])["exit_status"] == 137
    scene.remove(params["id"])


def test_a_shim_that_dies_at_once_with_its_init_tells_the_true_status(scene: Scene) -> None:
    task = scene.run(params := scene.sleeper())
    kill(task["shim_pid"], task["pid"])
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended.get("reason")) == (137, None)
    scene.remove(params["id"])


@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL"])
def test_a_shim_killed_while_there_is_no_daemon_is_followed_all_the_same(
    own_scene: Scene, fifo: Callable[[str], Fifo], way: str
) -> None:
    stdin, out = fifo("in"), fifo("out").open_for_reading()
    stdio = {"stdin": stdin.uri, "stdout": out.uri}
    task = own_scene.run(params := own_scene.shell("read line; echo $line; exit 33", stdio=stdio))
    own_scene.daemon.kill9() if way == "SIGKILL" else own_scene.daemon.stop()
    kill(task["shim_pid"])
    with proc.pidfds_of([task["pid"]]) as pidfds:
        stdin.open_for_writing().write(b"heard\n")
        assert proc.all_ended(pidfds)
    assert out.read_to_end() == b"heard\n"
    own_scene.daemon.restart()
    assert own_scene.wait(params["id"])["exit_status"] == 33
    own_scene.remove(params["id"])
    check_order(own_scene.daemon.replay())


def test_a_shim_killed_after_a_restart_of_the_daemon_is_followed(own_scene: Scene) -> None:
    task = own_scene.run(params := own_scene.sleeper())
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    ears = own_scene.daemon.subscribe()
    kill(task["shim_pid"])
    ears.until("TaskShimAdopted", params["id"])
    ears.close()
    own_scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    assert own_scene.wait(params["id"])["exit_status"] == 137
    own_scene.remove(params["id"])


def test_without_a_forkserver_running_tasks_go_on_and_new_ones_start(own_scene: Scene) -> None:
    before = own_scene.run(own_scene.sleeper())
    kill(forkserver_of(own_scene.daemon))
    assert own_scene.get(before["id"])["status"] == "running"
    assert own_scene.lifecycle(own_scene.shell("exit 6"))["exit_status"] == 6
    own_scene.api.call("tasks.kill", id=before["id"], signal="SIGKILL")
    assert own_scene.wait(before["id"])["exit_status"] == 137
    own_scene.remove(before["id"])


def test_a_shim_killed_after_its_forkserver_is_followed_by_one_of_the_next(own_scene: Scene) -> None:
    task = own_scene.run(params := own_scene.sleeper())
    kill(forkserver_of(own_scene.daemon))
    ears = own_scene.daemon.subscribe()
    kill(task["shim_pid"])
    ears.until("TaskShimAdopted", params["id"])
    ears.close()
    assert own_scene.get(params["id"])["pid"] == task["pid"]
    own_scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    truly_ended(own_scene.wait(params["id"]), 137)
    own_scene.remove(params["id"])


def test_all_killed_at_once_the_task_is_listed_truthfully(own_scene: Scene) -> None:
    task = own_scene.run(params := own_scene.sleeper())
    daemon = own_scene.daemon
    forkserver = forkserver_of(daemon)
    daemon.kill9()
    kill(forkserver, task["shim_pid"])
    daemon.restart()
    own_scene.api.call("tasks.pids", id=params["id"])
    after = own_scene.get(params["id"])
    assert (after["status"], after["pid"], after["shim"]) == ("running", task["pid"], "alive")
    own_scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    truly_ended(own_scene.wait(params["id"]), 137)
    own_scene.remove(params["id"])
    check_order(daemon.replay())
    lived = ["/containers/create", "/tasks/create", "/tasks/start", "/tasks/shim-lost", "/tasks/shim-adopted"]
    lived += ["/tasks/exit", "/tasks/delete", "/containers/delete"]
    assert topics(of(daemon.replay(), params["id"])) == lived


def truly_ended(ended: dict[str, Any], status: int) -> None:
    """The true status, or, where neither parent nor kernel could tell it, a reason that says so."""
    assert (ended["exit_status"], ended.get("reason")) in ((status, None), (255, "shim-lost"))
