"""A bundle that was removed by hand: its task goes on while its shim does, can always be deleted, and its end is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.integration.test_adoption import forkserver_of, kill
from tests.support import proc
from tests.support.events import Subscriber, check_order, of, topics
from tests.support.scene import Scene

MADE = ["/containers/create", "/tasks/create", "/tasks/start"]
ENDED = ["/tasks/exit", "/tasks/delete", "/containers/delete"]
BY_HAND = ((137, "bundle-lost"), (255, "bundle-lost"), (255, "shim-lost"))


def exit_of(ended: dict[str, Any]) -> tuple[int, str | None]:
    """Its status, and why."""
    return ended["exit_status"], ended.get("reason")


def test_while_its_shim_lives_the_task_goes_on_and_can_be_deleted(scene: Scene) -> None:
    task = scene.run(scene.sleeper())
    shutil.rmtree(task["bundle"])
    assert scene.get(task["id"])["status"] == "running"
    assert task["pid"] in [one["pid"] for one in scene.api.call("tasks.pids", id=task["id"])["pids"]]
    assert exit_of(scene.remove(task["id"], force=True)) == (137, None)


def test_what_has_stopped_keeps_its_status_and_can_be_deleted(scene: Scene) -> None:
    task = scene.run(scene.shell("exit 4"))
    ended = scene.wait(task["id"])
    shutil.rmtree(task["bundle"])
    assert scene.wait(task["id"]) == ended
    assert scene.remove(task["id"]) == ended


def test_the_shim_is_found_again_by_the_next_daemon(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())
    own_scene.daemon.kill9()
    shutil.rmtree(task["bundle"])
    own_scene.daemon.restart()
    own_scene.api.call("tasks.pids", id=task["id"])
    after = own_scene.get(task["id"])
    assert (after["status"], after["shim"], after["shim_pid"]) == ("running", "alive", task["shim_pid"])
    assert exit_of(own_scene.remove(task["id"], force=True)) == (137, None)
    check_order(own_scene.daemon.replay())
    assert topics(of(own_scene.daemon.replay(), task["id"])) == [*MADE, *ENDED]


def test_a_task_whose_shim_is_killed_then_ends_and_says_why(scene: Scene, ears: Subscriber) -> None:
    task = scene.run(scene.shell("sleep 1000 & wait"))
    pids = [one["pid"] for one in scene.api.call("tasks.pids", id=task["id"])["pids"]]
    shutil.rmtree(task["bundle"])
    with proc.pidfds_of(pids) as pidfds:
        kill(task["shim_pid"])
        told = ears.until("TaskExit", task["id"])
        assert proc.all_ended(pidfds)
    ended = scene.wait(task["id"])
    assert exit_of(ended) == exit_of(told["event"]) in BY_HAND
    after = scene.get(task["id"])
    assert (after["status"], after["shim"]) == ("stopped", "lost")
    assert "bundle" in scene.api.refused("failed_precondition", "tasks.shim", id=task["id"]).message
    scene.api.refused("not_found", "tasks.kill", id=task["id"], signal="SIGKILL")
    assert scene.remove(task["id"]) == ended


def test_a_task_that_nobody_can_reach_is_ended_by_the_next_daemon(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.shell("sleep 1000 & wait"))
    own_scene.exec(task["id"], "exec", "sleep 1000")
    pids = [one["pid"] for one in own_scene.api.call("tasks.pids", id=task["id"])["pids"]]
    daemon = own_scene.daemon
    forkserver = forkserver_of(daemon)
    daemon.kill9()
    shutil.rmtree(task["bundle"])
    with proc.pidfds_of([*pids, task["shim_pid"]]) as pidfds:
        kill(forkserver)
        daemon.restart()
        ended = own_scene.wait(task["id"])
        assert proc.all_ended(pidfds)
    assert exit_of(ended) in BY_HAND
    assert own_scene.get(task["id"])["status"] == "stopped"
    assert own_scene.api.call("tasks.wait", id=task["id"], exec_id="exec")["exit_status"] == 255
    daemon.kill9()
    daemon.restart()
    assert own_scene.wait(task["id"]) == ended
    assert own_scene.remove(task["id"]) == ended
    check_order(daemon.replay())
    told = topics(of(daemon.replay(), task["id"]))
    assert told[-5:] == ["/tasks/exit", "/tasks/exit", "/tasks/delete", "/tasks/delete", "/containers/delete"]


def test_what_had_stopped_is_kept_by_the_next_daemon(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.shell("exit 4"))
    ended = own_scene.wait(task["id"])
    own_scene.daemon.kill9()
    shutil.rmtree(task["bundle"])
    kill(task["shim_pid"])
    own_scene.daemon.restart()
    assert own_scene.wait(task["id"]) == ended
    assert own_scene.remove(task["id"]) == ended


def test_a_bundle_that_was_emptied_is_as_good_as_removed(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())
    daemon = own_scene.daemon
    forkserver = forkserver_of(daemon)
    daemon.kill9()
    shutil.rmtree(task["bundle"])
    Path(task["bundle"]).mkdir()
    with proc.pidfds_of([task["pid"], task["shim_pid"]]) as pidfds:
        kill(forkserver)
        daemon.restart()
        ended = own_scene.wait(task["id"])
        assert proc.all_ended(pidfds)
    assert exit_of(ended) in BY_HAND
    assert own_scene.remove(task["id"]) == ended
    check_order(daemon.replay())
