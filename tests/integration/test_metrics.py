"""``tasks.metrics``: what a task uses, by its cgroup, or summed over its processes where it has none (BEHAVIOURS 43)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.support.pipes import Fifo
from tests.support.scene import Scene
from tests.support.specs import Map

MEMORY, PIDS = 64 << 20, 60
SPIN = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done"
"""Many tens of milliseconds of CPU."""
ENOUGH_NS = 20_000_000


def limited(params: Map) -> Map:
    """With a cgroup on every runtime."""
    params["spec"].setdefault("linux", {}).setdefault("resources", {}).update(
        {"memory": {"limit": MEMORY}, "pids": {"limit": PIDS}}
    )
    return params


def metrics(scene: Scene, task_id: str) -> Any:
    """Of a task."""
    return scene.api.call("tasks.metrics", id=task_id)


def test_what_a_task_uses_is_told_with_its_limits(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = limited(scene.shell(f"{SPIN}; echo spun; sleep 10000", stdio={"stdout": out.uri}))
    before = time.time_ns()
    scene.run(params)
    out.read_until(b"spun")
    found = metrics(scene, params["id"])
    assert found.keys() == {"timestamp", "cpu", "memory", "pids", "io"}
    assert before < found["timestamp"] < time.time_ns()
    cpu, memory, pids = found["cpu"], found["memory"], found["pids"]
    assert cpu["usage_ns"] > ENOUGH_NS
    assert 0 <= cpu["user_ns"] + cpu["system_ns"] < 10 * cpu["usage_ns"]
    assert 0 < memory["usage"] <= memory["peak"] <= memory["limit"] == MEMORY
    assert memory["oom_kills"] == 0
    assert 1 <= pids["current"] <= 2
    assert pids["limit"] == PIDS
    assert found["io"].keys() == {"read_bytes", "write_bytes"}
    scene.remove(params["id"], force=True)


def test_limits_that_are_not_set_are_null(scene: Scene) -> None:
    scene.run(params := scene.sleeper())
    found = metrics(scene, params["id"])
    assert (found["memory"]["limit"], found["pids"]["limit"]) == (None, None)
    assert found["memory"]["usage"] > 0
    assert found["pids"]["current"] >= 1
    scene.remove(params["id"], force=True)


def test_they_are_told_of_a_created_and_a_paused_task_and_not_of_one_that_has_stopped(scene: Scene) -> None:
    task = str(scene.create(limited(scene.sleeper()))["id"])
    assert metrics(scene, task)["pids"]["current"] >= 1
    scene.api.call("tasks.start", id=task)
    scene.api.call("tasks.pause", id=task)
    assert metrics(scene, task)["memory"]["usage"] > 0
    scene.api.call("tasks.kill", id=task, signal="SIGKILL")
    scene.wait(task)
    error = scene.api.refused("failed_precondition", "tasks.metrics", id=task)
    assert error.message == "cannot read the metrics of a stopped task"
    scene.remove(task)
    scene.api.refused("not_found", "tasks.metrics", id=task)


def test_of_a_process_without_a_cgroup_the_whole_tree_counts_also_what_has_ended(
    plain_scene: Scene, fifo: Callable[[str], Fifo]
) -> None:
    """A child that was waited for, an orphan that the shim has reaped, and what runs."""
    stdin, out = fifo("in"), fifo("out").open_for_reading()
    waited, orphan = f"sh -c '{SPIN}'", f"sh -c '({SPIN}) &' | cat"
    script = f"{waited}; echo waited; read go; {orphan}; echo reaped; sleep 10000; true"
    plain_scene.run(params := plain_scene.shell(script, stdio={"stdin": stdin.uri, "stdout": out.uri}))
    out.read_until(b"waited")
    before = metrics(plain_scene, params["id"])["cpu"]
    stdin.open_for_writing().write(b"go\n")
    out.read_until(b"reaped")
    found = metrics(plain_scene, params["id"])
    cpu, memory = found["cpu"], found["memory"]
    assert before["usage_ns"] > ENOUGH_NS
    assert cpu["usage_ns"] == cpu["user_ns"] + cpu["system_ns"] > before["usage_ns"] + ENOUGH_NS
    assert memory.pop("usage") > 0
    assert memory == {"peak": None, "limit": None, "oom_kills": None}
    assert found["pids"]["current"] in (1, 2)
    assert found["pids"]["limit"] is None
    assert found["io"]["read_bytes"] >= 0
    plain_scene.remove(params["id"], force=True)


def test_they_are_told_while_another_shim_takes_over(scene: Scene) -> None:
    task = scene.run(params := limited(scene.sleeper()))
    before = metrics(scene, params["id"])
    os.kill(task["shim_pid"], signal.SIGKILL)
    after = metrics(scene, params["id"])
    assert after["cpu"]["usage_ns"] >= before["cpu"]["usage_ns"] > 0
    assert after["memory"]["limit"] == MEMORY
    scene.remove(params["id"], force=True)
