"""``no_shim``: the same service without a process of its own, in the daemon (the seed's NoShim)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import proc
from tests.support.events import Subscriber, of, topics
from tests.support.pipes import Fifo
from tests.support.scene import Scene


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """The usual scene, without shims."""
    scene.options["no_shim"] = True
    return scene


def test_the_daemon_itself_is_the_shim(scene: Scene) -> None:
    task = scene.run(scene.sleeper())
    assert task["shim_pid"] == scene.daemon.pid
    assert scene.api.call("tasks.shim", id=task["id"])["pid"] == scene.daemon.pid


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_exit_status_is_the_programs_own(scene: Scene, status: int) -> None:
    assert scene.lifecycle(scene.shell(f"exit {status}"))["exit_status"] == status


def test_output_is_captured_whole(scene: Scene) -> None:
    done = scene.output("printf out; printf err >&2; exit 3")
    assert (done["stdout"], done["stderr"], done["exit"]["exit_status"]) == (b"out", b"err", 3)


def test_a_life_is_told_in_order(scene: Scene, ears: Subscriber) -> None:
    params = scene.params("/bin/true")
    scene.lifecycle(params)
    heard = topics(of(ears.up_to(scene.daemon.last_seq()), params["id"]))
    assert heard[1:-1] == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def test_killing_init_ends_its_children(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell("sleep 10000 & sleep 10000 & echo ready; wait", host_pids=True, stdio={"stdout": out.uri})
    scene.run(params)
    out.read_until(b"ready\n")
    pids = [one["pid"] for one in scene.api.call("tasks.pids", id=params["id"])["pids"]]
    assert len(pids) == 3
    with proc.pidfds_of(pids) as pidfds:
        scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
        assert scene.wait(params["id"])["exit_status"] == 137
        assert proc.all_ended(pidfds)


def test_a_missing_binary_leaves_nothing(scene: Scene) -> None:
    params = scene.params("/bin/does-not-exist")
    scene.api.refused("invalid_argument", "tasks.run", **params)
    scene.api.refused("not_found", "containers.get", id=params["id"])


def test_many_at_once_keep_their_statuses_apart(scene: Scene) -> None:
    sent = [scene.api.send("tasks.run", **scene.shell(f"exit {n}"), rm=True, wait=True) for n in range(40)]
    assert [scene.api.result(request)["exit"]["exit_status"] for request in sent] == list(range(40))
