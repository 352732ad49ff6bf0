"""A container of an OCI runtime, and what is added to it, as the shim sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shimproc import userns
from shimproc.cgroups import Cgroup
from shimproc.errors import NotFound, ShimyardError, Unimplemented
from shimproc.freezer import freeze, thaw
from shimproc.io.console import Console
from shimproc.messages import Checkpoint
from shimproc.reaper import Reaper, send_all
from shimproc.runtimes.backend import Added, ExecFiles, Images
from shimproc.runtimes.descendants import Family
from shimproc.runtimes.oci import OciRuntime
from shimproc.runtimes.outside import files_from_outside


class OciBackend:
    """A container of an OCI runtime, as the shim sees it."""

    def __init__(self, runtime: OciRuntime, reaper: Reaper) -> None:
        self._runtime = runtime
        self._reaper = reaper
        self._cgroup: Cgroup | None = None
        self._family: Family | None = None
        self._begun = True

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Init's pid; its cgroup is remembered, to find the rest of the container by."""
        if userns.is_ordinary():
            self._runtime.refuse_limits()
        try:
            return self._know(await self._runtime.create(fds, console))
        except ShimyardError as error:
            self._begun = bool(error.details.get("started", True))
            raise

    def _know(self, pid: int) -> int:
        self._cgroup = Cgroup.of(pid)
        self._family = Family(pid, self._reaper)
        return pid

    def outside(self) -> Mapping[str, int]:
        """By what /proc tells of its processes."""
        return files_from_outside(self.pids(), self._runtime.made() or 0)

    async def checkpoint(self, request: Checkpoint, outside: Mapping[str, int]) -> None:
        """The runtime's checkpoint."""
        await self._runtime.checkpoint(request, outside)

    async def restore(self, images: Images, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """The runtime's restore; its cgroup is a new one."""
        return self._know(await self._runtime.restore(images, fds, console))

    def restored(self) -> int | None:
        """The runtime writes its pid file last."""
        return self._runtime.made()

    async def settle(self, seconds: float | None = None) -> None:
        """The runtime's commands, which live on without their shim."""
        await self._runtime.settle(self._reaper, seconds)

    def adopt(self, pid: int, kept: dict[str, int]) -> None:  # noqa: ARG002 - a runtime keeps its own
        """Find its cgroup again."""
        self._cgroup = Cgroup.of(pid)
        self._family = Family(pid, self._reaper, adopted=True)

    async def is_started(self) -> bool:
        """The runtime knows."""
        try:
            return await self._runtime.status() != "created"
        except NotFound:
            return True

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """None: a runtime's container waits on nothing of the shim's."""
        return {}

    @property
    def cgroup(self) -> Cgroup | None:
        """Its own."""
        return self._cgroup

    async def start(self) -> None:
        """Let init go."""
        await self._runtime.start()

    def add(self, files: ExecFiles) -> Added:
        """By the runtime's exec."""
        return OciExec(self._runtime, files)

    async def pause(self) -> None:
        """By the freezer of its cgroup, as the runtimes do it; what they tell of its state is read from there, too."""
        if self._cgroup is None:
            raise Unimplemented("a container without a cgroup of its own cannot be paused; give it linux.cgroupsPath, as root")
        await freeze(self._cgroup, self._reaper)

    def thaw(self) -> None:
        """Let it go on, if it is frozen."""
        if self._cgroup is not None:
            thaw(self._cgroup)

    async def update(self, resources: Mapping[str, Any]) -> None:
        """The runtime's update."""
        if userns.is_ordinary():
            userns.refuse_limits(resources)
        await self._runtime.update(resources)

    async def delete(self, *, force: bool) -> None:  # noqa: ARG002 - a runtime refuses to delete what was only created
        """Remove what the runtime keeps; where no create has succeeded, what it does not know of, too."""
        if self._begun:  # else there is nothing, and no room for a command to say so
            await self._runtime.delete()
        if self._family is None:
            self._runtime.remove_cgroup()

    def pids(self) -> list[int]:
        """By the cgroup; where it has none of its own, by descent."""
        if self._cgroup is not None:
            return self._cgroup.pids()
        return self._family.pids() if self._family is not None else []

    def signal_all(self, number: int) -> None:
        """Each by its pidfd."""
        send_all(self.pids(), number)

    def kill_leftovers(self) -> None:
        """With a pid namespace of its own the kernel has done it; with the host's, this does."""
        if self._cgroup is not None:
            self._cgroup.kill()
        elif self._family is not None:
            self._family.kill_orphans()


class OciExec:
    """A process that the runtime adds to its container; it is not held: made and started are one."""

    def __init__(self, runtime: OciRuntime, files: ExecFiles) -> None:
        self._runtime = runtime
        self._files = files

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Its pid."""
        return await self._runtime.exec(self._files, fds, console)

    async def start(self) -> None:
        """It runs already."""

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """None."""
        return {}

    def made(self) -> int | None:
        """The runtime writes its pid file last."""
        return self._files.pid()

    def adopt(self, kept: dict[str, int]) -> None:
        """It waits on nothing of the shim's."""

    def is_started(self) -> bool:
        """It is, if it is made."""
        return True

    def let_go(self) -> None:
        """It is not held."""

    def ended(self) -> None:
        """The runtime keeps nothing of it."""
