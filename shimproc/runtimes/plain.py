"""The built-in runtime ``process``: a plain process on the host's own files, supervised like any container's init.

``create`` forks the (tiny) shim; the child waits on a pipe before the user's program, ``start`` lets it go. From the OCI
spec it takes ``process``: args, env, cwd, user (uid, gid, additionalGids, umask), rlimits, oomScoreAdj,
noNewPrivileges; ``linux.cgroupsPath`` and ``linux.resources`` as far as the host allows; with rootfs mounts it is
chrooted into them. Namespaces, capabilities, seccomp, hooks and mounts of the spec have no meaning here: it runs with
the daemon's rights, less what ``user`` and ``noNewPrivileges`` take away.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any, Final

from shimproc.cgroups import Cgroup
from shimproc.errors import FailedPrecondition
from shimproc.reaper import Reaper
from shimproc.runtimes import descendants
from shimproc.runtimes.exec_child import Held, become, failure_of

_GO: Final = b"\1"


class PlainBackend:
    """One process, with all that descends from it."""

    def __init__(self, spec: Mapping[str, Any], name: str, chroot: str | None, reaper: Reaper) -> None:
        self._spec = spec
        self._name = name
        self._chroot = chroot
        self._reaper = reaper
        self._cgroup: Cgroup | None = None
        self._pid = 0
        self._go: int | None = None
        self._failed: int | None = None

    async def create(self, fds: tuple[int, int, int]) -> int:
        """Fork the process that will be the program, held."""
        self._cgroup = self._make_cgroup()
        hold, self._go = os.pipe2(os.O_CLOEXEC)
        self._failed, report = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                become(self._spec, Held(hold, report, self._go, fds, self._chroot))
            if self._cgroup is not None:
                self._cgroup.add(self._pid)
        except OSError as error:
            raise FailedPrecondition(f"the process cannot be made: {error.strerror}") from error
        finally:
            os.close(hold)
            os.close(report)
        return self._pid

    async def start(self) -> None:
        """Let it go, and hear whether the program could be started: end-of-file means that it was."""
        if self._go is None or self._failed is None:
            raise FailedPrecondition("the process was started already")
        try:
            os.write(self._go, _GO)
            await self._reaper.readable(self._failed)
            told = os.read(self._failed, 4096)
        except BrokenPipeError as error:
            raise FailedPrecondition("the process has ended before it was started") from error
        finally:
            self._close()
        if told:
            raise failure_of(told)

    async def delete(self, *, force: bool) -> None:  # noqa: ARG002 - there is only one way
        """Kill what is left, remove the cgroup."""
        self._close()
        self.kill_leftovers()
        if self._cgroup is not None:
            self._cgroup.remove()

    def pids(self) -> list[int]:
        """It, and all that descends from it."""
        found = set(descendants.of(self._pid)) | set(self._orphans())
        if self._cgroup is not None:
            found |= set(self._cgroup.pids())
        return sorted(found)

    def signal_all(self, number: int) -> None:
        """Each by its pidfd."""
        for pid in self.pids():
            descendants.send(pid, number)

    def kill_leftovers(self) -> None:
        """Orphans become children of the shim, the subreaper; killing one may bring up its own children."""
        if self._cgroup is not None:
            self._cgroup.kill()
        told: set[int] = set()
        while fresh := {pid for orphan in self._orphans() for pid in descendants.of(orphan)} - told:
            for pid in fresh:
                descendants.send(pid, signal.SIGKILL)
            told |= fresh

    def _orphans(self) -> list[int]:
        """In a shim all children that nobody watches are this container's; in the daemon, those of its session."""
        orphans = [pid for pid in descendants.children(os.getpid()) if not self._reaper.knows(pid)]
        if self._reaper.alone:
            return orphans
        return [pid for pid in orphans if descendants.session(pid) == self._pid]

    def _make_cgroup(self) -> Cgroup | None:
        linux = self._spec.get("linux") or {}
        resources = {name: value for name, value in (linux.get("resources") or {}).items() if value}
        path = linux.get("cgroupsPath")
        if not path and not any(name in resources for name in ("memory", "cpu", "pids")):
            return None
        return Cgroup.create(path or f"/shimyard/{self._name}", resources)

    def _close(self) -> None:
        for fd in (self._go, self._failed):
            if fd is not None:
                os.close(fd)
        self._go = self._failed = None
