"""Exits: pidfd -> status. The only caller of ``waitid`` in a shim, and in the daemon for tasks without one.

A watched pid is reaped through its own pidfd. Other children are orphans of the container (the shim is a subreaper):
they are reaped and forgotten, but never while a runtime is making a process whose pid is not known yet (``expecting``),
since its status must not be thrown away nor given to a later process with the same pid.

A container's init is held: its status is read, and it stays a zombie until ``release``, when the journal has it. So if
the shim dies in between, whoever inherits the zombie can still read it. The init of a shim that died is no child of the
next one (``adopt``): its status comes from the kernel (PIDFD_GET_INFO) or from the forkserver, which inherited it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from shimproc import linux
from shimproc.errors import NotFound, Unavailable
from shimproc.flow import Pending, done
from shimproc.loop import READ, LoopLike

_AT_ONCE: Final = 256
"""Orphans reaped in one turn: a container that makes them faster must not hold up the loop."""
_HEARSAY_SECONDS: Final = 2.0
"""How long after its end the status of a process that is no child may be on its way."""


class Exited(NamedTuple):
    """``status``: 0 to 255, 128 + n for a signal; ``at``: ns since the epoch."""

    status: int
    at: int


def boottime() -> int:
    """ns since the host's start, suspended or not (CLOCK_BOOTTIME): no setting of a clock moves it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def children(pid: int) -> list[int]:
    """The children of a process, ended ones too (proc(5), /proc/PID/task/TID/children); none if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib costs the shim memory
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def exit_status(wait_status: int) -> int:
    """0 to 255, 128 + n for a signal, of a wait status (waitpid(2))."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def send_all(pids: Iterable[int], number: int) -> None:
    """Signal each by a pidfd. One that is gone or may not be signalled is passed over, as kill(2) does with a group."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            pidfd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)


class Reaper:
    """The children of this process.

    Parameters
    ----------
    alone : every child is this one task's (a shim); not so in the daemon (``no_shim``), which has children of its own.
    """

    def __init__(self, loop: LoopLike, *, alone: bool = True) -> None:
        self._alone = alone
        self._loop = loop
        self._watched: dict[int, tuple[int, Pending[Exited]]] = {}
        self._held: set[int] = set()
        self._hoped: dict[int, Pending[Exited]] = {}
        self._told: dict[int, Exited] = {}
        self._listening = True
        self._expecting = 0

    def watch(self, pid: int, *, hold: bool = False) -> Pending[Exited]:
        """Done when the child ``pid`` has ended, also when it has already. ``ProcessLookupError`` if it was reaped.

        With ``hold`` it stays a zombie until ``release``. Of a process that is no child the status is known only where the
        kernel tells it, or somebody else (``learn``); else that is ``Unavailable``, once it has ended.
        """
        known = self._watched.get(pid)
        if known is not None:
            return known[1]
        pidfd = os.pidfd_open(pid)
        try:
            self._loop.watch(pidfd, READ, lambda _: self._reap(pid))
        except BaseException:
            os.close(pidfd)
            raise
        return self._watch(pid, pidfd, hold=hold)

    def adopt(self, pid: int, pidfd: int) -> Pending[Exited]:
        """Like ``watch``, for a process that another shim made; ``pidfd`` is this object's from now on."""
        if (told := self._told.pop(pid, None)) is not None:
            os.close(pidfd)
            return done(told)
        self._loop.watch(pidfd, READ, lambda _: self._reap(pid))
        return self._watch(pid, pidfd, hold=False)

    def hear(self, pid: int) -> Pending[Exited]:
        """Of a process that has ended, unseen: somebody may tell yet (``learn``), else that is ``Unavailable``."""
        if (told := self._told.pop(pid, None)) is not None:
            return done(told)
        heard = self._hoped[pid] = Pending()

        def give_up() -> None:
            self._hoped.pop(pid, None)
            heard.fail(Unavailable(f"process {pid} ended while nobody was there to see it"))

        timer = self._loop.call_later(_HEARSAY_SECONDS, give_up)
        heard.then(lambda _: timer.cancel())
        return heard

    def learn(self, pid: int, exited: Exited) -> None:
        """Somebody who may know says how ``pid`` ended; perhaps before anyone here asks, as a take-over has its steps."""
        if self._listening and pid not in self._hoped and pid not in self._watched:
            self._told[pid] = exited
        if (heard := self._hoped.pop(pid, None)) is not None:
            heard.set(exited)
        known = self._watched.get(pid)
        if known is not None and not known[1].done:
            self._forget(pid)
            known[1].set(exited)

    def reaped_cpu(self) -> tuple[int, int]:
        """(user, system) ns of CPU of the children that were reaped, with theirs; 0 in the daemon, whose are many tasks'."""
        spent = os.times()
        return (int(spent.children_user * 1e9), int(spent.children_system * 1e9)) if self._alone else (0, 0)

    def taken_over(self) -> None:
        """All processes of a killed shim are known: whatever else is told concerns nobody here."""
        self._listening = False
        self._told.clear()

    def release(self, pid: int) -> None:
        """A held child is of no more use; harmless for any other."""
        if pid in self._held:
            self._held.discard(pid)
            known = self._watched.get(pid)
            if known is not None and known[1].done:
                self._bury(pid, known[0])

    def _watch(self, pid: int, pidfd: int, *, hold: bool) -> Pending[Exited]:
        pending: Pending[Exited] = Pending()
        self._watched[pid] = (pidfd, pending)
        if hold:
            self._held.add(pid)
        return pending

    def readable(self, fd: int) -> Pending[None]:
        """Done when ``fd`` has data or is at its end."""
        pending: Pending[None] = Pending()

        def ready(_: int) -> None:
            self._loop.unwatch(fd)
            pending.set(None)

        self._loop.watch(fd, READ, ready)
        return pending

    def after(self, seconds: float) -> Pending[None]:
        """Done then."""
        pending: Pending[None] = Pending()
        self._loop.call_later(seconds, lambda: pending.set(None))
        return pending

    def ended(self, pid: int, seconds: float) -> Pending[None]:
        """Done when ``pid``, a child or not, has ended, or after ``seconds``: in the kernel it may take longer."""
        pending: Pending[None] = Pending()
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pending.set(None)
            return pending

        def close(_: Pending[None]) -> None:
            timer.cancel()
            self._loop.unwatch(pidfd)
            os.close(pidfd)

        timer = self._loop.call_later(seconds, lambda: pending.set(None))
        pending.then(close)
        self._loop.watch(pidfd, READ, lambda _: pending.set(None))
        return pending

    def send(self, pid: int, number: int) -> None:
        """Signal a watched child, never a later process with its pid. ``NotFound`` once it was reaped."""
        known = self._watched.get(pid)
        if known is None:
            raise NotFound("the process has already exited")
        try:
            signal.pidfd_send_signal(known[0], number)
        except ProcessLookupError as error:
            raise NotFound("the process has already exited") from error

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """While a runtime makes a process: unknown zombies are left alone."""
        self._expecting += 1
        try:
            yield
        finally:
            self._expecting -= 1
            if not self._expecting:
                self._loop.call_soon(self.sweep)

    def orphans(self, session: int) -> list[int]:
        """Children that nobody waits for. In the daemon only those of ``session`` (setsid(2)): it has its own."""
        found = [pid for pid in children(os.getpid()) if pid not in self._watched]
        return found if self._alone else [pid for pid in found if session_of(pid) == session]

    def sweep(self) -> None:
        """Reap the orphans that ended. On SIGCHLD."""
        if self._expecting:
            return
        if self._alone:
            self._sweep_all()
        else:
            self._sweep_foreign()

    def _sweep_all(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in self._held:
                self._reap(found.si_pid)
                if found.si_pid in self._held:  # it is in the way of others until it is released, which sweeps again
                    return
            elif found.si_pid in self._watched:
                self._reap(found.si_pid)
            else:
                os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
        self._loop.call_soon(self.sweep)

    def _sweep_foreign(self) -> None:
        """What other threads of the daemon spawn is in its session, and theirs to wait for; a container's is not."""
        own = os.getsid(0)
        for pid in children(os.getpid()):
            if pid not in self._watched and session_of(pid) not in (None, own):
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _reap(self, pid: int) -> None:
        known = self._watched.get(pid)
        if known is None:
            return
        pidfd, pending = known
        if pending.done:
            return
        held = pid in self._held
        try:
            found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | (os.WNOWAIT if held else 0))
        except ChildProcessError:  # not ours: its status is for another to know
            self._ask_the_kernel(pid)
            return
        if found is None:
            return
        exited = Exited(found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status, time.time_ns())
        if held:
            self._loop.unwatch(pidfd)
        else:
            self._forget(pid)
        pending.set(exited)

    def _bury(self, pid: int, pidfd: int) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        self._forget(pid)
        self._loop.call_soon(self.sweep)

    def _ask_the_kernel(self, pid: int) -> None:
        """Once its parent has reaped it, the kernel may tell: its pidfd says EPOLLHUP then. Else somebody may (``learn``)."""
        pidfd, pending = self._watched[pid]
        status = linux.pidfd_exit_status(pidfd)
        if status is not None:
            self.learn(pid, Exited(exit_status(status), time.time_ns()))
            return
        timer = self._loop.call_later(_HEARSAY_SECONDS, lambda: self._give_up(pid))
        pending.then(lambda _: timer.cancel())
        self._loop.watch(pidfd, 0, lambda events: self._on_reaped_by_another(pid, events))

    def _on_reaped_by_another(self, pid: int, events: int) -> None:
        if not events & select.EPOLLHUP or pid not in self._watched:
            return
        pidfd, _ = self._watched[pid]
        self._loop.unwatch(pidfd)
        status = linux.pidfd_exit_status(pidfd)
        if status is not None:
            self.learn(pid, Exited(exit_status(status), time.time_ns()))

    def _give_up(self, pid: int) -> None:
        _, pending = self._watched[pid]
        self._forget(pid)
        pending.fail(Unavailable(f"process {pid} has ended, and is no child of this one: its status is not known"))

    def _forget(self, pid: int) -> None:
        self._held.discard(pid)
        pidfd, _ = self._watched.pop(pid)
        self._loop.unwatch(pidfd)
        os.close(pidfd)


def session_of(pid: int) -> int | None:
    """Its session's id (setsid(2)); None if it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
