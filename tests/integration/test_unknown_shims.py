"""A shim that does not answer is unknown, not dead: its task is kept and listed, waited for, and delays nobody else."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from shimproc.shim import SOCKET
from tests.integration.test_adoption import forkserver_of, kill
from tests.support import proc
from tests.support.events import Subscriber, check_order, of, topics
from tests.support.scene import Scene
from tests.support.stopped import crowded, stopped
from tests.support.wire import WireError

LIVED = ["/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/delete"]


def restart(scene: Scene) -> None:
    """A daemon that comes after one that was killed."""
    scene.daemon.kill9()
    scene.daemon.restart()


def end(scene: Scene, task_id: str) -> None:
    """Killed, waited for, removed; its life was told in order, and no shim was lost."""
    scene.api.call("tasks.kill", id=task_id, signal="SIGKILL")
    assert scene.wait(task_id)["exit_status"] == 137
    scene.remove(task_id)
    check_order(scene.daemon.replay())


def refuse_to_wait(scene: Scene, method: str, **params: Any) -> None:
    """It is not answered in time, as its shim does not answer."""
    scene.api.using(timeout=0.2).refused("deadline_exceeded", method, **params)


def test_a_stopped_shim_is_listed_as_unknown_and_delays_nobody(own_scene: Scene) -> None:
    silent, other = (own_scene.run(own_scene.sleeper()) for _ in range(2))
    with stopped(silent["shim_pid"]):
        restart(own_scene)
        listed = {task["id"]: task for task in own_scene.api.call("tasks.list")["tasks"]}
        assert listed[silent["id"]]["shim"] == "unknown"
        same = ("status", "pid", "shim_pid", "started_at", "stdio", "bundle")
        assert {name: listed[silent["id"]][name] for name in same} == {name: silent[name] for name in same}
        refuse_to_wait(own_scene, "tasks.pids", id=silent["id"])
        own_scene.api.call("tasks.pids", id=other["id"])
        assert own_scene.get(other["id"])["shim"] == "alive"
        assert own_scene.lifecycle(own_scene.shell("exit 3"))["exit_status"] == 3
        end(own_scene, other["id"])
        waiting = own_scene.api.send("tasks.pids", id=silent["id"])
        assert own_scene.get(silent["id"])["shim"] == "unknown"
    assert silent["pid"] in [one["pid"] for one in own_scene.api.result(waiting)["pids"]]
    assert own_scene.get(silent["id"])["shim"] == "alive"
    end(own_scene, silent["id"])
    assert topics(of(own_scene.daemon.replay(), silent["id"])) == LIVED


def test_once_it_answers_its_events_are_caught_up(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())
    with stopped(task["shim_pid"]):
        with proc.pidfds_of([task["pid"]]) as pidfds:
            os.kill(task["pid"], signal.SIGKILL)
            restart(own_scene)
            ears = own_scene.daemon.subscribe()
            assert proc.all_ended(pidfds)
        assert own_scene.get(task["id"])["status"] == "running"
    told = ears.until("TaskExit", task["id"])
    ears.close()
    ended = own_scene.wait(task["id"])
    assert (told["event"]["exit_status"], ended["exit_status"], ended.get("reason")) == (137, 137, None)
    assert own_scene.remove(task["id"]) == ended
    check_order(own_scene.daemon.replay())


def test_once_it_is_killed_its_task_is_taken_over(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())
    with stopped(task["shim_pid"]):
        restart(own_scene)
        ears = own_scene.daemon.subscribe()
        assert own_scene.get(task["id"])["shim"] == "unknown"
        kill(task["shim_pid"])
    adopted = ears.until("TaskShimAdopted", task["id"])
    ears.close()
    after = own_scene.get(task["id"])
    assert (after["status"], after["pid"], after["shim"]) == ("running", task["pid"], "alive")
    assert after["shim_pid"] == adopted["event"]["new_shim_pid"] != task["shim_pid"]
    end(own_scene, task["id"])


@pytest.mark.parametrize("forkserver", ["the same forkserver", "another forkserver"])
@pytest.mark.parametrize("later", ["continued", "killed"])
def test_nor_does_one_that_has_no_room_for_a_connection(own_scene: Scene, forkserver: str, later: str) -> None:
    silent, other = (own_scene.run(own_scene.sleeper()) for _ in range(2))
    with stopped(silent["shim_pid"]):
        with crowded(Path(silent["bundle"]), SOCKET):
            own_scene.daemon.kill9()
            if forkserver == "another forkserver":
                kill(forkserver_of(own_scene.daemon))
            own_scene.daemon.restart()
            own_scene.api.call("tasks.pids", id=other["id"])
            assert own_scene.get(silent["id"])["shim"] == "unknown"
            refuse_to_wait(own_scene, "tasks.pids", id=silent["id"])
            assert own_scene.lifecycle(own_scene.shell("exit 3"))["exit_status"] == 3
        if later == "killed":
            kill(silent["shim_pid"])
    assert silent["pid"] in [one["pid"] for one in own_scene.api.call("tasks.pids", id=silent["id"])["pids"]]
    after = own_scene.get(silent["id"])
    assert (after["shim"], after["shim_pid"] == silent["shim_pid"]) == ("alive", later == "continued")
    for task in (silent, other):
        own_scene.api.call("tasks.stop", id=task["id"], grace=0)
        own_scene.remove(task["id"])
    check_order(own_scene.daemon.replay())
    told = topics(of(own_scene.daemon.replay(), silent["id"]))
    succession = ["/tasks/shim-lost", "/tasks/shim-adopted"] if later == "killed" else []
    assert told == [*LIVED[:3], *succession, *LIVED[3:]]


def test_one_that_stops_while_the_daemon_runs_holds_up_its_own_task_alone(scene: Scene, ears: Subscriber) -> None:
    silent, other = (scene.run(scene.sleeper()) for _ in range(2))
    with stopped(silent["shim_pid"]):
        refuse_to_wait(scene, "tasks.stop", id=silent["id"], grace=0)
        end(scene, other["id"])
        late = scene.api.using(timeout=10).send("tasks.delete", id=silent["id"])
        while scene.get(silent["id"])["shim"] != "unknown":
            refuse_to_wait(scene, "tasks.pids", id=silent["id"])
        assert scene.get(silent["id"])["status"] == "running"
    with contextlib.suppress(WireError):
        scene.api.result(late)  # refused, or answered: a stop was on its way before it
    ended = ears.until("TaskExit", silent["id"])
    assert ended["event"]["exit_status"] in (137, 143)
    scene.clear()
    assert "TaskShimLost" not in {one["type"] for one in ears.heard}


def test_a_forced_delete_replaces_it_in_the_end(plain_scene: Scene) -> None:
    silent = plain_scene.run(plain_scene.sleeper())
    with stopped(silent["shim_pid"]):
        ended = plain_scene.remove(silent["id"], force=True)
    assert ended["exit_status"] == 137
