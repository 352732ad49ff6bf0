"""Many lives, while processes are killed: what is there before is there after, and no more.

Small here, so that every run has it. ``SHIMYARD_SOAK=20000`` is the number of lives of the long run, ``SHIMYARD_SOAK_TASKS=300``
and ``SHIMYARD_SOAK_KILLS=50`` how many tasks run through how many deaths of their daemon.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.client import Client
from actors.records import Runtime, Stdio
from actors.specs import default_spec, host_rootfs
from tests.fault.test_random_kills import CLIENTS, LOG_TAIL, NAMESPACE, PATIENCE, SEED, Killer
from tests.support import gauges, proc
from tests.support.daemon import MARK, Daemon
from tests.support.gauges import Gauges
from tests.support.leaks import SETTLE_SECONDS
from tests.support.runtimes import need

LIVES = int(os.environ.get("SHIMYARD_SOAK") or 120)
TASKS = int(os.environ.get("SHIMYARD_SOAK_TASKS") or 40)
KILLS = int(os.environ.get("SHIMYARD_SOAK_KILLS") or 5)
KEPT = 1000
BOUNDED = f"[events]\nkeep = {KEPT}\n"
"""So that what may grow has reached its bound soon."""
MEMORY = (3 << 20) + LIVES * 1024
"""Bytes that an allocator may hold more of at one moment than at another; and the key of each life is kept for ten minutes."""
SECONDS = 120 + LIVES / 5 + TASKS * KILLS / 20


DISK = (2 << 20) + LIVES * 1024
"""The same of files: the write-ahead log, and each life's key."""


@pytest.fixture
def yard() -> Iterator[Daemon]:
    """A daemon of which nothing may be left but itself."""
    daemon = Daemon().configured(BOUNDED)
    try:
        yield daemon.start()
        assert not [str(path) for path in daemon.state.glob("tasks/*/*")]
        assert not [str(path) for path in daemon.root.glob("logs/*/*")]
        left = [one for one in proc.belonging_to(daemon.folder, MARK) if one.name.startswith("shim:")]
        with proc.pidfds_of([one.pid for one in left]) as pidfds:
            assert proc.all_ended(pidfds), f"still there: {', '.join(map(str, left))}"
        assert not proc.mounts_below(daemon.folder, daemon.pid)
    finally:
        print(f"--- the daemon's log\n{daemon.log[-LOG_TAIL:]}")  # shown if the test fails
        daemon.destroy()


def lives(daemon: Daemon, count: int, first: int) -> list[str]:
    """So many tasks of all runtimes, ``CLIENTS`` at a time; what was wrong."""
    runtimes = [need(name) for name in ("crun", "runc", "process")]
    with Client(daemon.api, namespace=NAMESPACE, patience=PATIENCE, timeout=PATIENCE * 2) as client:
        lock = threading.local()

        def live(number: int) -> str:
            own = getattr(lock, "client", None)
            if own is None:
                own = lock.client = Client(daemon.api, namespace=NAMESPACE, patience=PATIENCE, timeout=PATIENCE * 2)
                clients.append(own)
            status = number % 256
            done = own.run(["/bin/sh", "-c", f"exit {status}"], runtime=runtimes[number % 3], name=f"life-{number}")
            return "" if done.returncode == status else f"life-{number}: {done.returncode} for {status}"

        clients: list[Client] = []
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                wrong = [told for told in pool.map(live, range(first, first + count)) if told]
        finally:
            for one in clients:
                one.close()
        assert client.tasks.list() == []
    return wrong


class Disturbed:
    """While it lasts, somebody is killed again and again."""

    def __init__(self, daemon: Daemon, kinds: list[str]) -> None:
        killer = Killer(daemon)
        self._deeds = [getattr(killer, kind) for kind in kinds]
        self._dice = random.Random(SEED)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def _kill(self) -> None:
        while not self._over.wait(self._dice.uniform(0.2, 0.6)):
            self._dice.choice(self._deeds)()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def forkserver_of(daemon: Daemon) -> int:
    """Its pid."""
    return next(one.pid for one in proc.belonging_to(daemon.folder, MARK) if one.name == "shim-forkserver")


def settled(daemon: Daemon, grown: Callable[[], list[str]]) -> list[str]:
    """What has grown, once the daemon has let go of clients that have gone: that is told by no event."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := grown()) and time.monotonic() < deadline:
        daemon.health()
    return left


@pytest.mark.timeout(SECONDS)
def test_daemon_and_forkserver_hold_no_more_after_many_lives_whose_shims_are_killed(yard: Daemon) -> None:
    with Disturbed(yard, ["shim"]):
        wrong = lives(yard, LIVES // 2, 0)
    processes = {"daemon": yard.pid, "forkserver": forkserver_of(yard)}
    before = {name: Gauges.of(pid) for name, pid in processes.items()}
    disk = gauges.size_of(yard.folder)
    with Disturbed(yard, ["shim"]):
        wrong += lives(yard, LIVES, LIVES)
    assert not wrong, f"seed {SEED}: {wrong}"
    assert {"daemon": yard.pid, "forkserver": forkserver_of(yard)} == processes
    assert not settled(yard, lambda: Gauges.of(yard.pid).grown(before["daemon"], MEMORY))
    assert not Gauges.of(processes["forkserver"]).grown(before["forkserver"], MEMORY)
    assert gauges.size_of(yard.folder) < disk + DISK


@pytest.mark.timeout(SECONDS)
def test_nothing_is_left_and_every_status_is_true_whoever_is_killed(yard: Daemon) -> None:
    with Disturbed(yard, ["daemon", "shim", "forkserver"]):
        wrong = lives(yard, LIVES, 0)
    assert not wrong, f"seed {SEED}: {wrong}"


@pytest.mark.timeout(SECONDS)
def test_all_tasks_run_on_while_their_daemon_is_killed_again_and_again(yard: Daemon) -> None:
    runtimes = [need(name) for name in ("crun", "runc", "process")]
    with Client(yard.api, namespace=NAMESPACE, patience=PATIENCE, timeout=PATIENCE * 2) as client:
        pids = {}
        for number in range(TASKS):
            runtime = runtimes[number % 3]
            spec = default_spec(["/bin/sh", "-c", f"read line; exit {number % 256}"], host=runtime == "process")
            rootfs = () if runtime == "process" else host_rootfs()
            stdio = Stdio("attach:")
            task = client.tasks.run(f"task-{number}", spec, rootfs=rootfs, runtime=Runtime(runtime), stdio=stdio)
            pids[task.id] = task.pid
        dice = random.Random(SEED)
        pause = threading.Event()
        for _ in range(KILLS):
            yard.kill9()
            yard.restart()
            pause.wait(dice.uniform(0, 0.3))
        assert {task.id: task.pid for task in client.tasks.list() if task.status == "running"} == pids
        for number in range(TASKS):
            name = f"task-{number}"
            client.tasks.close_io(name)
            assert client.tasks.wait(name).exit_status == number % 256
            client.tasks.delete(name)
            client.containers.delete(name)
