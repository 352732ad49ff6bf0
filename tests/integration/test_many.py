"""Many tasks at once: each ends with its own status, and nothing is left of any (BEHAVIOUR 47, in small)."""

from __future__ import annotations

import pytest

from tests.support.events import Subscriber
from tests.support.scene import Scene

TASKS = 100


@pytest.mark.timeout(120)
def test_a_hundred_short_tasks_at_once_each_end_with_their_own_status(scene: Scene, ears: Subscriber) -> None:
    made = [scene.shell(f"exit {number}") for number in range(TASKS)]
    sent = [scene.api.send("tasks.run", **params, rm=True, wait=True) for params in made]
    assert [scene.api.result(request)["exit"]["exit_status"] for request in sent] == list(range(TASKS))
    heard = ears.up_to(scene.daemon.last_seq())
    told = {one["event"]["id"]: one["event"]["exit_status"] for one in heard if one["type"] == "TaskExit"}
    assert [told[params["id"]] for params in made] == list(range(TASKS))
    assert sum(one["type"] == "TaskDelete" for one in heard) == TASKS


@pytest.mark.timeout(120)
def test_a_hundred_running_at_once_are_all_listed_killed_and_removed(scene: Scene) -> None:
    made = [scene.sleeper() for _ in range(TASKS)]
    sent = [scene.api.send("tasks.run", **params) for params in made]
    tasks = [scene.api.result(request, seconds=60) for request in sent]
    assert len({task["pid"] for task in tasks}) == len({task["shim_pid"] for task in tasks}) == TASKS
    listed = scene.api.call("tasks.list")["tasks"]
    assert sorted(task["id"] for task in listed) == sorted(params["id"] for params in made)
    assert {task["status"] for task in listed} == {"running"}
    sent = [scene.api.send("tasks.delete", id=task["id"], force=True) for task in tasks]
    assert {scene.api.result(request, seconds=60)["exit_status"] for request in sent} == {137}
    assert scene.api.call("tasks.list")["tasks"] == []


def test_a_hundred_failures_at_once_leave_nothing(scene: Scene) -> None:
    sent = [scene.api.send("tasks.run", **scene.params("/bin/does-not-exist"), rm=True) for _ in range(TASKS)]
    codes = {scene.api.reply(request)["error"]["code"] for request in sent}
    assert codes == {"invalid_argument"}
    assert scene.api.call("containers.list")["containers"] == []
