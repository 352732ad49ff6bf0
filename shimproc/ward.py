"""What the forkserver knows of a living shim, and how it hands over to a new one what a killed one has left."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shimproc import linux, shim
from shimproc.link import Link
from shimproc.messages import Fork
from shimproc.process.estate import Estate
from shimproc.reaper import Exited

_FIRST_FD = 3
_LAST_FD = 0xFFFFFFFF


@dataclass(slots=True)
class Ward:
    """A living shim, and what is kept for the one after it.

    ``members``: its task's processes; ``exits``: those of them that were seen; ``pidfd``: of a shim that a former forkserver
    has forked.
    """

    request: Fork
    pid: int
    line: Link
    kept: dict[str, int] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    exits: dict[int, Exited] = field(default_factory=dict)
    deaths: int = 0
    pidfd: int | None = None
    left: bool = False

    def keep(self, names: Sequence[str], fds: Sequence[int], pid: int) -> None:
        """Duplicates for the next shim; a name that is kept already is replaced."""
        for name, fd in zip(names, fds, strict=True):
            self.drop(name)
            self.kept[name] = fd
        if pid:
            self.members.add(pid)

    def drop(self, name: str) -> None:
        """This one is closed in the shim."""
        if (fd := self.kept.pop(name, None)) is not None:
            os.close(fd)

    def forget(self, pid: int, exec_id: str) -> None:
        """This exec has ended, and the journal has it."""
        for name in [name for name in self.kept if name.startswith(f"{exec_id}/")]:
            self.drop(name)
        self.members.discard(pid)
        self.exits.pop(pid, None)

    def inherit(self, dead: Ward) -> None:
        """All that was kept for this shim's predecessor."""
        self.kept, self.members, self.exits, self.deaths = dead.kept, dead.members, dead.exits, dead.deaths + 1

    def estate(self, strangers: Mapping[int, Exited]) -> Estate:
        """For the shim that follows this one, which is dead; its pidfds are the caller's to close.

        The pid of an orphan that is our own child is still its own, so it gets a pidfd here.
        """
        orphans = self.members - self.exits.keys() if self.pidfd is None else set()
        pidfds = {pid: pidfd for pid in orphans if (pidfd := pidfd_of(pid)) is not None}
        return Estate(dict(self.kept), pidfds, {**strangers, **self.exits})


def carried_over(link_fd: int | None, line: socket.socket, estate: Estate | None) -> shim.Inherited:
    """Everything that the child goes on with, in the lowest descriptors; all others are closed."""
    carried = [line.detach()]
    carried += [] if link_fd is None else [link_fd]
    carried += [] if estate is None else [*estate.kept.values(), *estate.pidfds.values()]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD + len(carried)) for fd in carried]
    for number, fd in enumerate(high, _FIRST_FD):
        os.dup2(fd, number, inheritable=False)
    linux.close_range(_FIRST_FD + len(carried), _LAST_FD)
    numbers = iter(range(_FIRST_FD, _FIRST_FD + len(carried)))
    inherited = shim.Inherited(None, socket.socket(fileno=next(numbers)))
    if link_fd is not None:
        inherited.first = socket.socket(fileno=next(numbers))
    if estate is not None:
        kept = {name: next(numbers) for name in estate.kept}
        inherited.estate = Estate(kept, {pid: next(numbers) for pid in estate.pidfds}, estate.exits)
    return inherited


def listed(folder: str) -> list[str]:
    """The names in a folder; none if it is not there."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - pathlib costs each shim memory
    except OSError:
        return []


def pidfd_of(pid: int) -> int | None:
    """Of a process that is our child now, so that its pid is still its own; None for none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def close_all(fds: Iterable[int]) -> None:
    """They are of no more use."""
    for fd in fds:
        os.close(fd)
