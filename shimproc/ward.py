"""What the forkserver knows of a living shim, and how it hands over to a new one what a killed one has left."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from shimproc import linux, shim
from shimproc.link import Link
from shimproc.messages import Fork
from shimproc.process.estate import Estate
from shimproc.reaper import Exited

_FIRST_FD = 3
_LAST_FD = 0xFFFFFFFF


@dataclass(slots=True)
class Ward:
    """A living shim, and what is kept for the one after it. ``pidfd``: of one that a former forkserver has forked."""

    request: Fork
    pid: int
    line: Link
    kept: dict[str, int]
    init: int = 0
    exited: Exited | None = None
    deaths: int = 0
    pidfd: int | None = None
    left: bool = False


def carried_over(link_fd: int | None, line: socket.socket, estate: Estate | None) -> shim.Inherited:
    """Everything that the child goes on with, in the lowest descriptors; all others are closed."""
    names = [] if estate is None else list(estate.kept)
    carried = [line.detach()]
    carried += [] if link_fd is None else [link_fd]
    carried += [] if estate is None else list(estate.kept.values())
    carried += [] if estate is None or estate.pidfd is None else [estate.pidfd]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FD + len(carried)) for fd in carried]
    for number, fd in enumerate(high, _FIRST_FD):
        os.dup2(fd, number, inheritable=False)
    linux.close_range(_FIRST_FD + len(carried), _LAST_FD)
    numbers = iter(range(_FIRST_FD, _FIRST_FD + len(carried)))
    inherited = shim.Inherited(None, socket.socket(fileno=next(numbers)))
    if link_fd is not None:
        inherited.first = socket.socket(fileno=next(numbers))
    if estate is not None:
        inherited.estate = Estate({name: next(numbers) for name in names}, exited=estate.exited)
        if estate.pidfd is not None:
            inherited.estate.pidfd = next(numbers)
    return inherited


def listed(folder: str) -> list[str]:
    """The names in a folder; none if it is not there."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - pathlib costs each shim memory
    except OSError:
        return []


def connect_in(bundle: str) -> socket.socket:
    """A connection to a bundle's shim, by way of the folder's descriptor: the whole path may exceed sun_path (unix(7))."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{shim.SOCKET}")
        finally:
            os.close(folder)
    except BaseException:
        sock.close()
        raise
    return sock


def pidfd_of(pid: int) -> int | None:
    """Of a process that is our child now, so that its pid is still its own; None for none."""
    try:
        return os.pidfd_open(pid) if pid else None
    except OSError:
        return None


def close_all(fds: Iterable[int]) -> None:
    """They are of no more use."""
    for fd in fds:
        os.close(fd)
