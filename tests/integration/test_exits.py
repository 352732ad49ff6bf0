"""How a task ended is known exactly, at once, and for as long as the task exists (BEHAVIOURS 1-7)."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.events import Subscriber, of, topics
from tests.support.pipes import Fifo
from tests.support.runtimes import NAMES, need
from tests.support.scene import Scene
from tests.support.specs import Image

OWN_SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1, signal.SIGPIPE)
RUNS = 1000
IN_FLIGHT = 16


@pytest.mark.parametrize("status", [0, 1, 7, 126, 127, 128, 143, 254, 255])
def test_the_exit_status_is_the_programs_own(scene: Scene, status: int) -> None:
    ended = scene.lifecycle(scene.shell(f"exit {status}"))
    assert ended["exit_status"] == status
    assert "reason" not in ended or ended["reason"] is None


def test_every_exit_status_from_0_to_255_comes_back(scene: Scene) -> None:
    sent = [scene.api.send("tasks.run", **scene.shell(f"exit {status}"), rm=True, wait=True) for status in range(256)]
    assert [scene.api.result(request)["exit"]["exit_status"] for request in sent] == list(range(256))


@pytest.mark.parametrize("number", OWN_SIGNALS)
def test_death_by_a_signal_is_128_and_its_number(scene: Scene, number: signal.Signals) -> None:
    # In a pid namespace of its own an init ignores its own signals (pid_namespaces(7)), so here it has the host's.
    ended = scene.lifecycle(scene.shell(f"kill -{int(number)} $$; exit 1", host_pids=True))
    assert ended["exit_status"] == 128 + number


def test_the_exit_of_wait_of_delete_and_of_the_task_are_the_same(scene: Scene) -> None:
    params = scene.shell("exit 3")
    scene.run(params)
    waited = scene.wait(params["id"])
    task = scene.get(params["id"])
    deleted = scene.remove(params["id"])
    assert (task["status"], task["exit_status"], task["exited_at"]) == ("stopped", 3, waited["exited_at"])
    assert waited == deleted


def test_wait_answers_at_once_when_the_task_has_stopped_however_often(scene: Scene) -> None:
    params = scene.shell("exit 4")
    scene.run(params)
    first = scene.wait(params["id"])
    assert [scene.wait(params["id"]) for _ in range(3)] == [first] * 3


def test_many_may_wait_for_the_same_exit(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("stdin")
    params = scene.shell("read line; exit 6", stdio={"stdin": stdin.uri})
    scene.run(params)
    waiting = [scene.api.send("tasks.wait", id=params["id"]) for _ in range(20)]
    stdin.open_for_writing().write(b"go\n")
    assert {scene.api.result(request)["exit_status"] for request in waiting} == {6}


def test_wait_on_what_stopped_answers_after_a_restart_of_the_daemon(own_scene: Scene) -> None:
    params = own_scene.shell("exit 5")
    own_scene.run(params)
    before = own_scene.wait(params["id"])
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert own_scene.wait(params["id"]) == before
    assert own_scene.remove(params["id"]) == before


def test_exited_at_is_the_time_of_the_exit(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("stdin")
    params = scene.shell("read line", stdio={"stdin": stdin.uri})
    task = scene.run(params)
    before = time.time_ns()
    stdin.open_for_writing().write(b"go\n")
    ended = scene.wait(params["id"])
    assert task["started_at"] <= before <= ended["exited_at"] <= time.time_ns()


def test_a_process_has_exactly_one_exit_event(scene: Scene, ears: Subscriber) -> None:
    params = scene.shell("exit 9")
    ended = scene.lifecycle(params)
    heard = of(ears.up_to(scene.daemon.last_seq()), params["id"])
    exits = [one["event"] for one in heard if one["type"] == "TaskExit"]
    assert len(exits) == 1
    assert exits[0]["exit_status"] == 9
    assert exits[0]["id"] == exits[0]["container_id"] == params["id"]
    assert (exits[0]["pid"], exits[0]["exited_at"]) == (ended["pid"], ended["exited_at"])


def test_stdout_of_a_process_that_ends_at_once_is_complete_with_a_last_line_without_newline(scene: Scene) -> None:
    done = scene.output("printf 'first\\nlast'")
    assert done["stdout"] == b"first\nlast"


@pytest.mark.parametrize("to", ["fifo", "file"])
def test_all_that_was_written_before_the_exit_is_there_after_it(
    scene: Scene, tmp_path: Path, fifo: Callable[[str], Fifo], to: str
) -> None:
    size = 300_000
    path = tmp_path / "out"
    pipe = fifo("pipe").open_for_reading()
    uri = pipe.uri if to == "fifo" else f"file://{path}"
    params = scene.shell(f"head -c {size} /dev/zero; printf end", stdio={"stdout": uri})
    scene.run(params)
    if to == "fifo":
        assert pipe.read_to_end() == bytes(size) + b"end"
        scene.wait(params["id"])
    else:
        scene.wait(params["id"])
        assert path.read_bytes() == bytes(size) + b"end"


@pytest.mark.timeout(240)
def test_a_thousand_runs_of_true_each_create_start_exit_delete_in_that_order(daemon: Daemon, image: Image) -> None:
    scenes = [Scene(daemon, image, need(name)) for name in NAMES]
    ears = daemon.subscribe()
    since = ears.seq
    ids = []
    in_flight: list[tuple[Scene, int]] = []
    for scene, _ in zip(itertools.cycle(scenes), range(RUNS), strict=False):
        if len(in_flight) == IN_FLIGHT:
            owner, request = in_flight.pop(0)
            assert owner.api.result(request)["exit"]["exit_status"] == 0
        params = scene.params("/bin/true")
        ids.append(params["id"])
        in_flight.append((scene, scene.api.send("tasks.run", **params, rm=True, wait=True)))
    for owner, request in in_flight:
        assert owner.api.result(request)["exit"]["exit_status"] == 0
    for scene in scenes:
        scene.clear()
    heard = ears.up_to(daemon.last_seq())
    lives: dict[str, list[str]] = {one: [] for one in ids}
    for one in heard:
        if one["type"].startswith("Task"):
            lives[one["event"]["container_id"]].append(one["topic"])
    assert set(map(tuple, lives.values())) == {("/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete")}
    assert [one["seq"] for one in heard] == list(range(since + 1, ears.seq + 1))
    assert topics(daemon.replay(since)) == topics(heard)
