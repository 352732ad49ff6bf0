"""Exits: pidfd -> status. The only caller of ``waitid`` in a shim, and in the daemon for tasks without one.

A watched pid is reaped through its own pidfd. Other children are orphans of the container (the shim is a subreaper):
they are reaped and forgotten, but never while a runtime is making a process whose pid is not known yet (``expecting``),
since its status must not be thrown away nor given to a later process with the same pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from shimproc.errors import NotFound, Unavailable
from shimproc.flow import Pending
from shimproc.loop import READ, LoopLike

_AT_ONCE: Final = 256
"""Orphans reaped in one turn: a container that makes them faster must not hold up the loop."""


class Exited(NamedTuple):
    """``status``: 0 to 255, 128 + n for a signal; ``at``: ns since the epoch."""

    status: int
    at: int


def children(pid: int) -> list[int]:
    """The children of a process, ended ones too (proc(5), /proc/PID/task/TID/children); none if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib costs the shim memory
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


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
        self._expecting = 0

    def watch(self, pid: int) -> Pending[Exited]:
        """Done when the child ``pid`` has ended, also when it has already. ``ProcessLookupError`` if it was reaped.

        Of a process that is no child the status cannot be known: that is ``Unavailable``, once it has ended.
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
        pending: Pending[Exited] = Pending()
        self._watched[pid] = (pidfd, pending)
        return pending

    def readable(self, fd: int) -> Pending[None]:
        """Done when ``fd`` has data or is at its end."""
        pending: Pending[None] = Pending()

        def ready(_: int) -> None:
            self._loop.unwatch(fd)
            pending.set(None)

        self._loop.watch(fd, READ, ready)
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
        return found if self._alone else [pid for pid in found if _session(pid) == session]

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
            if found.si_pid in self._watched:
                self._reap(found.si_pid)
            else:
                os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
        self._loop.call_soon(self.sweep)

    def _sweep_foreign(self) -> None:
        """What other threads of the daemon spawn is in its session, and theirs to wait for; a container's is not."""
        own = os.getsid(0)
        for pid in children(os.getpid()):
            if pid not in self._watched and _session(pid) not in (None, own):
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _reap(self, pid: int) -> None:
        known = self._watched.get(pid)
        if known is None:
            return
        pidfd, pending = known
        try:
            found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:  # not ours: its status is for another to know
            self._forget(pid)
            pending.fail(Unavailable(f"process {pid} has ended, and is no child of this one: its status is not known"))
            return
        if found is None:
            return
        at = time.time_ns()
        self._forget(pid)
        status = found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status
        pending.set(Exited(status, at))

    def _forget(self, pid: int) -> None:
        pidfd, _ = self._watched.pop(pid)
        self._loop.unwatch(pidfd)
        os.close(pidfd)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
