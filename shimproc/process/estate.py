"""What a killed shim leaves to the next one: descriptors, a grip on its processes, and the exits that were seen. Gathered by
the forkserver.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from shimproc.flow import Pending
from shimproc.reaper import Exited, Reaper

_SLACK = 1_000_000_000
"""How much later than it was told of a process may seem to have begun, ns: two clocks are compared."""


@dataclass(slots=True)
class Estate:
    """``kept``: by name (``shimproc.io.keepsakes``); ``pidfds``: by pid, opened by their parent; ``exits``: by pid, those of
    strangers among them: an exec that was made just before the shim was killed is one.
    """

    kept: dict[str, int] = field(default_factory=dict)
    pidfds: dict[int, int] = field(default_factory=dict)
    exits: dict[int, Exited] = field(default_factory=dict)

    def watch(self, reaper: Reaper, pid: int, told_at: int) -> Pending[Exited]:
        """How a process ends, or has ended; ``Unavailable`` if no process could know.

        Parameters
        ----------
        told_at : when its being there was journaled, ns since the epoch: a later process is another one with its pid.
        """
        known = self.exits.get(pid)
        if known is not None and known.at >= told_at:
            return _known(known)
        pidfd = self.pidfds.pop(pid, None)
        try:
            return reaper.adopt(pid, _open(pid, told_at) if pidfd is None else pidfd)
        except ProcessLookupError:
            return reaper.hear(pid)

    def close(self) -> None:
        """What nobody has taken."""
        for fd in (*self.kept.values(), *self.pidfds.values()):
            os.close(fd)
        self.kept, self.pidfds = {}, {}


def _open(pid: int, told_at: int) -> int:
    """A pidfd; ``ProcessLookupError`` if the pid is another's by now."""
    pidfd = os.pidfd_open(pid)
    if _begun(pid) > told_at + _SLACK:
        os.close(pidfd)
        raise ProcessLookupError(pid)
    return pidfd


def _known(exited: Exited) -> Pending[Exited]:
    pending: Pending[Exited] = Pending()
    pending.set(exited)
    return pending


def _begun(pid: int) -> int:
    """When a process began, ns since the epoch, to about 10 ms (starttime in proc(5)). ``ProcessLookupError``."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/stat", "rb") as boot:  # noqa: PTH123 - memory of a shim
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
            seconds = next(int(line.split()[1]) for line in boot if line.startswith(b"btime"))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(pid) from error
    return (seconds * 1_000 + ticks * 1_000 // os.sysconf("SC_CLK_TCK")) * 1_000_000
