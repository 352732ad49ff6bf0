"""Who descends from a container's init where no cgroup tells: by /proc, and by what the subreaper was given."""

from __future__ import annotations

import contextlib
import os
import signal

from shimproc.reaper import Reaper, children, send_all, session_of


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


def session(leader: int) -> list[int]:
    """A command that leads a session of its own, and what it has started in that: a container's processes have others."""
    return [pid for pid in descendants(leader) if pid == leader or session_of(pid) == leader]


class Family:
    """Init ``pid``, the leader of its own session, and its descendants.

    A descendant whose parent has ended is a child of the shim, the subreaper (prctl(2)). In the daemon (``no_shim``) it
    is known by its session, so one that made itself a session of its own is not found there; the same holds where the
    shim was killed and this one has ``adopted`` init, since the orphans are the forkserver's children then.
    """

    def __init__(self, pid: int, reaper: Reaper, *, adopted: bool = False) -> None:
        self._pid = pid
        self._reaper = reaper
        self._adopted = adopted
        self._execs: set[int] = set()

    def join(self, pid: int) -> None:
        """An exec of the container, the leader of its own session."""
        self._execs.add(pid)

    def leave(self, pid: int) -> None:
        """It has ended, and is not reaped yet: its pid may be another's later."""
        self._execs.discard(pid)

    def pids(self) -> list[int]:
        """All of them, as they are now. Only while init is not reaped: its pid may be another's later."""
        tops = (self._pid, *self._execs)
        return sorted({*(pid for top in tops for pid in descendants(top)), *self._orphaned()})

    def kill_orphans(self) -> None:
        """SIGKILL to what init has left; again for those that were made meanwhile."""
        told: set[int] = set()
        while fresh := self._orphaned() - told:
            send_all(fresh, signal.SIGKILL)
            told |= fresh

    def _orphaned(self) -> set[int]:
        if self._adopted:
            return {pid for pid in _processes() if pid != self._pid and session_of(pid) == self._pid}
        return {pid for top in self._reaper.orphans(self._pid) for pid in descendants(top)}


def naming(word: str) -> list[int]:
    """Processes with ``word`` among the words of their command line (proc(5)); looks at every process of the host."""
    wanted = word.encode()
    found = []
    for pid in _processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - see above
            if wanted in file.read().split(b"\0"):
                found.append(pid)
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - pathlib costs the shim memory
