"""Freezes the processes of a cgroup, and lets them go on: the freezer of v1 (freezer-subsystem.txt), cgroup.freeze of v2.

A cgroup is frozen once every process in it has been reached; neither version tells that by an event that epoll takes on
both, so it is looked at again after 1, 2, 4 … ms, for at most two seconds.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from shimproc.cgroups import Cgroup, read_control, write_control
from shimproc.errors import Unavailable, Unimplemented
from shimproc.reaper import Reaper

_FIRST_SECONDS = 0.001
_SECONDS = 2.0


class _Version(NamedTuple):
    """``order``: file, and what to write for frozen and for thawed; ``told``: file, and what it says when frozen."""

    order: str
    frozen: str
    thawed: str
    told: str
    says: str


_V1 = _Version("freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN")
_V2 = _Version("cgroup.freeze", "1", "0", "cgroup.events", "frozen 1")


async def freeze(cgroup: Cgroup, reaper: Reaper) -> None:
    """All of it. ``Unimplemented`` where the host has no freezer; ``Unavailable`` if it took too long: then it goes on."""
    found = _freezer(cgroup)
    if found is None:
        raise Unimplemented("this host has no freezer for cgroups; mount the freezer controller, or cgroup v2")
    folder, version = found
    seconds = _FIRST_SECONDS
    while seconds < _SECONDS:
        write_control(f"{folder}/{version.order}", version.frozen)  # v1 reaches a process that was busy only when told again
        if version.says in read_control(f"{folder}/{version.told}"):
            return
        await reaper.after(seconds)
        seconds *= 2
    thaw(cgroup)
    raise Unavailable("a process of the task cannot be frozen now: it is in a system call that does not end; try again")


def thaw(cgroup: Cgroup) -> None:
    """It goes on, if it was frozen."""
    found = _freezer(cgroup)
    if found is not None:
        folder, version = found
        with contextlib.suppress(OSError):  # it is gone
            write_control(f"{folder}/{version.order}", version.thawed)


def _freezer(cgroup: Cgroup) -> tuple[str, _Version] | None:
    for controller, version in (("freezer", _V1), ("", _V2)):
        folder = cgroup.folder(controller)
        if folder is not None and os.path.exists(f"{folder}/{version.order}"):  # noqa: PTH110 - memory of a shim
            return folder, version
    return None
