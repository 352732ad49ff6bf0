"""The cgroups of a container: who is in them, signals to all, limits; v1, v2 and hybrid hosts (cgroups(7)).

On v1 a process is in one cgroup per hierarchy. The one that tells who belongs to a container is the first of ``pids``,
``freezer``, ``devices``, ``memory``, or on v2 the only one. A root cgroup, or our own, is never signalled nor removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping
from typing import Any, Final

from shimproc.errors import FailedPrecondition

_TELLING: Final = ("pids", "freezer", "devices", "memory", "cpu", "name=systemd")
_ROUNDS: Final = 16
Paths = Mapping[str, str]


class Cgroup:
    """A container's cgroups: controller -> folder; ``""`` is the v2 one."""

    def __init__(self, paths: Paths) -> None:
        self._paths = dict(paths)

    @classmethod
    def of(cls, pid: int) -> Cgroup | None:
        """The cgroups of a process that are not ours too; None if it has none of its own."""
        own = _paths_of("self")
        paths = {name: path for name, path in _paths_of(str(pid)).items() if own.get(name) != path}
        return cls(paths) if paths else None

    @classmethod
    def create(cls, path: str, resources: Mapping[str, Any]) -> Cgroup:
        """Make the cgroup ``path`` (below the hierarchies' roots) with OCI ``linux.resources``' limits.

        ``FailedPrecondition`` names the limit that this host does not take.
        """
        made = cls({name: f"{mount}/{path.strip('/')}" for name, mount in _hierarchies().items()})
        try:
            made._make()
            made._limit(resources)
        except BaseException:
            made.remove()
            raise
        return made

    def add(self, pid: int) -> None:
        """Move a process in."""
        for folder in set(self._paths.values()):
            _write(f"{folder}/cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """Every process in it or below."""
        folder = self._telling()
        found: list[int] = []
        for inner, _, _ in os.walk(folder):
            with contextlib.suppress(OSError), open(f"{inner}/cgroup.procs") as procs:
                found += [int(line) for line in procs]
        return sorted(set(found))

    def signal_all(self, number: int) -> None:
        """Signal each process once, by pidfd."""
        for pid in self.pids():
            _send(pid, number)

    def kill(self) -> None:
        """SIGKILL until nobody is left who was not yet told: a process may fork while we look."""
        folder = self._telling()
        if os.path.exists(f"{folder}/cgroup.kill"):
            with contextlib.suppress(OSError):
                _write(f"{folder}/cgroup.kill", "1")
                return
        told: set[int] = set()
        for _ in range(_ROUNDS):
            fresh = set(self.pids()) - told
            if not fresh:
                return
            for pid in fresh:
                _send(pid, signal.SIGKILL)
            told |= fresh

    def remove(self) -> None:
        """Remove the folders that are empty; one that is busy stays until its last process is reaped."""
        for folder in set(self._paths.values()):
            for inner, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(inner)

    def _telling(self) -> str:
        if "" in self._paths and len(self._paths) == 1:
            return self._paths[""]
        return next((self._paths[name] for name in _TELLING if name in self._paths), next(iter(self._paths.values())))

    def _make(self) -> None:
        for name, folder in self._paths.items():
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise FailedPrecondition(f"linux.cgroupsPath: cannot make {folder}: {error.strerror}") from error
            if name == "cpuset":
                _inherit_cpuset(folder)

    def _limit(self, resources: Mapping[str, Any]) -> None:
        for field, controller, files in _limits(resources):
            version2 = controller not in self._paths
            folder = self._paths.get(controller, self._paths.get(""))
            for name, value in files[1] if version2 else files[0]:
                self._set(field, f"{folder}/{name}", value)

    def _set(self, field: str, path: str, value: str) -> None:
        try:
            _write(path, value)
        except OSError as error:
            raise FailedPrecondition(
                f"linux.resources.{field}: this host does not take {value} for {path}: {error.strerror}"
            ) from error


File = tuple[str, str]


def _limits(resources: Mapping[str, Any]) -> list[tuple[str, str, tuple[list[File], list[File]]]]:
    """(field, controller, (files of v1, files of v2)) for each limit that is asked for."""
    memory, cpu, pids = (resources.get(name) or {} for name in ("memory", "cpu", "pids"))
    found: list[tuple[str, str, tuple[list[File], list[File]]]] = []
    if (limit := memory.get("limit")) is not None:
        found.append(("memory.limit", "memory", ([("memory.limit_in_bytes", str(limit))], [("memory.max", _max(limit))])))
    if (swap := memory.get("swap")) is not None:
        only = swap if swap < 0 else max(0, swap - (limit or 0))
        files = [("memory.memsw.limit_in_bytes", str(swap))], [("memory.swap.max", _max(only))]
        found.append(("memory.swap", "memory", files))
    if (shares := cpu.get("shares")) is not None:
        weight = max(1, min(10000, 1 + (shares - 2) * 9999 // 262142))  # the kernel's own mapping of ranges
        found.append(("cpu.shares", "cpu", ([("cpu.shares", str(shares))], [("cpu.weight", str(weight))])))
    if (quota := cpu.get("quota")) is not None:
        period = cpu.get("period") or 100_000
        v1 = [("cpu.cfs_period_us", str(period)), ("cpu.cfs_quota_us", str(quota))]
        found.append(("cpu.quota", "cpu", (v1, [("cpu.max", f"{_max(quota)} {period}")])))
    if (most := pids.get("limit")) is not None:
        found.append(("pids.limit", "pids", ([("pids.max", _max(most))], [("pids.max", _max(most))])))
    return found


def _max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _paths_of(pid: str) -> dict[str, str]:
    """controller -> folder, for the hierarchies that are mounted here."""
    mounts = _hierarchies()
    found: dict[str, str] = {}
    with open(f"/proc/{pid}/cgroup") as lines:
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for name in controllers.split(","):
                if name in mounts:
                    found[name] = f"{mounts[name]}{path}".rstrip("/")
    return found


def _hierarchies() -> dict[str, str]:
    """controller (or ``name=…``, or "" for v2) -> mount point of its whole hierarchy."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            fields, (fstype, _, options) = before.split(), after.split()[:3]
            if fields[3] != "/":
                continue
            if fstype == "cgroup2":
                found.setdefault("", fields[4])
            elif fstype == "cgroup":
                for word in options.split(","):
                    if word not in ("rw", "ro", "noprefix", "xattr", "clone_children"):
                        found.setdefault(word, fields[4])
    return found


def _inherit_cpuset(folder: str) -> None:
    """A new v1 cpuset is empty, and takes nobody in until it has cpus and mems."""
    parent = os.path.dirname(folder)
    for name in ("cpuset.cpus", "cpuset.mems"):
        with contextlib.suppress(OSError):
            with open(f"{parent}/{name}") as file:
                value = file.read().strip()
            _write(f"{folder}/{name}", value)


def _send(pid: int, number: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return
        raise
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
