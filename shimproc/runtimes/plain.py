"""The built-in runtime ``process``: plain processes on the host's own files, supervised like any container's.

``create`` forks the (tiny) shim; the child waits on a pipe before the user's program, ``start`` lets it go. From the
OCI spec it takes ``process``: args, env, cwd, user (uid, gid, additionalGids, umask), rlimits, oomScoreAdj,
noNewPrivileges, terminal; ``linux.cgroupsPath`` and ``linux.resources`` as far as the host allows; with rootfs mounts
it is chrooted into them. Namespaces, capabilities, seccomp, hooks and mounts of the spec have no meaning here: it runs
with the daemon's rights, less what ``user`` and ``noNewPrivileges`` take away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from shimproc.cgroups import Cgroup
from shimproc.errors import Unavailable, Unimplemented, scarce
from shimproc.freezer import freeze, thaw
from shimproc.io.console import Console
from shimproc.messages import Checkpoint
from shimproc.reaper import Reaper, send_all
from shimproc.runtimes.backend import Added, ExecFiles, Images
from shimproc.runtimes.descendants import Family
from shimproc.runtimes.held import HeldProcess

_KNOWN: Final = ("memory", "cpu", "pids")
NO_CHECKPOINT: Final = (
    "the runtime process makes plain processes, and CRIU writes down and restores containers with namespaces of their own; "
    "run the task on runc"
)
_END_SECONDS: Final = 5.0
"""How long a process that was killed may be in the kernel's hands before its removal is given up, for now."""


class PlainBackend:
    """One process, with all that descends from it, and its execs.

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
        self._held = HeldProcess(spec, chroot, reaper)

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Fork the process that will be the program, held.

        ``FailedPrecondition`` or ``InvalidArgument`` names the limit or cgroup that cannot be had,
        ``ResourceExhausted`` the host's bound that is reached.
        """
        self._cgroup = self._make_cgroup()
        try:
            pid = self._held.fork(fds, console)
            self._family = Family(pid, self._reaper)
            if self._cgroup is not None:
                self._cgroup.add(pid)
        except OSError as error:
            self._held.close()
            raise scarce(error, "the process cannot be made") from error
        return pid

    def add(self, files: ExecFiles) -> Added:
        """In the task's cgroup and rootfs."""
        with open(files.process, "rb") as file:  # noqa: PTH123 - pathlib costs the shim memory
            held = HeldProcess({"process": json.load(file)}, self._chroot, self._reaper)
        assert self._family is not None
        return PlainExec(held, files, self._family, self._cgroup)

    async def settle(self, seconds: float | None = None) -> None:
        """A child that nobody let go has heard the end of its shim, and ended."""

    def adopt(self, pid: int, kept: dict[str, int]) -> None:
        """Its cgroup and its family are found again; a held one can still be let go."""
        path = self._cgroup_path()
        self._cgroup = None if path is None else Cgroup.at(path)
        self._family = Family(pid, self._reaper, adopted=True)
        self._held.adopt(kept)

    async def is_started(self) -> bool:
        """The pipe of its report says so."""
        return self._held.is_started()

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """What a held one waits on."""
        return self._held.keepsakes

    @property
    def cgroup(self) -> Cgroup | None:
        """Its own."""
        return self._cgroup

    async def start(self) -> None:
        """See ``HeldProcess.start``."""
        await self._held.start()

    async def pause(self) -> None:
        """By the freezer of its cgroup; a process without a cgroup of its own cannot be paused with all its children."""
        if self._cgroup is None:
            raise Unimplemented(
                "the runtime process pauses a task by its cgroup, and this one has none; "
                "give it linux.cgroupsPath, or a limit in linux.resources"
            )
        await freeze(self._cgroup, self._reaper)

    def thaw(self) -> None:
        """Let them go on, if they are frozen."""
        if self._cgroup is not None:
            thaw(self._cgroup)

    def outside(self) -> Mapping[str, int]:
        """None: it has no inside."""
        return {}

    async def checkpoint(self, request: Checkpoint, outside: Mapping[str, int]) -> None:  # noqa: ARG002 - none can be served
        """Never."""
        raise Unimplemented(NO_CHECKPOINT)

    async def restore(
        self,
        images: Images,  # noqa: ARG002 - as above
        fds: tuple[int, int, int],  # noqa: ARG002
        console: Console | None = None,  # noqa: ARG002
    ) -> int:
        """Never."""
        raise Unimplemented(NO_CHECKPOINT)

    def restored(self) -> int | None:
        """Never."""
        return None

    async def update(self, resources: Mapping[str, Any]) -> None:
        """In its cgroup; without one there is nothing to change."""
        if self._cgroup is None:
            raise Unimplemented(
                "the runtime process limits a task by its cgroup, and this one has none; "
                "create it with linux.cgroupsPath, or with a limit in linux.resources"
            )
        self._cgroup.limit(resources)

    async def delete(self, *, force: bool) -> None:  # noqa: ARG002 - there is only one way
        """Kill what is left, wait for its end, remove the cgroup that ``create`` made.

        ``Unavailable`` while a process that was killed does not end; deleting again goes on with it.
        """
        self._held.close()
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


class PlainExec:
    """One more plain process of a task: on the same files, in the same cgroup."""

    def __init__(self, held: HeldProcess, files: ExecFiles, family: Family, cgroup: Cgroup | None) -> None:
        self._held = held
        self._files = files
        self._family = family
        self._cgroup = cgroup
        self._entrusted = True

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Forked and held; its pid is written down before it is let go."""
        try:
            pid = self._held.fork(fds, console)
            if self._cgroup is not None:
                self._cgroup.add(pid)
            self._files.write_pid(pid)
            self._family.join(pid)
        except OSError as error:
            self._held.close()
            raise scarce(error, "the process cannot be made") from error
        return pid

    async def start(self) -> None:
        """See ``HeldProcess.start``."""
        await self._held.start()

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """What a held one waits on."""
        return self._held.keepsakes

    def made(self) -> int | None:
        """By its pid file."""
        return self._files.pid()

    def adopt(self, kept: dict[str, int]) -> None:
        """A held one can still be let go, if what it waits on was entrusted; else it never was, and has ended."""
        self._entrusted = "failed" in kept
        self._held.adopt(kept)
        if (pid := self._files.pid()) is not None:
            self._family.join(pid)

    def is_started(self) -> bool:
        """The pipe of its report says so."""
        return self._entrusted and self._held.is_started()

    def let_go(self) -> None:
        """A held one ends."""
        self._held.close()
        self.ended()

    def ended(self) -> None:
        """It is none of the task's any more."""
        if (pid := self._files.pid()) is not None:
            self._family.leave(pid)
