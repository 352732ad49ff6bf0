"""Each named step of a checkpoint, and of restoring from one, killed there: one checkpoint, one event, one answer, nothing left.

A client checkpoints a task twice, at the second time with its end, and has another go on from there, each request with its
key; whoever comes to the point first dies (``tests.fault.test_crash_points``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.client import Client
from actors.records import Runtime, Stdio
from actors.specs import default_spec, host_rootfs
from shimproc.crash import CHECKPOINT_POINTS
from shimproc.errors import NotFound
from tests.fault.test_crash_points import SCRIPT, SECONDS, Guarded, go_through
from tests.fault.test_random_kills import LOG_TAIL, NAMESPACE
from tests.support.events import check_order, of, topics
from tests.support.follow import followed
from tests.support.runtimes import need_criu

ROUTES = (
    (  # not begun, and undone by two successors; whole, and not told; with exit told, and not answered; not told to be restored
        "shim: checkpoint intended",
        "shim: checkpoint finished",
        "shim: checkpointed by the runtime",
        "shim: checkpoint journaled",
        "shim: restored by the runtime",
    ),
    (  # answered by the next daemon; with exit whole, and told by the second successor; told to be restored, and not answered
        "daemon: checkpointed by the shim",
        "shim: checkpointed by the runtime",
        "shim: checkpoint finished",
        "shim: restored journaled",
    ),
    (  # the same left running; with exit not begun, though the log of the one before is there; told, and not answered; restored,
        # and taken over by the second successor
        "shim: checkpointed by the runtime",
        "shim: checkpoint finished",
        "shim: checkpoint intended",
        "daemon: checkpointed by the shim",
        "shim: restored by the runtime",
        "shim: take-over begun",
    ),
)
"""A life comes to every step of a checkpoint twice, the second time with exit; so each route kills many, one after the other."""


class Restored(Guarded):
    """A daemon whose task is checkpointed, and restored."""

    folder: Path

    def live(self) -> None:
        """One task, then another one that goes on with it."""
        with (
            followed(self.daemon),
            Client(self.daemon.api, namespace=NAMESPACE, patience=SECONDS, timeout=SECONDS) as client,
        ):
            since = int(client.health()["events"]["last_seq"])
            self._steps(client, self.token)
            assert client.tasks.list() == []
        heard = self.daemon.replay(since)
        check_order(heard)
        lived = [topic.removeprefix("/tasks/") for topic in topics(of(heard, self.token)) if "/tasks/" in topic]
        assert [kind for kind in lived if not kind.startswith("shim-")] == [
            *("create", "start", "checkpointed", "checkpointed", "exit", "delete"),
            *("create", "start", "exit", "delete"),
        ]

    def _steps(self, client: Client, name: str) -> None:
        spec = default_spec(["/bin/sh", "-c", f"read line; {SCRIPT}"])
        stdio = Stdio("attach:", "log:", "log:")
        client.containers.create(name, spec, rootfs=host_rootfs(), runtime=Runtime(self.runtime), stdio=stdio)
        made = client.tasks.create(name)
        client.tasks.start(name)
        first, second = str(self.folder / f"{name}-1"), str(self.folder / f"{name}-2")
        client.tasks.checkpoint(name, first)
        assert client.tasks.get(name).status == "running"
        client.tasks.checkpoint(name, second, exit=True)
        ended = client.tasks.wait(name)
        assert (ended.exit_status, ended.pid, ended.reason) == (137, made.pid, "checkpoint")
        assert client.tasks.delete(name) == ended
        assert client.tasks.create(name, checkpoint=second).pid == 0
        pid = client.tasks.start(name)["pid"]
        with contextlib.suppress(NotFound):  # it was closed, and whoever would have said so was killed
            client.tasks.close_io(name)
        ended = client.tasks.wait(name)
        assert (ended.exit_status, ended.pid, ended.reason) == (7, pid, None)
        assert [piece.data for piece in client.tasks.logs(name, follow=True)] == [b"told\n"]
        assert client.tasks.delete(name) == ended
        client.containers.delete(name)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Restored]]:
    """The daemon that the tests share."""
    folder = tmp_path_factory.mktemp("points")
    shared = [Restored(need_criu(), folder)]
    try:
        yield shared
    finally:
        shared[0].daemon.destroy()


@pytest.fixture
def restored(house: list[Restored], tmp_path: Path) -> Iterator[Restored]:
    """The shared one; after a failure the next test gets a new one."""
    house[0].folder = tmp_path
    yield house[0]
    if house[0].token:
        print(f"--- the daemon's log\n{house[0].daemon.log[-LOG_TAIL:]}")
        house[0].daemon.destroy()
        house[0] = Restored(house[0].runtime, tmp_path)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("points", ROUTES, ids=["shims", "daemon and shims", "shims and daemon"])
def test_kills_right_there_cost_no_checkpoint(restored: Restored, points: tuple[str, ...]) -> None:
    assert not go_through(restored, points), "nobody came to the point"


def test_every_point_of_a_checkpoint_is_on_a_route() -> None:
    assert {point for route in ROUTES for point in route} >= set(CHECKPOINT_POINTS)
