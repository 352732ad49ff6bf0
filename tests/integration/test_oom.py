"""The kernel's OOM killer strikes: ``TaskOOM``, and then the exit with its reason, whatever else is dead (BEHAVIOURS 8)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import proc
from tests.support.cgroups import why_no_memory_limits
from tests.support.daemon import Daemon
from tests.support.events import Subscriber, of, topics
from tests.support.files import until_holds
from tests.support.pipes import Fifo
from tests.support.runtimes import need_criu
from tests.support.scene import Scene
from tests.support.specs import Image, Map

pytestmark = pytest.mark.skipif(bool(why := why_no_memory_limits()), reason=why)
LIMIT = 16 << 20
EAT = "x=xxxxxxxx; while true; do x=$x$x; done"
"""One process alone: were there another that asks for memory, the kernel might take a second victim meanwhile."""
ON_SIGNAL = f"trap '{EAT}' USR1; echo ready; while true; do sleep 1000 & wait; done"




def limited(params: Map) -> Map:
    """With little memory."""
    resources = params["spec"].setdefault("linux", {}).setdefault("resources", {})
    resources["memory"] = {"limit": LIMIT}
    return params


def lifecycle(envelopes: list[Map], task_id: str) -> list[str]:
    """Topics about a task, without its container's and shim's."""
    found = topics(one for one in of(envelopes, task_id) if one["event"].get("container_id") == task_id)
    return [topic for topic in found if "shim" not in topic]


WHOLE_LIFE = ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete"]


def test_it_is_told_before_the_exit_and_is_its_reason(scene: Scene, ears: Subscriber) -> None:
    scene.run(params := limited(scene.shell(EAT)))
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended["reason"]) == (137, "oom")
    assert scene.remove(params["id"]) == ended
    ears.until("TaskDelete", params["id"])
    heard = of(ears.heard, params["id"])
    assert lifecycle(heard, params["id"]) == WHOLE_LIFE
    (oom,) = [one for one in heard if one["type"] == "TaskOOM"]
    (exit_,) = [one for one in heard if one["type"] == "TaskExit"]
    assert oom["event"] == {"container_id": params["id"], "oom_kills": 1}
    assert oom["timestamp"] <= exit_["timestamp"]
    assert (exit_["event"]["exit_status"], exit_["event"]["reason"]) == (137, "oom")


def test_many_tasks_at_once_each_are_told_it_once(scene: Scene, ears: Subscriber) -> None:
    for _ in range(4):
        tasks = [limited(scene.shell(EAT)) for _ in range(8)]
        requests = [scene.api.send("tasks.run", **params, rm=True, wait=True) for params in tasks]
        for request in requests:
            ended = scene.api.result(request)["exit"]
            assert (ended["exit_status"], ended["reason"]) == (137, "oom")
        for params in tasks:
            ears.until("TaskDelete", params["id"])
            assert lifecycle(ears.heard, params["id"]) == WHOLE_LIFE


def test_the_death_of_a_child_is_told_while_the_task_goes_on(
    scene: Scene, ears: Subscriber, fifo: Callable[[str], Fifo]
) -> None:
    stdin = fifo("in")
    script = f"sh -c '{EAT}; true' & read line; exit 3"
    scene.run(params := limited(scene.shell(script, stdio={"stdin": stdin.uri})))
    assert ears.until("TaskOOM", params["id"])["event"]["oom_kills"] == 1
    assert scene.get(params["id"])["status"] == "running"
    assert scene.api.call("tasks.metrics", id=params["id"])["memory"]["oom_kills"] == 1
    stdin.open_for_writing().write(b"go\n")
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended.get("reason")) == (3, None)
    scene.remove(params["id"])
    ears.until("TaskDelete", params["id"])
    assert lifecycle(ears.heard, params["id"]) == WHOLE_LIFE


def test_a_clients_own_sigkill_has_no_such_reason(scene: Scene, ears: Subscriber) -> None:
    scene.run(params := limited(scene.sleeper()))
    scene.exec(params["id"], "hungry", EAT)
    ears.until("TaskOOM", params["id"])
    scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended.get("reason")) == (137, None)
    scene.remove(params["id"])


def test_an_exec_has_it_as_its_reason_too(scene: Scene, ears: Subscriber) -> None:
    scene.run(params := limited(scene.sleeper()))
    scene.exec(params["id"], "hungry", EAT)
    ended = scene.api.call("tasks.wait", id=params["id"], exec_id="hungry")
    assert (ended["exit_status"], ended["reason"]) == (137, "oom")
    assert scene.get(params["id"])["status"] == "running"
    heard = ears.up_to(scene.daemon.last_seq())
    assert lifecycle(heard, params["id"])[-3:] == ["/tasks/exec-started", "/tasks/oom", "/tasks/exit"]
    scene.remove(params["id"], force=True)


def test_the_daemon_tells_it_itself_where_there_is_no_shim(scene: Scene, ears: Subscriber) -> None:
    scene.options["no_shim"] = True
    scene.run(params := limited(scene.shell(EAT)), wait=True, rm=True)
    ears.until("TaskDelete", params["id"])
    assert lifecycle(ears.heard, params["id"]) == WHOLE_LIFE


def hungry_on_signal(scene: Scene, fifo: Callable[[str], Fifo]) -> Any:
    """A task that runs, and eats all memory once it has SIGUSR1."""
    out = fifo("out").open_for_reading()
    task = scene.run(limited(scene.shell(ON_SIGNAL, stdio={"stdout": out.uri})))
    out.read_until(b"ready")
    return task


def until_killed(pid: int) -> None:
    """Have it eat, and wait for its end."""
    with proc.pidfds_of([pid]) as pidfds:
        os.kill(pid, signal.SIGUSR1)
        assert proc.all_ended(pidfds)


def test_a_shim_killed_before_it_could_tell_is_followed_by_one_that_does(
    scene: Scene, ears: Subscriber, fifo: Callable[[str], Fifo]
) -> None:
    task = hungry_on_signal(scene, fifo)
    os.kill(task["shim_pid"], signal.SIGSTOP)
    until_killed(task["pid"])
    os.kill(task["shim_pid"], signal.SIGKILL)
    ended = scene.wait(task["id"])
    assert (ended["exit_status"], ended["reason"]) == (137, "oom")
    scene.remove(task["id"])
    ears.until("TaskDelete", task["id"])
    assert lifecycle(ears.heard, task["id"]) == WHOLE_LIFE


def test_it_is_told_by_the_next_daemon_in_order(own_scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    task = hungry_on_signal(own_scene, fifo)
    own_scene.daemon.kill9()
    until_killed(task["pid"])
    own_scene.daemon.restart()
    ended = own_scene.wait(task["id"])
    assert (ended["exit_status"], ended["reason"]) == (137, "oom")
    own_scene.remove(task["id"])
    assert lifecycle(own_scene.daemon.replay(), task["id"]) == WHOLE_LIFE


def test_neither_shim_nor_daemon_need_live(own_scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    task = hungry_on_signal(own_scene, fifo)
    os.kill(task["shim_pid"], signal.SIGSTOP)
    own_scene.daemon.kill9()
    until_killed(task["pid"])
    os.kill(task["shim_pid"], signal.SIGKILL)
    own_scene.daemon.restart()
    ended = own_scene.wait(task["id"])
    assert (ended["exit_status"], ended["reason"]) == (137, "oom")
    own_scene.remove(task["id"])
    assert lifecycle(own_scene.daemon.replay(), task["id"]) == WHOLE_LIFE


def test_a_restored_task_is_watched_too(daemon: Daemon, image: Image, tmp_path: Path) -> None:
    scene = Scene(daemon, image, need_criu())
    params = limited(scene.shell(ON_SIGNAL, stdio={"stdout": "log:"}))
    scene.run(params)
    until_holds(daemon.root / "logs" / scene.token / params["id"] / "log", b"ready")
    images = str(tmp_path / "images")
    scene.api.call("tasks.checkpoint", id=params["id"], path=images, exit=True)
    assert scene.wait(params["id"])["reason"] == "checkpoint"
    scene.api.call("tasks.delete", id=params["id"])
    scene.api.call("tasks.create", id=params["id"], checkpoint=images)
    until_killed(scene.api.call("tasks.start", id=params["id"])["pid"])
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended["reason"]) == (137, "oom")
    scene.clear()
