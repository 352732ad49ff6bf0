"""A kernel in memory: processes, descriptors, deaths, time, and the seeded choice of who goes on next.

Everything runs in one thread. A process is Python objects on loops of its own (``tests.simulation.loop``); a step is one
callback of one loop, and which loop is next is drawn. A process can be killed between two steps, or in the midst of one: each
system call counts, and the one that is drawn does not return. What is left of it then is what a real kernel would leave:
descriptors closed, children handed to the next subreaper, a zombie for its parent.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.loop import SimLoop

FIRST_FD = 1 << 20
"""Descriptors from here on are the simulation's, those below the real ones (journals, bundles, the database)."""
EPOCH = 1_800_000_000 * 10**9
LONGEST_STEP_NS = 60_000


class Killed(BaseException):
    """The process in which this is raised has been killed: nothing that it would still do happens."""


class File:
    """What descriptors point to. ``events``: what it is ready for, as epoll tells it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.refs = 0
        self.watchers: dict[tuple[SimLoop, int], None] = {}

    def events(self) -> int:
        """Ready for what?"""
        return 0

    def poke(self) -> None:
        """It may have become ready for something."""
        for loop, fd in self.watchers:
            loop.mark(fd)

    def drop(self) -> None:
        """One reference less."""
        self.refs -= 1
        if self.refs == 0:
            self.closed()

    def closed(self) -> None:
        """The last descriptor is gone."""


class Process:
    """A process of the simulation. ``kind``: daemon, forkserver, shim, task, command, clients, init."""

    def __init__(self, kernel: Kernel, pid: int, kind: str, name: str, parent: Process | None) -> None:
        self.kernel = kernel
        self.pid, self.kind, self.name, self.parent = pid, kind, name, parent
        self.children: dict[int, Process] = {}
        self.began = kernel.ticks()
        self.alive = True
        self.reaped = False
        self.reaped_by: Process | None = None
        self.status = 0  # as wait(2) has it
        self.subreaper = False
        self.session = pid
        self.cwd = "/"
        self.fds: set[int] = set()
        self.real: set[int] = set()
        self.loops: list[SimLoop] = []
        self.flows: list[CoroutineType[Any, Any, Any]] = []
        self.cleanups: list[Callable[[], None]] = []
        self.handles: dict[int, Callable[[], None]] = {}
        self.pidfds: list[PidFile] = []
        self.on_signal: Callable[[int], None] | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.doom: int | None = None
        self.weight = 1.0
        self.stopped = False

    def __repr__(self) -> str:
        return f"{self.name}[{self.pid}]"


class PidFile(File):
    """A pidfd: readable once the process has ended, hung up once it is reaped."""

    READ, HUP = 1, 16

    def __init__(self, kernel: Kernel, process: Process) -> None:
        super().__init__(kernel)
        self.process = process
        process.pidfds.append(self)

    def events(self) -> int:
        return (0 if self.process.alive else self.READ) | (self.HUP if self.process.reaped else 0)


class Kernel:
    """One host.

    Parameters
    ----------
    seed : of every choice that is made here.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 10**12
        self.wall = EPOCH
        self.fds: dict[int, tuple[File, Process]] = {}
        self.processes: dict[int, Process] = {}
        self.active: dict[SimLoop, None] = {}
        self.timers: list[tuple[int, int, SimLoop, Any]] = []
        self.deaths: dict[int, list[Process]] = {}
        self.points: list[str] = []
        self.tells_exit = True
        self.steps = 0
        self.trace: list[str] | None = None
        self._numbers = itertools.count()
        self._ticks = itertools.count(1)
        self._fds = itertools.count(FIRST_FD)
        self._pids = itertools.count(100)
        self.pids = 0
        self._last: SimLoop | None = None
        self.init = Process(self, 1, "init", "init", None)
        self.init.subreaper = True
        self.processes[1] = self.init
        self.current = self.init

    # -- time

    def ticks(self) -> int:
        """Since boot, as starttime in proc(5); never the same twice, so that a pid is known by it."""
        return next(self._ticks)

    def schedule(self, when: int, loop: SimLoop, timer: Any) -> None:
        """Wake ``loop`` at ``when``."""
        heapq.heappush(self.timers, (when, next(self._numbers), loop, timer))

    def say(self, text: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.steps:6} {self.now / 1e9 - 1000:11.6f} {text}")

    # -- steps

    def step(self) -> bool:
        """One step of somebody; False when nobody has anything to do, now or later."""
        draw = self.random
        self.steps += 1
        self.now += int(draw.random() * LONGEST_STEP_NS)
        self._wake()
        if not self.active:
            while self.timers and self.timers[0][3].callback is None:
                heapq.heappop(self.timers)
            if not self.timers:
                return False
            self.now = max(self.now, self.timers[0][0])
            self._wake()
        loop = self._choose()
        if loop is not None:
            loop.step()
            if not loop.runnable():
                self.active.pop(loop, None)
        return True

    def _choose(self) -> SimLoop | None:
        draw = self.random
        if self._last is not None and self._last in self.active and draw.random() < 0.5:
            return self._last
        loops = list(self.active)
        if not loops:
            return None
        loop = loops[int(draw.random() * len(loops))]
        if loop.process.weight < 1.0 and draw.random() > loop.process.weight:
            loop = loops[int(draw.random() * len(loops))]
        self._last = loop
        return loop

    def _wake(self) -> None:
        while self.timers and self.timers[0][0] <= self.now:
            _, _, loop, timer = heapq.heappop(self.timers)
            if timer.callback is not None:
                loop.due.append(timer)
                loop.activate()

    @contextlib.contextmanager
    def running(self, process: Process) -> Iterator[None]:
        """``process`` is the one that acts; it may be killed meanwhile."""
        before, self.current = self.current, process
        try:
            yield
        except Killed:
            if process.alive:
                raise
        finally:
            self.current = before

    def enter(self) -> Process:
        """A system call of the current process, its last one perhaps."""
        process = self.current
        if not process.alive:
            raise Killed
        if process.doom is not None:
            process.doom -= 1
            if process.doom <= 0:
                self.say(f"{process} is killed in a call")
                self.end(process, signal.SIGKILL)
                raise Killed
        return process

    # -- descriptors

    def open(self, file: File, process: Process | None = None) -> int:
        """A new descriptor of ``process``, the current one by default."""
        process = process or self.current
        fd = next(self._fds)
        self.fds[fd] = (file, process)
        process.fds.add(fd)
        file.refs += 1
        return fd

    def file(self, fd: int) -> File:
        """What ``fd`` is, for the current process; ``OSError`` if it is none of its."""
        found = self.fds.get(fd)
        if found is None or found[1] is not self.current:
            raise OSError(9, f"Bad file descriptor {fd} in {self.current}")
        return found[0]

    def close(self, fd: int) -> None:
        """Let go of a descriptor."""
        file, process = self.fds[fd]
        del self.fds[fd]
        process.fds.discard(fd)
        for key in [key for key in file.watchers if key[1] == fd]:
            del file.watchers[key]
        file.drop()

    # -- processes

    def spawn(self, kind: str, name: str, parent: Process | None = None) -> Process:
        """A new process; a child of the current one by default."""
        parent = parent or self.current
        pid = self._next_pid()
        made = Process(self, pid, kind, name, parent)
        made.cwd = parent.cwd
        self.processes[pid] = parent.children[pid] = made
        return made

    def _next_pid(self) -> int:
        """Counted, or, where ``pids`` bounds them, one that is free, though another may just have had it."""
        if not self.pids:
            return next(self._pids)
        while True:
            pid = 100 + int(self.random.random() * self.pids)
            if pid not in self.processes:
                return pid

    def stop(self, process: Process, seconds: float, host: SimLoop) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        if not process.alive or process.stopped:
            return
        process.stopped = True
        for loop in process.loops:
            self.active.pop(loop, None)

        host.call_later(seconds, lambda: self.go_on(process))

    @staticmethod
    def go_on(process: Process) -> None:
        """SIGCONT."""
        process.stopped = False
        for loop in process.loops:
            if loop.runnable():
                loop.activate()

    def exit(self, process: Process, code: int) -> None:
        """It ends by itself."""
        self.end(process, code << 8)

    def end(self, process: Process, status: int) -> None:
        """It has ended. ``status``: as wait(2) has it, so a bare number is the signal that it died of."""
        if not process.alive:
            return
        process.alive, process.status = False, status
        self.deaths.setdefault(process.pid, []).append(process)
        self.say(f"{process} ends {status:#x}")
        self.close_flows(process)
        for loop in process.loops:
            loop.dead()
        for fd in sorted(process.fds):
            self.close(fd)
        for fd in process.real:
            with contextlib.suppress(OSError):
                os.close(fd)
        for cleanup in process.cleanups:
            cleanup()
        heir = self._subreaper(process)
        for child in list(process.children.values()):
            child.parent = heir
            heir.children[child.pid] = child
            if not child.alive:
                self._tell_parent(child)
        process.children.clear()
        for pidfd in process.pidfds:
            pidfd.poke()
        self._tell_parent(process)

    def close_flows(self, process: Process) -> None:
        """Coroutines that will never go on: whatever their ``finally`` does, it is a dead process that does it."""
        before, self.current = self.current, process
        for flow in process.flows:
            for _ in range(9):  # what awaits something more in its ``finally`` is ended there, too
                if flow.cr_frame is None or flow.cr_running:
                    break
                with contextlib.suppress(Killed, RuntimeError, ValueError, Exception):
                    flow.close()
        process.flows = [flow for flow in process.flows if flow.cr_frame is not None]
        self.current = before

    def _subreaper(self, process: Process) -> Process:
        found = process.parent
        while found is not None and not (found.alive and found.subreaper):
            found = found.parent
        return found or self.init

    def _tell_parent(self, process: Process) -> None:
        parent = process.parent or self.init
        if parent is self.init or not parent.alive:
            self.reap(process, self.init)
        else:
            self.interrupt(parent, signal.SIGCHLD)

    def interrupt(self, process: Process, number: int) -> None:
        """Its loop hears of a signal."""
        handler = process.handles.get(number)
        if handler is not None and process.loops:
            process.loops[0].interrupt(number, handler)

    def reap(self, process: Process, by: Process) -> None:
        """Its status was taken."""
        process.reaped, process.reaped_by = True, by
        if process.parent is not None:
            process.parent.children.pop(process.pid, None)
        del self.processes[process.pid]
        for pidfd in process.pidfds:
            pidfd.poke()

    def signal(self, process: Process, number: int) -> None:
        """kill(2)."""
        if not process.alive:
            return
        self.say(f"{process} gets signal {number}")
        if process.on_signal is not None:
            process.on_signal(number)
        elif number == signal.SIGKILL or process.kind in ("task", "command"):
            self.end(process, number)
