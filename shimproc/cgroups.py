"""The cgroups of a container: who is in them, signals to all, limits; v1, v2 and hybrid hosts (cgroups(7)).

On v1 a process is in one cgroup per hierarchy. The one that tells who belongs to a container is the first of ``pids``,
``freezer``, ``devices``, ``memory``, or on v2 the only one. A hierarchy's root, our own cgroup and those above it are
never a container's: nobody in them is signalled, and they are never removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from shimproc.errors import FailedPrecondition, InvalidArgument
from shimproc.reaper import send_all

_TELLING: Final = ("pids", "freezer", "devices", "memory", "cpu", "name=systemd")
_ROUNDS: Final = 64
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_V2: Final = ""
"""The name under which the v2 hierarchy stands among the controllers of v1."""


class Hierarchy(NamedTuple):
    """A mounted hierarchy: the cgroup ``root`` (and what is below it) is seen at ``point``."""

    root: str
    point: str

    def folder(self, path: str) -> str | None:
        """Where the cgroup ``path`` is seen; None if it lies outside of what is mounted."""
        if ".." in path.split("/"):
            return None
        root = self.root.rstrip("/")
        if path != root and not path.startswith(f"{root}/"):
            return None
        return self.point + path[len(root) :].rstrip("/")


class Setting(NamedTuple):
    """One limit: its OCI field, its controller, and the files and values that make it so on v1 and on v2."""

    field: str
    controller: str
    v1: Mapping[str, str]
    v2: Mapping[str, str]


class Cgroup:
    """A container's cgroups: controller -> folder; ``""`` is the v2 one."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = dict(folders)

    @classmethod
    def of(cls, pid: int) -> Cgroup | None:
        """The cgroups that a process has for its own; None if it has none, or is gone."""
        mounted = hierarchies()
        own = _folders_of("self", mounted)
        try:
            theirs = _folders_of(str(pid), mounted)
        except (FileNotFoundError, ProcessLookupError):
            return None
        folders = {
            name: folder
            for name, folder in theirs.items()
            if folder != mounted[name].point and not _holds(folder, own.get(name))
        }
        return cls(folders) if folders else None

    @classmethod
    def at(cls, path: str) -> Cgroup:
        """The cgroup ``path`` below every hierarchy's root, whether it exists or not.

        ``InvalidArgument`` when it is a root, or holds this process itself.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise InvalidArgument(f"linux.cgroupsPath: {path!r} is no cgroup below the root; give one like /group/name")
        mounted = hierarchies()
        folders = {name: "/".join((found.point, *parts)) for name, found in mounted.items()}
        own = _folders_of("self", mounted)
        if any(_holds(folder, own.get(name)) for name, folder in folders.items()):
            raise InvalidArgument(f"linux.cgroupsPath: {path} holds the daemon itself; name one of the task's own")
        return cls(folders)

    @classmethod
    def below_ours(cls, path: str) -> Cgroup:
        """The same below this process's own cgroups: where a runtime makes it that starts from there (runc on v1)."""
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        if not parts:
            raise InvalidArgument(f"linux.cgroupsPath: {path!r} names no cgroup")
        own = _folders_of("self", hierarchies())
        return cls({name: "/".join((folder, *parts)) for name, folder in own.items()})

    @classmethod
    def create(cls, path: str, resources: Mapping[str, Any]) -> Cgroup:
        """Make the cgroup ``path`` in every hierarchy, with the limits of OCI ``linux.resources``.

        ``FailedPrecondition`` names what this host does not allow, and why; then nothing is left of it.
        """
        made = cls.at(path)
        if made.occupied():
            raise FailedPrecondition(f"linux.cgroupsPath: {path} has processes or cgroups of others; name another")
        try:
            made._make()
            made.limit(resources)
        except BaseException:
            made.remove()
            raise
        return made

    def limit(self, resources: Mapping[str, Any]) -> None:
        """Set the limits of memory, cpu and pids in OCI ``linux.resources``; what it does not name stays as it is."""
        for setting in settings(resources):
            folder = self._folders.get(setting.controller)
            if folder is not None:
                self._set(setting, folder, setting.v1)
            elif _V2 in self._folders:
                folder = self._folders[_V2]
                _delegate(folder, setting)
                self._set(setting, folder, setting.v2)
            else:
                raise _lacking(setting)

    def folder(self, controller: str) -> str | None:
        """Where it is seen in the hierarchy of a controller of v1, or, for "", of v2."""
        return self._folders.get(controller)

    def add(self, pid: int) -> None:
        """Move a process in. ``OSError`` of cgroup.procs (cgroups(7)): ESRCH when it has ended."""
        for folder in self._folders.values():
            write_control(f"{folder}/cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """Every process in it or below that can be seen from our pid namespace."""
        found: set[int] = set()
        for folder, _, _ in os.walk(self._telling()):
            with contextlib.suppress(OSError):
                found.update(map(int, read_control(f"{folder}/cgroup.procs").split()))
        return sorted(found - {0})

    def signal_all(self, number: int) -> None:
        """Signal each process once, by pidfd."""
        send_all(self.pids(), number)

    def kill(self) -> None:
        """SIGKILL until nobody is left who was not yet told: a process may fork while we look."""
        if _V2 in self._folders:
            with contextlib.suppress(OSError):  # before Linux 5.14 there is none
                write_control(f"{self._folders[_V2]}/cgroup.kill", "1")
        told: set[int] = set()
        for _ in range(_ROUNDS):
            fresh = set(self.pids()) - told
            if not fresh:
                return
            send_all(fresh, signal.SIGKILL)
            told |= fresh

    def remove(self) -> bool:
        """Remove it with all below; False if a process that has not quite ended keeps some of it."""
        for folder in self._folders.values():
            for inner, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(inner)  # noqa: PTH106 - pathlib costs the shim memory
        return not any(map(_exists, self._folders.values()))

    def remove_inner(self, name: str) -> None:
        """Remove one below it, if it is there and empty."""
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                os.rmdir(f"{folder}/{name}")  # noqa: PTH106 - see above

    def occupied(self) -> bool:
        """Does it have processes, or cgroups below? An empty one is what a shim that was killed may have left."""
        return any(map(_in_use, self._folders.values()))

    def _telling(self) -> str:
        names = (name for name in (*_TELLING, _V2) if name in self._folders)
        return self._folders[next(names, next(iter(self._folders), _V2))]

    def _make(self) -> None:
        if not self._folders:
            raise FailedPrecondition(
                "linux.cgroupsPath: this host has no cgroups mounted; mount them at /sys/fs/cgroup"
            )
        for name, folder in self._folders.items():
            try:
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            except OSError as error:
                raise FailedPrecondition(
                    f"linux.cgroupsPath: cannot make {folder}: {error.strerror}; run the daemon as root"
                ) from error
            if name == "cpuset":
                _inherit_cpuset(folder)

    def _set(self, setting: Setting, folder: str, files: Mapping[str, str]) -> None:
        for name, value in files.items():
            path = f"{folder}/{name}"
            try:
                write_control(path, value)
            except FileNotFoundError as error:
                if value not in ("-1", "max"):  # no limit is what a host without the file gives
                    raise _lacking(setting) from error
            except OSError as error:
                raise FailedPrecondition(
                    f"linux.resources.{setting.field}: this host does not take {value} for {path}: {error.strerror}"
                ) from error


def settings(resources: Mapping[str, Any]) -> list[Setting]:
    """The limits that OCI ``linux.resources`` asks for, in the order to set them; 0 and null ask for none.

    ``InvalidArgument`` for a swap limit alone: both versions count swap on top of a memory limit.
    """
    memory, cpu, pids = (resources.get(name) or {} for name in ("memory", "cpu", "pids"))
    found: list[Setting] = []
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit:
        v1 = {"memory.limit_in_bytes": str(limit)}
        found.append(Setting("memory.limit", "memory", v1, {"memory.max": _max(limit)}))
    if swap:
        if swap > 0 and (not limit or limit < 0 or swap < limit):
            raise InvalidArgument("linux.resources.memory.swap counts memory, too: give memory.limit, and no less")
        only = swap if swap < 0 else swap - limit
        v1 = {"memory.memsw.limit_in_bytes": str(swap)}
        found.append(Setting("memory.swap", "memory", v1, {"memory.swap.max": _max(only)}))
    if shares := cpu.get("shares"):
        weight = max(1, min(10000, 1 + (shares - 2) * 9999 // 262142))  # the two ranges, one on the other, as runc does
        found.append(Setting("cpu.shares", "cpu", {"cpu.shares": str(shares)}, {"cpu.weight": str(weight)}))
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota or period:
        v1 = {"cpu.cfs_period_us": str(period)} if period else {}
        v1 |= {"cpu.cfs_quota_us": str(quota)} if quota else {}
        v2 = {"cpu.max": f"{_max(quota or -1)} {period or 100_000}"}
        found.append(Setting("cpu.quota" if quota else "cpu.period", "cpu", v1, v2))
    if most := pids.get("limit"):
        files = {"pids.max": _max(most)}
        found.append(Setting("pids.limit", "pids", files, files))
    return found


def hierarchies(table: Iterable[str] | None = None) -> dict[str, Hierarchy]:
    """controller (or ``name=...``, or "" for v2) -> its mount; ``table``: lines of /proc/PID/mountinfo (proc(5))."""
    found: dict[str, Hierarchy] = {}
    for line in read_control("/proc/self/mountinfo").splitlines() if table is None else table:
        before, _, after = line.partition(" - ")
        fields, (fstype, _, options) = before.split(), after.split()[:3]
        if fstype not in ("cgroup", "cgroup2"):
            continue
        seen = Hierarchy(_unescaped(fields[3]), _unescaped(fields[4]))
        for name in (_V2,) if fstype == "cgroup2" else options.split(","):
            if name not in found or (found[name].root != "/" and seen.root == "/"):
                found[name] = seen
    for option in ("rw", "ro", "noprefix", "xattr", "clone_children", "cpuset_v2_mode"):
        found.pop(option, None)
    return found


def _folders_of(pid: str, mounted: Mapping[str, Hierarchy]) -> dict[str, str]:
    """controller -> folder, where it can be seen."""
    found: dict[str, str] = {}
    for line in read_control(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            folder = mounted[name].folder(path) if name in mounted else None
            if folder is not None:
                found[name] = folder
    return found


def _in_use(folder: str) -> bool:
    for _, below, _ in os.walk(folder):
        return bool(below or read_control(f"{folder}/cgroup.procs").strip())
    return False


def _holds(folder: str, own: str | None) -> bool:
    return own is not None and f"{own}/".startswith(f"{folder}/")


def _delegate(folder: str, setting: Setting) -> None:
    """A v2 cgroup has the files of a controller only if all above it have passed it down (cgroup.subtree_control)."""
    above = []
    while _exists(f"{(folder := os.path.dirname(folder))}/cgroup.subtree_control"):  # noqa: PTH120
        above.append(folder)
    for parent in reversed(above):
        path = f"{parent}/cgroup.subtree_control"
        if setting.controller in read_control(path).split():
            continue
        try:
            write_control(path, f"+{setting.controller}")
        except FileNotFoundError as error:
            raise _lacking(setting) from error
        except OSError as error:
            why = "it has processes of its own" if error.errno == errno.EBUSY else error.strerror
            raise FailedPrecondition(
                f"linux.resources.{setting.field}: {parent} cannot pass the {setting.controller} controller down: {why}"
            ) from error


def _lacking(setting: Setting) -> FailedPrecondition:
    return FailedPrecondition(
        f"linux.resources.{setting.field}: this kernel does not offer it (controller {setting.controller}); "
        "leave it out, or enable it at boot"
    )


def _max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _inherit_cpuset(folder: str) -> None:
    """A new v1 cpuset is empty, and takes nobody in until it has cpus and mems; so from the top down."""
    parent = os.path.dirname(folder)  # noqa: PTH120
    for name in ("cpuset.cpus", "cpuset.mems"):
        with contextlib.suppress(OSError):
            if read_control(f"{folder}/{name}").strip():
                continue
            if not read_control(f"{parent}/{name}").strip():
                _inherit_cpuset(parent)
            write_control(f"{folder}/{name}", read_control(f"{parent}/{name}").strip())


def _unescaped(name: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), name)


def _exists(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def read_control(path: str) -> str:
    """What a control file of a cgroup says."""
    with open(path) as file:  # noqa: PTH123
        return file.read()


def write_control(path: str, text: str) -> None:
    """In one write(2), as the kernel wants it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
