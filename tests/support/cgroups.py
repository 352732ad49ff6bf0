"""Cgroups that carry a container's id in their name, on every hierarchy of the host (v1, v2, hybrid)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from shimproc.cgroups import hierarchies

CGROUPS = Path("/sys/fs/cgroup")


def naming(ids: Collection[str]) -> list[Path]:
    """Those whose name contains one of these, the deepest first."""
    found = []
    for folder, inner, _ in os.walk(CGROUPS, topdown=False):
        found += [Path(folder, name) for name in inner if any(one in name for one in ids)]
    return found


def remove(ids: Collection[str]) -> None:
    """What a test that failed has left; nobody is in them any more."""
    for folder in naming(ids):
        with contextlib.suppress(OSError):
            folder.rmdir()


def why_no_memory_limits() -> str:
    """Why this host's cgroups cannot limit memory here; "" if they can."""
    if os.geteuid() != 0:
        return "only root may make a cgroup"
    mounted = hierarchies()
    if "memory" in mounted:
        return ""
    if "" not in mounted:
        return "no cgroups are mounted"
    controllers = Path(mounted[""].point, "cgroup.controllers").read_text().split()
    return "" if "memory" in controllers else "the memory controller is not in cgroup.controllers"
