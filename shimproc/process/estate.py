"""What a killed shim leaves to the next one: descriptors, a grip on init, and perhaps its exit. Gathered by the forkserver."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from shimproc.errors import Unavailable
from shimproc.flow import Pending
from shimproc.reaper import Exited, Reaper


@dataclass(slots=True)
class Estate:
    """``kept``: by name (``shimproc.io.keepsakes``); ``pidfd``: of init, opened by its parent; ``exited``: if that was seen."""

    kept: dict[str, int] = field(default_factory=dict)
    pidfd: int | None = None
    exited: Exited | None = None
    begun: int = 0

    def watch(self, reaper: Reaper, pid: int) -> Pending[Exited]:
        """How init ends, or has ended; ``Unavailable`` if no process could know."""
        if self.exited is not None:
            return _known(self.exited)
        pidfd, self.pidfd = self.pidfd, None
        try:
            return reaper.adopt(pid, self._open(pid) if pidfd is None else pidfd)
        except ProcessLookupError:
            lost: Pending[Exited] = Pending()
            lost.fail(Unavailable(f"process {pid} ended while nobody was there to see it"))
            return lost

    def close(self) -> None:
        """What nobody has taken."""
        for fd in (*self.kept.values(), *(() if self.pidfd is None else (self.pidfd,))):
            os.close(fd)
        self.kept, self.pidfd = {}, None

    def _open(self, pid: int) -> int:
        """A pidfd, unless the pid is another's by now: that one has begun at another time."""
        pidfd = os.pidfd_open(pid)
        if self.begun and begun(pid) != self.begun:
            os.close(pidfd)
            raise ProcessLookupError(pid)
        return pidfd


def _known(exited: Exited) -> Pending[Exited]:
    pending: Pending[Exited] = Pending()
    pending.set(exited)
    return pending


def begun(pid: int) -> int:
    """When a process began, in clock ticks since boot (starttime in proc(5)); no setting of a clock moves it. 0: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib costs the shim memory
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0
