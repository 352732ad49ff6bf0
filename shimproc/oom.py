"""Whom the kernel's OOM killer struck in a task's cgroup: told as ``Oom``, before the exits that it caused.

The kernel counts the kill before it sends the signal (``__oom_kill_process`` in mm/oom_kill.c), so whoever reads the count
after an exit knows. Meanwhile it wakes us: on v2 by POLLPRI on ``memory.events`` (cgroup-v2.rst), on v1 by an eventfd
(cgroup-v1/memory.rst, "OOM Control"), and that a moment before the kill, so the count is looked at again after 1, 2, 4 … ms.

Each ``Oom`` has the count, which is higher than the one before: so none is told twice, and the shim after a killed one tells
what that could not. Several kills may be told as one: there is at most one ``Oom`` a second, besides that before an exit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Final

from shimproc.cgroup_stats import oom_file, oom_kills
from shimproc.cgroups import Cgroup, write_control
from shimproc.flow import Pending
from shimproc.loop import READ, LoopLike, Timer
from shimproc.messages import Created, Delete, Deleted, Exited, Kill, Message, Oom, Started

log = logging.getLogger(__name__)
REASON: Final = "oom"
_KILLED: Final = 128 + signal.SIGKILL
_QUIET_SECONDS: Final = 1.0
_FIRST_SECONDS: Final = 0.001
_LAST_SECONDS: Final = 1.0
_LATELY_SECONDS: Final = 10.0
"""So long after a kill a process may still be at giving its memory back, before it has ended."""


def counted(cgroup: Cgroup | None) -> tuple[str, int]:
    """Where kills are counted, and how many there are already: a cgroup may be older than its task. ``("", 0)`` if nowhere."""
    path = "" if cgroup is None else oom_file(cgroup)
    return path, _count(path) or 0


class OomWatch:
    """Of one task.

    Parameters
    ----------
    emit : journals an ``Oom`` and tells it; done when that is journaled.
    """

    def __init__(self, loop: LoopLike, emit: Callable[[Message], Pending[None]]) -> None:
        self._loop = loop
        self._emit = emit
        self._path = ""
        self._fd: int | None = None
        self._seen = 0
        self._told = 0
        self._unwritten = 0
        self._quiet: Timer | None = None
        self._lately: Timer | None = None
        self._again: Timer | None = None
        self._killed: set[str] = set()
        self._all_killed = False

    def heed(self, event: Message) -> None:
        """An event that is journaled: by this shim, or, told again, by one before it."""
        match event:
            case Created() | Started() if event.oom_file:
                self._path, self._seen, self._told = event.oom_file, event.oom_kills, event.oom_kills
                self._begin()
            case Oom():
                self._seen, self._told = max(self._seen, event.kills), max(self._told, event.kills)
                if self._lately is None:  # the shim before this one told it, and may not have told the exit
                    self._struck(max(0.0, (time.time_ns() - event.at) / 1e9))
            case Exited(process="") | Deleted(process=""):
                self.close()

    def asked(self, request: Message) -> None:
        """A client's own SIGKILL is no doing of the OOM killer's."""
        if isinstance(request, Kill) and request.signal == signal.SIGKILL:
            self._killed.add(request.process)
            self._all_killed = self._all_killed or request.all
        elif isinstance(request, Delete):
            self._all_killed = True

    def ended(self, event: Exited, *, slain: bool) -> Exited:
        """An exit that is about to be told: with its reason, if it was this; kills that are not told yet come before it.

        ``slain``: an exec that ends because init has.
        """
        self._look(event.at)
        killed = slain or self._all_killed or event.process in self._killed
        if event.status != _KILLED or event.reason is not None or killed or self._lately is None:
            return event
        return dataclasses.replace(event, reason=REASON)

    def close(self) -> None:
        """Nobody is left in it."""
        self._stop_watching()
        for timer in (self._quiet, self._lately, self._again):
            if timer is not None:
                timer.cancel()
        self._quiet = self._lately = self._again = None

    def _stop_watching(self) -> None:
        fd, self._fd, self._path = self._fd, None, ""
        if fd is not None:
            self._loop.unwatch(fd)
            os.close(fd)

    def _begin(self) -> None:
        """Without it there is still the look at each exit."""
        try:
            self._fd = fd = _listen(self._path)
            self._loop.watch(fd, READ if _is_v1(self._path) else select.EPOLLPRI, lambda _: self._on_woken())
        except OSError as error:
            log.info("%s: kills are told only with exits: %s", self._path, error)

    def _on_woken(self) -> None:
        assert self._fd is not None
        with contextlib.suppress(OSError):  # what it gives is of no interest; until it is read, it wakes us again
            os.lseek(self._fd, 0, os.SEEK_SET)
        with contextlib.suppress(OSError):
            os.read(self._fd, 4096)
        if _count(self._path) is None:
            self._stop_watching()  # the cgroup is gone
            return
        if self._again is not None:
            self._again.cancel()
        self._look_again(_FIRST_SECONDS)

    def _look_again(self, seconds: float) -> None:
        """Now, and, while the kill that we were woken for is not counted yet, a little later."""
        self._again = None
        before = self._seen
        self._look(time.time_ns(), hurry=False)
        if self._seen == before and _is_v1(self._path) and seconds <= _LAST_SECONDS:
            self._again = self._loop.call_later(seconds, lambda: self._look_again(2 * seconds))

    def _look(self, at: int, *, hurry: bool = True) -> None:
        kills = _count(self._path)
        if kills is not None and kills > self._seen:
            self._seen = kills
            self._struck(0.0)
        if self._seen > self._told and (hurry or not (self._quiet or self._unwritten)):
            self._told = self._seen
            if self._quiet is not None:
                self._quiet.cancel()
            self._quiet = self._loop.call_later(_QUIET_SECONDS, self._on_quiet)
            self._unwritten += 1
            self._emit(Oom(at, self._seen)).then(self._on_written)

    def _on_written(self, _: Pending[None]) -> None:
        """While the disk is full, kills are counted, and do not pile up."""
        self._unwritten -= 1
        if self._quiet is None:
            self._look(time.time_ns(), hurry=False)

    def _struck(self, seconds_ago: float) -> None:
        if seconds_ago < _LATELY_SECONDS:
            if self._lately is not None:
                self._lately.cancel()
            self._lately = self._loop.call_later(_LATELY_SECONDS - seconds_ago, self._on_long_ago)

    def _on_long_ago(self) -> None:
        self._lately = None

    def _on_quiet(self) -> None:
        self._quiet = None
        self._look(time.time_ns(), hurry=False)


def _is_v1(path: str) -> bool:
    return path.endswith("/memory.oom_control")


def _count(path: str) -> int | None:
    """None where it is not counted, or where the cgroup is gone."""
    try:
        return oom_kills(path) if path else None
    except OSError:
        return None


def _listen(path: str) -> int:
    """A descriptor that wakes when the count may have grown."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if not _is_v1(path):
        return file
    try:
        woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            write_control(f"{path.rpartition('/')[0]}/cgroup.event_control", f"{woken} {file}")
        except BaseException:
            os.close(woken)
            raise
    finally:
        os.close(file)
    return woken
