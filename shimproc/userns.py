"""An ordinary user's containers: a user namespace (user_namespaces(7)) in which the shim may mount, and what is asked of a
runtime that may make no cgroup.

The user keeps its own uid within, so that files and sockets are its as before; the container maps that to its root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from shimproc import linux
from shimproc.errors import FailedPrecondition

_LIMITS: Final = ("memory", "cpu", "pids", "blockIO", "hugepageLimits", "rdma", "unified")


def is_ordinary() -> bool:
    """Is this not root?"""
    return os.geteuid() != 0


def enter() -> bool:
    """Be in a user namespace of our own, with all capabilities there, and a mount namespace that belongs to it.

    Only a process with one thread can (unshare(2)). False where this host allows ordinary users none.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    except OSError:
        return False
    return True


def mappings() -> dict[str, list[dict[str, int]]]:
    """Of OCI ``linux``: root within is this user, and there is nobody else."""
    return {
        "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
    }


def without_cgroups(name: str) -> tuple[str, ...]:
    """What tells a runtime, by its name, that this user has no cgroups to give: global options."""
    return {"crun": ("--cgroup-manager=disabled",), "runc": ("--rootless=true",)}.get(name, ())


def refuse_limits(resources: Mapping[str, Any]) -> None:
    """``FailedPrecondition`` names the limit that would not hold."""
    for name in _LIMITS:
        if resources.get(name):
            raise FailedPrecondition(
                f"spec.linux.resources.{name}: an ordinary user's container has no cgroup that could hold to it; "
                "leave it out, or run the daemon as root"
            )


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - pathlib costs the shim memory
        file.write(text)
