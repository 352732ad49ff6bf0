"""The built-in runtime ``process``: a plain process on the host's own files, supervised like any container's init.

``create`` forks the (tiny) shim; the child waits on a pipe before the user's program, ``start`` lets it go. From the
OCI spec it takes ``process``: args, env, cwd, user (uid, gid, additionalGids, umask), rlimits, oomScoreAdj,
noNewPrivileges, terminal; ``linux.cgroupsPath`` and ``linux.resources`` as far as the host allows; with rootfs mounts
it is chrooted into them. Namespaces, capabilities, seccomp, hooks and mounts of the spec have no meaning here: it runs
with the daemon's rights, less what ``user`` and ``noNewPrivileges`` take away.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Mapping
from typing import Any, Final

from shimproc.cgroups import Cgroup
from shimproc.errors import FailedPrecondition, Unavailable, scarce
from shimproc.reaper import Reaper, send_all
from shimproc.runtimes.descendants import Family
from shimproc.runtimes.exec_child import Held, become, failure_of

_GO: Final = b"\1"
_KNOWN: Final = ("memory", "cpu", "pids")
_END_SECONDS: Final = 5.0
"""How long a process that was killed may be in the kernel's hands before its removal is given up, for now."""


class PlainBackend:
    """One process, with all that descends from it.

    Parameters
    ----------
    name : of the cgroup, below ``/shimyard``, where the spec names none and has limits.
    chroot : the rootfs, where one is mounted for the task.
    """

    def __init__(self, spec: Mapping[str, Any], name: str, chroot: str | None, reaper: Reaper) -> None:
        self._spec = spec
        self._name = name
        self._chroot = chroot
        self._reaper = reaper
        self._cgroup: Cgroup | None = None
        self._family: Family | None = None
        self._go: int | None = None
        self._failed: int | None = None

    async def create(self, fds: tuple[int, int, int]) -> int:
        """Fork the process that will be the program, held.

        ``FailedPrecondition`` or ``InvalidArgument`` names the limit or cgroup that cannot be had,
        ``ResourceExhausted`` the host's bound that is reached.
        """
        self._cgroup = self._make_cgroup()
        try:
            pid = self._fork(fds)
            self._family = Family(pid, self._reaper)
            if self._cgroup is not None:
                self._cgroup.add(pid)
        except OSError as error:
            self._close()
            raise scarce(error, "the process cannot be made") from error
        return pid

    async def settle(self) -> None:
        """A child that nobody let go has heard the end of its shim, and ended."""

    def adopt(self, pid: int, kept: dict[str, int]) -> None:
        """Its cgroup and its family are found again; a held one can still be let go."""
        path = self._cgroup_path()
        self._cgroup = None if path is None else Cgroup.at(path)
        self._family = Family(pid, self._reaper, adopted=True)
        self._go, self._failed = kept.pop("go", None), kept.pop("failed", None)

    async def is_started(self) -> bool:
        """Its end of the report's pipe is closed once it is a program, or gone."""
        if self._failed is None:
            return True
        poll = select.poll()
        poll.register(self._failed, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """What a held one waits on."""
        held = {"go": self._go, "failed": self._failed}
        return {name: fd for name, fd in held.items() if fd is not None}

    async def start(self) -> None:
        """Let it go, and hear whether the program could be started: end-of-file means that it was.

        An error with ``details.kind`` names the field that is at fault; ``FailedPrecondition``: it has ended before.
        """
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
        """Kill what is left, wait for its end, remove the cgroup that ``create`` made.

        ``Unavailable`` while a process that was killed does not end; deleting again goes on with it.
        """
        self._close()
        self.kill_leftovers()
        if self._cgroup is None:
            return
        for pid in self._cgroup.pids():
            await self._reaper.ended(pid, _END_SECONDS)
        if not self._cgroup.remove():
            left = self._cgroup.pids()
            raise Unavailable(f"linux.cgroupsPath: processes {left} were killed and have not ended yet; try again")

    def pids(self) -> list[int]:
        """It, and all that descends from it."""
        found = set(self._family.pids()) if self._family is not None else set()
        if self._cgroup is not None:
            found.update(self._cgroup.pids())
        return sorted(found)

    def signal_all(self, number: int) -> None:
        """Each by its pidfd."""
        send_all(self.pids(), number)

    def kill_leftovers(self) -> None:
        """Orphans become children of the shim, the subreaper; killing one may bring up its own children."""
        if self._cgroup is not None:
            self._cgroup.kill()
        if self._family is not None:
            self._family.kill_orphans()

    def _fork(self, fds: tuple[int, int, int]) -> int:
        """The child's ends are closed here, so that end-of-file means what it should; ours are kept for ``start``."""
        with contextlib.ExitStack() as childs:
            hold, self._go = os.pipe2(os.O_CLOEXEC)
            childs.callback(os.close, hold)
            self._failed, report = os.pipe2(os.O_CLOEXEC)
            childs.callback(os.close, report)
            pid = os.fork()
            if pid == 0:
                become(self._spec, Held(hold, report, fds, self._chroot))
        return pid

    def _make_cgroup(self) -> Cgroup | None:
        """None where none is asked for, so that a daemon that may make no cgroup can still run processes."""
        path = self._cgroup_path()
        return None if path is None else Cgroup.create(path, (self._spec.get("linux") or {}).get("resources") or {})

    def _cgroup_path(self) -> str | None:
        linux = self._spec.get("linux") or {}
        path, resources = linux.get("cgroupsPath"), linux.get("resources") or {}
        if not path and not any(resources.get(name) for name in _KNOWN):
            return None
        return path or f"/shimyard/{self._name}"

    def _close(self) -> None:
        """Our ends: a child that is still held hears it, and ends."""
        for fd in (self._go, self._failed):
            if fd is not None:
                os.close(fd)
        self._go = self._failed = None
