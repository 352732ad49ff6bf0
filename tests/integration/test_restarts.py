"""Restart policies: a task that ends is started again as its container says, over the daemon's death, until it is stopped."""

from __future__ import annotations

import os
import signal

import pytest

from actors.client import Client
from tests.support import proc
from tests.support.events import Subscriber, of, topics
from tests.support.scene import Scene
from tests.support.specs import Map

QUICK = 0.01
LIVES = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def restarting(scene: Scene, script: str, policy: str, **more: object) -> Map:
    """The params of a task that is to be started again."""
    return scene.shell(script, restart={"policy": policy, "backoff": QUICK, **more})


def test_a_task_that_fails_is_started_again_so_many_times_and_no_more(scene: Scene, ears: Subscriber) -> None:
    params = restarting(scene, "exit 3", "on-failure", max_retries=2)
    task = str(params["id"])
    scene.run(params)
    ears.until("TaskExit", task, nth=3)
    assert scene.wait(task)["exit_status"] == 3
    assert (scene.get(task)["status"], scene.get(task)["restarts"]) == ("stopped", 2)
    assert topics(of(ears.heard, task)) == ["/containers/create", *LIVES, *LIVES, *LIVES[:3]]
    scene.remove(task)


def test_success_is_no_failure(scene: Scene, ears: Subscriber) -> None:
    params = restarting(scene, "exit 0", "on-failure")
    task = str(params["id"])
    scene.run(params, wait=True)
    scene.remove(task)
    ears.until("ContainerDelete", task)
    assert topics(of(ears.heard, task)).count("/tasks/start") == 1


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_whatever_it_ends_with_it_is_started_again_until_it_is_stopped(
    scene: Scene, ears: Subscriber, policy: str
) -> None:
    params = restarting(scene, "read line; exit 0", policy) | {"stdio": {"stdin": "attach:"}}
    task = str(params["id"])
    scene.run(params)
    for nth in (2, 3):
        scene.api.call("tasks.close_io", id=task, stdin=True)
        ears.until("TaskStart", task, nth=nth)
    assert scene.get(task)["restarts"] == 2
    assert scene.api.call("tasks.stop", id=task, grace=0.2)["exit_status"] in (137, 143)
    assert scene.get(task)["status"] == "stopped"
    scene.remove(task)
    ears.until("ContainerDelete", task)
    assert topics(of(ears.heard, task)).count("/tasks/start") == 3


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_who_is_killed_by_hand_stays_dead(scene: Scene, ears: Subscriber, name: str) -> None:
    params = restarting(scene, "trap 'exit 9' TERM; echo up; sleep 10000 & wait", "always") | {"stdio": {"stdout": "log:"}}
    task = str(params["id"])
    scene.run(params)
    said = scene.api.stream("tasks.logs", id=task, follow=True)
    assert next(one["chunk"]["data"] for one in said if one.get("chunk")) == b"up\n"  # it has its trap by now
    scene.api.call("tasks.kill", id=task, signal=name)
    scene.wait(task)
    scene.remove(task)
    ears.until("ContainerDelete", task)
    assert topics(of(ears.heard, task)).count("/tasks/create") == 1


def test_a_task_that_waits_for_its_next_start_can_be_stopped_and_removed(scene: Scene, ears: Subscriber) -> None:
    params = scene.shell("exit 4", restart={"policy": "always", "backoff": 3600})
    task = str(params["id"])
    scene.run(params)
    ears.until("TaskExit", task)
    assert scene.api.call("tasks.stop", id=task)["exit_status"] == 4
    assert scene.remove(task)["exit_status"] == 4
    again = scene.create({**params, "restart": {"policy": "no"}})
    assert again["restarts"] == 0
    scene.remove(task)


def test_requests_see_the_task_before_or_after_a_restart_and_never_none(scene: Scene, ears: Subscriber) -> None:
    params = restarting(scene, "exit 1", "on-failure", max_retries=8)
    task = str(params["id"])
    scene.run(params)
    seen = 0
    while seen < 8:
        seen = scene.get(task)["restarts"]
        assert [one["id"] for one in scene.api.call("tasks.list")["tasks"] if one["id"] == task] == [task]
    ears.until("TaskExit", task, nth=9)
    scene.remove(task)


def test_a_policy_holds_over_the_death_of_the_daemon(own_scene: Scene) -> None:
    params = restarting(own_scene, "read line; exit 5", "always")
    params["stdio"] = {"stdin": "attach:"}
    task = str(params["id"])
    own_scene.run(params)
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    ears = Subscriber(own_scene.daemon.events)
    own_scene.api.call("tasks.close_io", id=task, stdin=True)
    ears.until("TaskStart", task)
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert (own_scene.get(task)["status"], own_scene.get(task)["restarts"]) == ("running", 1)
    own_scene.api.call("tasks.stop", id=task, grace=0.1)
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert own_scene.get(task)["status"] == "stopped"
    own_scene.remove(task)
    ears.close()


def test_a_task_that_ends_while_no_daemon_lives_is_started_again_by_the_next(own_scene: Scene) -> None:
    params = restarting(own_scene, "sleep 10000", "always")
    task = str(params["id"])
    pid = own_scene.run(params)["pid"]
    seq = own_scene.daemon.replay()[-1]["seq"]
    own_scene.daemon.kill9()
    with proc.pidfds_of([pid]) as pidfds:
        os.kill(pid, signal.SIGKILL)
        assert proc.all_ended(pidfds)
    own_scene.daemon.restart()
    with Client(own_scene.daemon.api) as client:
        assert next(iter(client.events(since=seq, filters=["topic==/tasks/start"]))).event["container_id"] == task
    assert own_scene.get(task)["restarts"] == 1
    own_scene.remove(task, force=True)


def test_a_policy_can_be_changed_while_its_task_runs(scene: Scene, ears: Subscriber) -> None:
    params = scene.shell("read line; exit 2", stdio={"stdin": "attach:"})
    task = str(params["id"])
    scene.run(params)
    scene.api.call("containers.update", id=task, restart={"policy": "on-failure", "max_retries": 1, "backoff": 0.0})
    scene.api.call("tasks.close_io", id=task, stdin=True)
    ears.until("TaskStart", task, nth=2)
    scene.remove(task, force=True)


@pytest.mark.parametrize(
    ("restart", "field"),
    [
        ({"policy": "sometimes"}, "restart.policy"),
        ({"policy": "on-failure", "max_retries": 0}, "restart.max_retries"),
        ({"policy": "always", "backoff": -1.0}, "restart.backoff"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(plain_scene: Scene, restart: Map, field: str) -> None:
    error = plain_scene.api.refused("invalid_argument", "containers.create", **plain_scene.sleeper(restart=restart))
    assert field in error.message


def test_a_policy_and_removal_after_the_exit_contradict_each_other(plain_scene: Scene) -> None:
    params = plain_scene.sleeper(restart={"policy": "always"})
    error = plain_scene.api.refused("invalid_argument", "tasks.run", **params, rm=True)
    assert "restart: rm" in error.message
