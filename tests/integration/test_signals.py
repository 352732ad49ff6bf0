"""Signals reach whom they should, and what is left of a container dies with its init (BEHAVIOURS 9-12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.pipes import Fifo
from tests.support.scene import Scene

FAMILY = """
trap 'echo init' TERM
for i in 1 2; do
  sh -c 'trap "echo child; exit" TERM; echo ready; while :; do sleep 1000 & wait; done' &
done
echo ready
wait; wait; wait
exit 9
"""
PARENT = "sleep 10000 & sleep 10000 & echo ready; wait"


def test_kill_wait_delete_and_a_second_kill_is_not_found(scene: Scene) -> None:
    params = scene.sleeper()
    scene.run(params)
    scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    assert scene.wait(params["id"])["exit_status"] == 137
    scene.api.refused("not_found", "tasks.kill", id=params["id"], signal="SIGKILL")
    assert scene.remove(params["id"])["exit_status"] == 137
    scene.api.refused("not_found", "tasks.kill", id=params["id"], signal="SIGKILL")


@pytest.mark.parametrize("name", [10, "10", "SIGUSR1", "USR1"])
def test_a_signal_may_be_named_or_numbered(scene: Scene, fifo: Callable[[str], Fifo], name: int | str) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell(
        "trap 'exit 33' USR1; echo ready; while :; do sleep 1000 & wait; done", stdio={"stdout": out.uri}
    )
    scene.run(params)
    out.read_until(b"ready\n")
    scene.api.call("tasks.kill", id=params["id"], signal=name)
    assert scene.wait(params["id"])["exit_status"] == 33


@pytest.mark.parametrize("name", ["SIGNONSENSE", 0, 65, -1, 1.5])
def test_what_is_no_signal_is_refused_by_its_name(plain_scene: Scene, name: object) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    error = plain_scene.api.refused("invalid_argument", "tasks.kill", id=params["id"], signal=name)
    assert "signal" in error.message
    assert plain_scene.get(params["id"])["status"] == "running"


def test_kill_all_reaches_every_process_of_the_container(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell(FAMILY, stdio={"stdout": out.uri})
    scene.run(params)
    out.read_until(b"ready\n", times=3)
    scene.api.call("tasks.kill", id=params["id"], signal="SIGTERM", all=True)
    told = out.read_to_end().decode().split()
    assert sorted(told) == ["child", "child", "init", "ready", "ready", "ready"]
    assert scene.wait(params["id"])["exit_status"] == 9


def test_kill_without_all_reaches_init_alone(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    script = FAMILY.replace("wait; wait; wait\nexit 9", "while :; do wait; done")
    params = scene.shell(script, stdio={"stdout": out.uri})
    scene.run(params)
    out.read_until(b"ready\n", times=3)
    scene.api.call("tasks.kill", id=params["id"], signal="SIGTERM")
    out.read_until(b"init\n")
    assert b"child" not in out.seen
    scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    assert scene.wait(params["id"])["exit_status"] == 137


@pytest.mark.parametrize("host_pids", [False, True], ids=["own pid namespace", "the host's"])
def test_killing_init_ends_its_children(scene: Scene, fifo: Callable[[str], Fifo], *, host_pids: bool) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell(PARENT, host_pids=host_pids, stdio={"stdout": out.uri})
    scene.run(params)
    out.read_until(b"ready\n")
    pids = [one["pid"] for one in scene.api.call("tasks.pids", id=params["id"])["pids"]]
    assert len(pids) == 3
    with proc.pidfds_of(pids) as pidfds:
        scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
        assert scene.wait(params["id"])["exit_status"] == 137
        assert proc.all_ended(pidfds)


@pytest.mark.parametrize("host_pids", [False, True], ids=["own pid namespace", "the host's"])
def test_an_init_that_ends_by_itself_takes_its_children_with_it(
    scene: Scene, fifo: Callable[[str], Fifo], *, host_pids: bool
) -> None:
    out, stdin = fifo("out").open_for_reading(), fifo("in")
    stdio = {"stdin": stdin.uri, "stdout": out.uri}
    params = scene.shell("sleep 10000 & echo ready; read line; exit 3", host_pids=host_pids, stdio=stdio)
    scene.run(params)
    out.read_until(b"ready\n")
    pids = [one["pid"] for one in scene.api.call("tasks.pids", id=params["id"])["pids"]]
    with proc.pidfds_of(pids) as pidfds:
        stdin.open_for_writing().write(b"go\n")
        assert scene.wait(params["id"])["exit_status"] == 3
        assert proc.all_ended(pidfds)


def test_delete_of_a_running_task_is_refused_and_harms_nothing(scene: Scene) -> None:
    params = scene.sleeper()
    task = scene.run(params)
    scene.api.refused("failed_precondition", "tasks.delete", id=params["id"])
    scene.api.refused("failed_precondition", "containers.delete", id=params["id"])
    assert scene.get(params["id"])["status"] == "running"
    assert Path(f"/proc/{task['pid']}").exists()


def test_forced_delete_of_a_running_task_kills_it_first(scene: Scene) -> None:
    params = scene.sleeper()
    task = scene.run(params)
    with proc.pidfds_of([task["pid"]]) as pidfds:
        ended = scene.remove(params["id"], force=True)
        assert (ended["exit_status"], ended["pid"]) == (137, task["pid"])
        assert proc.all_ended(pidfds)
    scene.api.refused("not_found", "tasks.get", id=params["id"])


@pytest.mark.parametrize("force", [False, True])
def test_a_created_task_can_be_deleted(scene: Scene, *, force: bool) -> None:
    params = scene.sleeper()
    task = scene.create(params)
    with proc.pidfds_of([task["pid"]]) as pidfds:
        scene.remove(params["id"], force=force)
        assert proc.all_ended(pidfds)


def test_forced_delete_of_a_stopped_task_is_a_delete(scene: Scene) -> None:
    params = scene.shell("exit 8")
    scene.run(params)
    scene.wait(params["id"])
    assert scene.remove(params["id"], force=True)["exit_status"] == 8


def test_stop_asks_with_its_signal_and_answers_with_the_exit(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell(
        "trap 'exit 21' TERM; echo ready; while :; do sleep 1000 & wait; done", stdio={"stdout": out.uri}
    )
    scene.run(params)
    out.read_until(b"ready\n")
    assert scene.api.call("tasks.stop", id=params["id"])["exit_status"] == 21


def test_stop_insists_with_sigkill_after_the_grace(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell("trap '' TERM; echo ready; while :; do sleep 1000; done", stdio={"stdout": out.uri})
    scene.run(params)
    out.read_until(b"ready\n")
    assert scene.api.call("tasks.stop", id=params["id"], grace=0.2)["exit_status"] == 137


@pytest.mark.parametrize("grace", [-1, -0.5, math.nan, math.inf])
def test_a_grace_that_is_no_time_is_refused_and_the_task_runs_on(plain_scene: Scene, grace: float) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    error = plain_scene.api.refused("invalid_argument", "tasks.stop", id=params["id"], grace=grace)
    assert "grace" in error.message
    assert plain_scene.get(params["id"])["status"] == "running"


def test_a_task_is_stopped_at_its_timeout_and_the_exit_says_so(scene: Scene) -> None:
    params = scene.sleeper(timeout=0.3, stop={"signal": "SIGKILL", "grace": 1.0})
    scene.run(params)
    ended = scene.wait(params["id"])
    assert (ended["exit_status"], ended["reason"]) == (137, "timeout")
