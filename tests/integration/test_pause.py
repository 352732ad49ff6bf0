"""Pause, resume, and limits that are changed while a task runs (BEHAVIOURS 13, 18, 42)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.events import Subscriber, of, topics
from tests.support.scene import Scene
from tests.support.specs import Map

LIMITED = {"pids": {"limit": 200}}


def paused(scene: Scene) -> str:
    """The id of a task that is paused."""
    params = limited(scene)
    scene.run(params)
    scene.api.call("tasks.pause", id=params["id"])
    return str(params["id"])


def limited(scene: Scene) -> Map:
    """A sleeper that has a cgroup on every runtime."""
    params = scene.sleeper()
    params["spec"].setdefault("linux", {}).setdefault("resources", {}).update(LIMITED)
    return params


def test_a_paused_task_says_so_and_goes_on_when_resumed(scene: Scene, ears: Subscriber) -> None:
    task = paused(scene)
    assert scene.get(task)["status"] == "paused"
    process = scene.process("/bin/true")
    scene.api.refused("failed_precondition", "tasks.exec", id=task, exec_id="no", process=process)
    scene.api.refused("failed_precondition", "tasks.pause", id=task)
    scene.api.refused("failed_precondition", "tasks.delete", id=task)
    scene.api.call("tasks.resume", id=task)
    assert scene.get(task)["status"] == "running"
    scene.api.refused("failed_precondition", "tasks.resume", id=task)
    scene.exec(task, "yes", "exit 3")
    assert scene.api.call("tasks.wait", id=task, exec_id="yes")["exit_status"] == 3
    scene.remove(task, force=True)
    ears.until("TaskDelete", task, nth=2)
    assert [topic for topic in topics(of(ears.heard, task)) if topic in ("/tasks/paused", "/tasks/resumed")] == [
        "/tasks/paused",
        "/tasks/resumed",
    ]


def test_a_paused_task_dies_of_sigkill(scene: Scene) -> None:
    task = paused(scene)
    scene.api.call("tasks.kill", id=task, signal="SIGKILL")
    assert scene.wait(task)["exit_status"] == 137
    scene.remove(task)


def test_a_paused_task_is_stopped_and_deleted_by_force(scene: Scene) -> None:
    task = paused(scene)
    assert scene.remove(task, force=True)["exit_status"] == 137
    task = paused(scene)
    assert scene.api.call("tasks.stop", id=task, grace=0.2)["exit_status"] in (137, 143)
    scene.remove(task)


def test_a_task_is_paused_still_after_a_restart_of_the_daemon(own_scene: Scene) -> None:
    task = paused(own_scene)
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert own_scene.get(task)["status"] == "paused"
    own_scene.api.call("tasks.resume", id=task)
    assert own_scene.get(task)["status"] == "running"
    own_scene.remove(task, force=True)


def test_a_plain_process_without_a_cgroup_says_why_it_cannot_be_paused(plain_scene: Scene) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    for method, more in {"tasks.pause": {}, "tasks.update": {"resources": LIMITED}}.items():
        error = plain_scene.api.refused("unimplemented", method, id=params["id"], **more)
        assert "linux.cgroupsPath" in error.message
    assert plain_scene.get(params["id"])["status"] == "running"
    plain_scene.remove(params["id"], force=True)


def test_limits_are_changed_while_the_task_runs(scene: Scene) -> None:
    params = limited(scene)
    task = scene.run(params)
    scene.api.call("tasks.update", id=params["id"], resources={"pids": {"limit": 77}})
    (line,) = [one for one in Path(f"/proc/{task['pid']}/cgroup").read_text().splitlines() if ":pids:" in one]
    folder = Path("/sys/fs/cgroup/pids") / line.rpartition(":")[2].lstrip("/")
    assert (folder / "pids.max").read_text().strip() == "77"
    scene.remove(params["id"], force=True)


@pytest.mark.parametrize(
    ("resources", "field"),
    [({}, "resources"), ({"pids": 3}, "resources.pids"), ({"memory": {"limit": "1m"}}, "resources.memory.limit")],
)
def test_bad_limits_name_the_field(plain_scene: Scene, resources: Map, field: str) -> None:
    params = limited(plain_scene)
    plain_scene.run(params)
    assert field in plain_scene.api.refused("invalid_argument", "tasks.update", id=params["id"], resources=resources).message
    plain_scene.remove(params["id"], force=True)
