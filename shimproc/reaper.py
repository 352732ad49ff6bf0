"""Exits: pidfd -> status. The only caller of ``waitid``.

A watched pid is reaped through its own pidfd. Other children are orphans of the container (the shim is a subreaper): they
are reaped and forgotten, but never while a runtime is making a process whose pid is not known yet (``expecting``), since
its status must not be thrown away nor given to a later process with the same pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

from shimproc.errors import NotFound, Unavailable
from shimproc.flow import Pending
from shimproc.loop import READ, LoopLike


class Exited(NamedTuple):
    """``status``: 0 to 255, 128 + n for a signal; ``at``: ns since the epoch."""

    status: int
    at: int


class Reaper:
    """The children of this process.

    Parameters
    ----------
    alone : every child is this one task's (a shim); not so in the daemon (``no_shim``).
    """

    def __init__(self, loop: LoopLike, *, alone: bool = True) -> None:
        self.alone = alone
        self._loop = loop
        self._watched: dict[int, tuple[int, Pending[Exited]]] = {}
        self._expecting = 0

    def watch(self, pid: int) -> Pending[Exited]:
        """Done when the child ``pid`` has ended, also when it has already. ``ProcessLookupError`` if it is gone."""
        pidfd = os.pidfd_open(pid)
        pending: Pending[Exited] = Pending()
        self._watched[pid] = (pidfd, pending)
        self._loop.watch(pidfd, READ, lambda _: self._reap(pid))
        return pending

    def knows(self, pid: int) -> bool:
        """Is somebody waiting for this child?"""
        return pid in self._watched

    def readable(self, fd: int) -> Pending[None]:
        """Done when ``fd`` has data or is at its end."""
        pending: Pending[None] = Pending()

        def ready(_: int) -> None:
            self._loop.unwatch(fd)
            pending.set(None)

        self._loop.watch(fd, READ, ready)
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

    def sweep(self) -> None:
        """Reap orphans that ended. On SIGCHLD."""
        while not self._expecting:
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
