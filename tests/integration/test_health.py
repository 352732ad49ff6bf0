"""Health checks: a probe inside the task, shown in the task and told where its status changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.events import Subscriber, of
from tests.support.scene import Scene
from tests.support.specs import Map

OFTEN = 0.05


def probed(scene: Scene, script: str, **more: object) -> Map:
    """The params of a sleeper with this probe."""
    return scene.sleeper(health={"args": ["/bin/sh", "-c", script], "interval": OFTEN, "retries": 2, **more})


def changes(ears: Subscriber, task: str) -> list[str]:
    """The statuses that were told."""
    return [str(one["event"]["status"]) for one in of(ears.heard, task) if one["type"] == "TaskHealth"]


def test_a_task_is_starting_then_healthy_and_its_probes_leave_nothing(scene: Scene, ears: Subscriber) -> None:
    params = probed(scene, "exit 0")
    task = str(params["id"])
    scene.run(params)
    assert ears.until("TaskHealth", task)["event"]["status"] == "healthy"
    health = scene.get(task)["health"]
    assert (health["status"], health["failing_streak"], health["exit_status"]) == ("healthy", 0, 0)
    ears.until("TaskExit", task, nth=3)
    assert changes(ears, task) == ["healthy"]  # told where it changes, and only there
    scene.api.call("tasks.stop", id=task, grace=0.2)
    scene.remove(task)


def test_so_many_failures_in_a_row_are_unhealthy_and_a_success_is_health_again(
    scene: Scene, ears: Subscriber, tmp_path: Path
) -> None:
    params = probed(scene, 'test "$(umask)" = 0022 && test -e /proc/1/cwd/tmp/never || exit 4')
    task = str(params["id"])
    scene.run(params)
    told = ears.until("TaskHealth", task)["event"]
    assert (told["status"], told["failing_streak"], told["exit_status"]) == ("unhealthy", 2, 4)
    assert scene.get(task)["status"] == "running"
    scene.remove(task, force=True)


def test_a_probe_that_does_not_end_in_time_is_killed_and_has_failed(scene: Scene, ears: Subscriber) -> None:
    params = probed(scene, "sleep 1000", timeout=0.1, retries=1)
    task = str(params["id"])
    scene.run(params)
    told = ears.until("TaskHealth", task)["event"]
    assert (told["status"], told["exit_status"]) == ("unhealthy", None)
    assert "0.1 seconds" in told["message"]
    scene.remove(task, force=True)


def test_a_probe_that_cannot_be_run_has_failed_and_says_why(scene: Scene, ears: Subscriber) -> None:
    params = scene.sleeper(health={"args": ["/no/such/probe"], "interval": OFTEN, "retries": 1})
    task = str(params["id"])
    scene.run(params)
    told = ears.until("TaskHealth", task)["event"]
    assert told["status"] == "unhealthy"
    assert "/no/such/probe" in str(told["message"])
    scene.remove(task, force=True)


def test_failures_do_not_count_while_the_task_is_still_to_start_up(scene: Scene, ears: Subscriber) -> None:
    params = probed(scene, "exit 1", retries=1, start_period=3600.0)
    task = str(params["id"])
    scene.run(params)
    ears.until("TaskExit", task, nth=2)
    health = scene.get(task)["health"]
    assert (health["status"], health["failing_streak"]) == ("starting", 0)
    scene.remove(task, force=True)
    assert changes(ears, task) == []


def test_health_goes_on_over_the_death_of_the_daemon_and_no_probe_is_left(own_scene: Scene) -> None:
    params = probed(own_scene, "sleep 1000", timeout=3600.0)
    task = str(params["id"])
    own_scene.run(params)
    ears = Subscriber(own_scene.daemon.events)
    ears.until("TaskExecStarted", task)
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    again = Subscriber(own_scene.daemon.events)
    assert again.until("TaskExit", task)["event"]["exit_status"] == 137  # the probe that nobody waited for any more
    assert own_scene.get(task)["health"]["status"] == "starting"
    own_scene.remove(task, force=True)
    ears.close()
    again.close()


@pytest.mark.parametrize(
    ("health", "field"),
    [
        ({"args": []}, "health.args"),
        ({"args": ["/bin/true"], "interval": 0.0}, "health.interval"),
        ({"args": ["/bin/true"], "timeout": -1.0}, "health.timeout"),
        ({"args": ["/bin/true"], "retries": 0}, "health.retries"),
        ({"args": ["/bin/true"], "start_period": float("nan")}, "health.start_period"),
    ],
)
def test_a_probe_that_makes_no_sense_is_refused_by_name(plain_scene: Scene, health: Map, field: str) -> None:
    error = plain_scene.api.refused("invalid_argument", "containers.create", **plain_scene.sleeper(health=health))
    assert field in error.message
