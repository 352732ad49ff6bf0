"""What a killed shim leaves to the next one: descriptors, a grip on its processes, and the exits that were seen. Gathered by
the forkserver.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from shimproc.flow import Pending
from shimproc.reaper import Exited, Reaper


@dataclass(slots=True)
class Estate:
    """``kept``: by name (``shimproc.io.keepsakes``); ``pidfds``: by pid, opened by their parent; ``exits``: by pid, those of
    strangers among them: an exec that was made just before the shim was killed is one.
    """

    kept: dict[str, int] = field(default_factory=dict)
    pidfds: dict[int, int] = field(default_factory=dict)
    exits: dict[int, Exited] = field(default_factory=dict)

    def watch(self, reaper: Reaper, pid: int, told_at: int, began: int) -> Pending[Exited]:
        """How a process ends, or has ended; ``Unavailable`` if no process could know.

        Parameters
        ----------
        told_at : since when it was there at the latest, ns since the epoch: an exit before that is another's with its pid.
        began : when it began (``begun``); 0: not known.
        """
        known = self.exits.get(pid)
        if known is not None and known.at >= told_at:
            return _known(known)
        pidfd = self.pidfds.pop(pid, None)
        try:
            return reaper.adopt(pid, _open(pid, began) if pidfd is None else pidfd)
        except ProcessLookupError:
            return reaper.hear(pid)

    def close(self) -> None:
        """What nobody has taken."""
        for fd in (*self.kept.values(), *self.pidfds.values()):
            os.close(fd)
        self.kept, self.pidfds = {}, {}


def _open(pid: int, began: int) -> int:
    """A pidfd; ``ProcessLookupError`` if the pid is another's by now: that one has begun at another time."""
    pidfd = os.pidfd_open(pid)
    if began and begun(pid) != began:
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
