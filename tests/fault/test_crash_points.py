"""Each named step of create, start, exec, exit, delete, restore and adoption, killed there: nothing is lost, nothing left.

A client runs a task in four steps, and another in one, each request with its key; the process that comes to the point first
dies, the daemon is started again if it was that, and the client goes on as if nothing had happened. A step of a rescue is
come to after another kill, so there two die, one after the other.

All tests of a runtime share a daemon, or rather its followers. ``SHIMYARD_CRASH_PAIRS=n`` tries that many random pairs of
points, in the place of a few, and ``SHIMYARD_SEED`` others than always the same.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import random
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from actors.client import Client
from actors.records import Restart, Runtime, Stdio
from actors.specs import PATH, default_spec, host_rootfs
from shimproc.crash import CHECKPOINT_POINTS, POINTS
from shimproc.errors import NotFound
from tests.fault.test_random_kills import AGAIN, LOG_TAIL, NAMESPACE, check_lives
from tests.support import cgroups, proc
from tests.support.daemon import MARK, Daemon
from tests.support.follow import followed
from tests.support.runtimes import need
from tests.support.sources import sources

SCRIPT = "echo told; exit 7"
SECONDS = 60.0
PAIRS = int(os.environ.get("SHIMYARD_CRASH_PAIRS") or 4)
DICE = random.Random(os.environ.get("SHIMYARD_SEED") or 1)
FIRST = {
    "daemon: task to be taken back": "daemon: started by the shim",
    "daemon: shim heard again": "daemon: exit durable",
    "daemon: undo begun": "daemon: shim forked",
    "daemon: undone": "daemon: intent committed",
    "daemon: bundles swept": "daemon: bundle removed",
    "daemon: loss durable": "shim: init ended",
    "daemon: adoption asked": "shim: exit journaled",
    "daemon: successor heard": "shim: deleted journaled",
    "daemon: adoption durable": "shim: started journaled",
    "forkserver: shim to be followed": "shim: asked to delete",
    "forkserver: successor forked": "shim: let go",
    "forkserver: former shim taken in": "forkserver: successor forked",
    "shim: take-over begun": "shim: init ended",
    "shim: commands settled": "shim: rootfs mounted",
    "shim: create undone": "shim: init made",
    "shim: journal recalled": "shim: output drained",
    "shim: descriptors taken over": "shim: created journaled",
    "shim: taken over": "shim: let go",
}
"""What must have been killed before, for a rescuer to come to the point."""


def route(point: str) -> tuple[str, ...]:
    """The kills that lead to a point, and that at it."""
    return (*route(FIRST[point]), point) if point in FIRST else (point,)


ROUTES = [route(point) for point in POINTS]
RANDOM_PAIRS = DICE.sample(list(itertools.permutations(POINTS, 2)), PAIRS)
RESTARTS = frozenset({"daemon: restart resolved", "daemon: former task deleted", "daemon: task made again"})
"""Points that only a task comes to that is started again."""
AGAIN_AND_AGAIN = ("shim: intent written", "shim: init made", "shim: take-over begun", "forkserver: shim forked")


class Guarded:
    """A daemon whose processes come to armed points; ``token``: of the tasks of one test."""

    def __init__(self, runtime: str, folder: Path) -> None:
        self.runtime = runtime
        self.token = ""
        self._restarts = False
        self._armed = folder / f"armed-{runtime}"
        self._armed.touch()
        self.daemon = Daemon(environment={"SHIMYARD_CRASH": str(self._armed)}).start()

    def arm(self, points: Sequence[str]) -> None:
        """Each once, in this order."""
        self.token = f"t{secrets.token_hex(4)}"
        self._armed.write_text("\n".join(points))
        self._restarts = not RESTARTS.isdisjoint(points)

    def disarm(self) -> list[str]:
        """The points that nobody came to."""
        left = self._armed.read_text().splitlines()
        self._armed.write_text("")
        return left

    def live(self) -> None:
        """Two lives, and what must be true of them."""
        with (
            followed(self.daemon),
            Client(self.daemon.api, namespace=NAMESPACE, patience=SECONDS, timeout=SECONDS) as client,
        ):
            self._steps(client, f"{self.token}-steps")
            since = int(client.health()["events"]["last_seq"])
            done = client.run(["/bin/sh", "-c", SCRIPT], runtime=self.runtime, name=f"{self.token}-run")
            assert (done.returncode, done.stdout) == (7, b"told\n")
            if self._restarts:
                self._start_again(client, f"{self.token}{AGAIN}")
            next(iter(client.events(since=since, filters=["topic==/containers/delete"])))  # one that died may be late with it
            assert client.tasks.list() == []
            assert client.containers.list() == []
        assert not check_lives(self.daemon.replay())

    def _steps(self, client: Client, name: str) -> None:
        plain = self.runtime == "process"
        spec = default_spec(["/bin/sh", "-c", f"read line; {SCRIPT}"], host=plain)
        rootfs = () if plain else host_rootfs()
        stdio = Stdio("attach:", "log:", "log:")
        client.containers.create(name, spec, rootfs=rootfs, runtime=Runtime(self.runtime), stdio=stdio)
        made = client.tasks.create(name)
        assert client.tasks.start(name) == {"pid": made.pid}
        self._exec(client, name)
        with contextlib.suppress(NotFound):  # it was closed, and whoever would have said so was killed
            client.tasks.close_io(name)
        ended = client.tasks.wait(name)
        assert (ended.exit_status, ended.pid, ended.reason) == (7, made.pid, None)
        assert [piece.data for piece in client.tasks.logs(name, follow=True)] == [b"told\n"]
        assert client.tasks.delete(name) == ended
        client.containers.delete(name)

    def _start_again(self, client: Client, name: str) -> None:
        spec = default_spec(["/bin/sh", "-c", SCRIPT], host=True)
        policy = Restart("on-failure", max_retries=1, backoff=0.0)
        client.containers.create(name, spec, runtime=Runtime("process"), restart=policy)
        since = int(client.health()["events"]["last_seq"])
        client.tasks.create(name)
        client.tasks.start(name)
        exits = client.events(since=since, filters=[f"topic==/tasks/exit,event.container_id=={name}"])
        assert [next(exits).event["exit_status"] for _ in range(2)] == [7, 7]
        task = client.tasks.get(name)
        assert (task.restarts, task.status) == (1, "stopped")
        client.tasks.delete(name)
        client.containers.delete(name)

    def _exec(self, client: Client, name: str) -> None:
        process = {"args": ["/bin/sh", "-c", "echo done; exit 5"], "cwd": "/", "env": [f"PATH={PATH}"]}
        added = client.tasks.exec(name, "exec", process, stdio=Stdio("", "log:", "log:"))
        assert (added.id, added.status) == ("exec", "created")
        pid = client.tasks.start(name, exec_id="exec")["pid"]
        ended = client.tasks.wait(name, exec_id="exec")
        assert (ended.exit_status, ended.pid, ended.reason) == (5, pid, None)
        assert [piece.data for piece in client.tasks.logs(name, exec_id="exec", follow=True)] == [b"done\n"]
        assert client.tasks.delete_process(name, "exec") == ended

    def check_nothing_is_left(self) -> None:
        """Of the tasks; daemon and forkserver stay."""
        left = [one for one in proc.belonging_to(self.daemon.folder, MARK) if one.name.startswith("shim:")]
        with proc.pidfds_of([one.pid for one in left]) as pidfds:
            assert proc.all_ended(pidfds), f"still there: {', '.join(map(str, left))}"
        assert not [str(path) for path in self.daemon.state.glob("tasks/*/*")]
        assert not [str(path) for path in self.daemon.root.glob("logs/*/*")]
        assert not proc.mounts_below(self.daemon.folder, self.daemon.pid)
        assert not cgroups.naming([self.token])


@pytest.fixture(scope="module", params=["crun", "process"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Guarded]]:
    """The daemon that the tests share: of a runtime that is a program of its own, and of the one that is built in."""
    folder = tmp_path_factory.mktemp("points")
    shared = [Guarded(need(request.param), folder)]
    try:
        yield shared
    finally:
        shared[0].daemon.destroy()


@pytest.fixture
def guarded(house: list[Guarded], tmp_path: Path) -> Iterator[Guarded]:
    """The shared one; after a failure the next test gets a new one."""
    yield house[0]
    if house[0].token:
        print(f"--- the daemon's log\n{house[0].daemon.log[-LOG_TAIL:]}")
        house[0].daemon.destroy()
        house[0] = Guarded(house[0].runtime, tmp_path)


def go_through(guarded: Guarded, points: Sequence[str]) -> list[str]:
    """Live with these points armed; the ones that nobody came to."""
    guarded.arm(points)
    guarded.live()
    guarded.check_nothing_is_left()
    left = guarded.disarm()
    guarded.token = ""
    return left


@pytest.mark.timeout(120)
@pytest.mark.parametrize("points", ROUTES, ids=" then ".join)
def test_a_kill_right_there_loses_nothing(guarded: Guarded, points: tuple[str, ...]) -> None:
    assert not go_through(guarded, points), "nobody came to the point"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("points", RANDOM_PAIRS, ids=" then ".join)
def test_another_kill_on_top_loses_nothing(guarded: Guarded, points: tuple[str, ...]) -> None:
    assert points[0] not in go_through(guarded, points) or points[0] in FIRST


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", AGAIN_AND_AGAIN)
def test_kills_in_a_row_cost_nothing_but_time(guarded: Guarded, point: str) -> None:
    assert not go_through(guarded, [*route(point)[:-1], *[point] * 8]), "nobody came to the point"


def test_every_point_is_somewhere_once_and_every_one_that_is_somewhere_is_named() -> None:
    calls = [
        node.args[0].value
        for source in sources("actors", "shimproc")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "point"
        if isinstance(node.args[0], ast.Constant)
    ]
    assert sorted(map(str, calls)) == sorted((*POINTS, *CHECKPOINT_POINTS))
