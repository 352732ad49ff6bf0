"""The processes of the product: daemon, forkserver and shims, each its real code on a loop of the simulation's."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

import pykka
from pykka.messages import _ActorStop

from actors.daemon import Daemon
from actors.disk import DiskActor
from actors.dispatch import TurnOver
from actors.store.actor import Store
from shimproc import forkserver, shim
from shimproc.door import listening
from shimproc.forkserver import ForkServer
from shimproc.messages import Fork
from shimproc.process.estate import Estate
from tests.simulation.kernel import Killed, Process
from tests.simulation.loop import SimLoop
from tests.simulation.sockets import SimSocket
from tests.simulation.stage import STAGE


class ThreadInbox:
    """Of an actor that has a thread of its own in the product, and a loop of its own here. A stop is served at once."""

    def __init__(self) -> None:
        self.envelopes: deque[Any] = deque()
        self.wake: Callable[[], None] = lambda: None
        self.now: Callable[[], None] = lambda: None

    def put(self, envelope: Any, /) -> None:
        self.envelopes.append(envelope)
        if isinstance(envelope.message, _ActorStop):
            self.now()
        else:
            self.wake()

    def get(self) -> Any:
        if not self.envelopes:
            raise TurnOver
        return self.envelopes.popleft()

    def empty(self) -> bool:
        return not self.envelopes


class OnItsOwnLoop(pykka.Actor):
    """What makes such an actor go."""

    actor_inbox: Any

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Any]:
        made = cls(*args, **kwargs)
        made._start_actor_loop()
        return made.actor_ref

    @staticmethod
    def _create_actor_inbox() -> Any:
        return ThreadInbox()

    def _start_actor_loop(self) -> None:
        loop = self._own = SimLoop()
        self.actor_inbox.wake = lambda: loop.call_soon(self._turn)
        self.actor_inbox.now = self._stop_now
        loop.call_soon(self._actor_loop_setup)

    def _stop_now(self) -> None:
        """Whoever stops it waits for that; if it is killed meanwhile, so is whoever waits."""
        self._turn()
        if not self._own.process.alive:
            raise Killed

    def _turn(self) -> None:
        if self.actor_stopped.is_set() or not self._own.process.alive:
            return
        try:
            self._actor_loop_running()
        except TurnOver:
            return
        self._actor_loop_teardown()


class SimStore(OnItsOwnLoop, Store):
    """The real store; what it had committed stays, whenever it is killed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        STAGE.kernel.current.cleanups.append(self._db.close)


class SimDisk(OnItsOwnLoop, DiskActor):
    """The real disk's actor."""


class SimForkServer(ForkServer):
    """The real forkserver, whose children are processes of the simulation's."""

    def _born(self, request: Fork, link_fd: int | None, line: Any, estate: Estate | None) -> int:
        kernel, me = STAGE.kernel, STAGE.kernel.enter()
        STAGE.world.may_fork()
        child = kernel.spawn("shim", f"shim-{request.name}")
        child.weight = me.kernel.random.choice((1.0, 1.0, 0.3))

        def given(fd: int) -> int:
            return kernel.open(kernel.file(fd), child)

        line_fd = given(line.fileno())
        first = None if link_fd is None else given(link_fd)
        left = None
        if estate is not None:
            kept = {name: given(fd) for name, fd in estate.kept.items()}
            left = Estate(kept, {pid: given(fd) for pid, fd in estate.pidfds.items()}, estate.exits)
        with kernel.running(child):
            loop = SimLoop()
        loop.call_soon(lambda: _live_as_shim(child, request, (line_fd, first, left)))
        return child.pid


def _live_as_shim(process: Process, request: Fork, given: tuple[int, int | None, Estate | None]) -> None:
    """``shimproc.shim.main``, but for what is its process's alone."""
    kernel = STAGE.kernel
    line_fd, first, left = given
    process.subreaper = True
    process.session = process.pid
    birth, process.loops = process.loops, []
    if not os.path.isdir(request.bundle):  # noqa: PTH112
        kernel.exit(process, 1)
        raise Killed
    process.cwd = request.bundle
    if not _in(request.bundle, shim.take_place):
        kernel.exit(process, 0)
        raise Killed
    inherited = shim.Inherited(
        None if first is None else SimSocket(fileno=first),  # type: ignore[arg-type]
        SimSocket(fileno=line_fd),  # type: ignore[arg-type]
        left,
    )
    try:
        made = shim.Shim(request, inherited)
    except OSError as error:
        STAGE.world.complain(f"{process} could not begin: {error}")
        kernel.exit(process, 1)
        raise Killed from None
    process.loops += birth
    STAGE.world.shims[process.pid] = made

    def over() -> None:
        made.run()
        kernel.exit(process, 0)

    process.on_stop = over


def _in(folder: str, deed: Callable[[], bool]) -> bool:
    """In the folder that the process is in."""
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        return deed()
    finally:
        os.chdir(before)


def start_forkserver(state: str) -> int:
    """``python -m shimproc.forkserver STATE``: it goes into the background once it listens."""
    kernel, world = STAGE.kernel, STAGE.world
    starter = kernel.spawn("starter", "forkserver-starter")
    with kernel.running(starter):
        loop = SimLoop()
    tries = [0]

    def lock() -> None:
        holder: Process | None = world.forkserver
        if holder is not None and holder.alive:
            tries[0] += 1
            if tries[0] > 100:
                kernel.end(starter, 14)
                raise Killed
            loop.call_later(0.1, lock)
            return
        server = world.forkserver = kernel.spawn("forkserver", "forkserver", kernel.init)
        server.cwd = state
        server.subreaper = True
        with kernel.running(server):
            own = SimLoop()
            listener = listening(forkserver.SOCKET, 64)
        own.call_soon(lambda: _serve_forks(server, listener))
        loop.call_soon(lambda: kernel.exit(starter, 0))

    loop.call_soon(lock)
    return starter.pid


def _serve_forks(process: Process, listener: Any) -> None:
    process.loops.clear()
    server = SimForkServer(listener, -1)
    STAGE.world.forkservers[process.pid] = server
    process.on_stop = lambda: STAGE.kernel.exit(process, 0)
    server.gather()


def start_daemon(config: Any) -> Process:
    """A daemon, which takes back what is on the disk."""
    kernel, world = STAGE.kernel, STAGE.world
    process = kernel.spawn("daemon", "daemon", kernel.init)
    process.weight = kernel.random.choice((1.0, 1.0, 0.3))
    with kernel.running(process):
        loop = SimLoop()

    def build() -> None:
        process.loops.clear()
        made = Daemon(config)
        world.daemons[process.pid] = made
        made._build()
        made._loop.on_signal(signal.SIGTERM, made._on_stop)

    def over() -> None:
        world.daemons[process.pid]._stop()
        kernel.exit(process, 0)

    process.on_stop = over

    loop.call_soon(build)
    return process
