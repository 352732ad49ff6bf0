"""Who descends from a container's init where no cgroup tells: by /proc, and by what the subreaper was given."""

from __future__ import annotations

import os
import signal

from shimproc.reaper import Reaper, children, send_all


def descendants(pid: int) -> list[int]:
    """A process and all below it; none if it is gone."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        if os.path.exists(f"/proc/{current}"):  # noqa: PTH110 - pathlib costs the shim memory
            found.append(current)
            waiting += children(current)
    return found


class Family:
    """Init ``pid``, the leader of its own session, and its descendants.

    A descendant whose parent has ended is a child of the shim, the subreaper (prctl(2)). In the daemon (``no_shim``) it
    is known by its session, so one that made itself a session of its own is not found there.
    """

    def __init__(self, pid: int, reaper: Reaper) -> None:
        self._pid = pid
        self._reaper = reaper

    def pids(self) -> list[int]:
        """All of them, as they are now. Only while init is not reaped: its pid may be another's later."""
        return sorted({*descendants(self._pid), *self._orphaned()})

    def kill_orphans(self) -> None:
        """SIGKILL to what init has left; again for those that were made meanwhile."""
        told: set[int] = set()
        while fresh := self._orphaned() - told:
            send_all(fresh, signal.SIGKILL)
            told |= fresh

    def _orphaned(self) -> set[int]:
        return {pid for top in self._reaper.orphans(self._pid) for pid in descendants(top)}
