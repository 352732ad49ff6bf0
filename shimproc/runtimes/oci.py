"""An OCI runtime by its command line (crun(1), runc(8)): a record of options, a method a verb, one place for the command.

The container's stdio is the runtime's own on ``create``, and init keeps what it inherits: so the runtime tells its errors
by ``--log``, and no pipe that anyone waits on is ever given to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shimproc.cgroups import Cgroup
from shimproc.errors import NotFound, Unavailable
from shimproc.reaper import Reaper
from shimproc.runtimes.failures import Failure, explain
from shimproc.spawn import Command, run

PID_FILE = "init.pid"
LOG = "runtime.log"
_TAIL = 4096


@dataclass(frozen=True, slots=True)
class OciOptions:
    """``command``: the runtime's path; ``root``: where it keeps its state."""

    command: str
    root: str
    bundle: str
    id: str
    systemd_cgroup: bool = False
    no_pivot_root: bool = False
    no_new_keyring: bool = False


class OciRuntime:
    """The verbs for one container."""

    def __init__(self, options: OciOptions, reaper: Reaper) -> None:
        self._options = options
        self._reaper = reaper
        self._log = f"{options.bundle}/{LOG}"

    async def create(self, fds: tuple[int, int, int]) -> int:
        """Returns init's pid."""
        options = self._options
        pid_file = f"{options.bundle}/{PID_FILE}"
        args = ["--bundle", options.bundle, "--pid-file", pid_file]
        if options.no_pivot_root:
            args.append("--no-pivot")
        if options.no_new_keyring:
            args.append("--no-new-keyring")
        await self._run("create", [*args, options.id], fds)
        with open(pid_file) as file:
            return int(file.read())

    async def start(self) -> None:
        """Let init go."""
        await self._run("start", [self._options.id])

    async def delete(self) -> None:
        """Remove the container, killing it if it runs; one that does not exist is removed already."""
        try:
            await self._run("delete", ["--force", self._options.id])
        except NotFound:
            return

    async def _run(self, verb: str, args: list[str], fds: tuple[int, int, int] | None = None) -> None:
        options = self._options
        argv = [options.command, "--root", options.root, "--log", self._log, "--log-format", "json"]
        if options.systemd_cgroup:
            argv.append("--systemd-cgroup")
        argv += [verb, *args]
        seen = self._log_size()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            status = await run(self._reaper, Command(tuple(argv), *(fds or (null, null, null))))
        finally:
            os.close(null)
        if status != 0:
            raise explain(Failure(verb, " ".join(argv), status, self._log_since(seen)))

    def _log_size(self) -> int:
        try:
            return os.stat(self._log).st_size
        except FileNotFoundError:
            return 0

    def _log_since(self, offset: int) -> list[str]:
        """The messages that the runtime has logged since then, last one last."""
        try:
            with open(self._log, "rb") as file:
                file.seek(max(offset, os.fstat(file.fileno()).st_size - _TAIL))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [_message(line) for line in lines if line.strip()]


class OciBackend:
    """A container of an OCI runtime, as the shim sees it."""

    def __init__(self, runtime: OciRuntime) -> None:
        self._runtime = runtime
        self._cgroup: Cgroup | None = None

    async def create(self, fds: tuple[int, int, int]) -> int:
        """Init's pid; its cgroup is remembered, to find the rest of the container by."""
        pid = await self._runtime.create(fds)
        self._cgroup = Cgroup.of(pid)
        return pid

    async def start(self) -> None:
        """Let init go."""
        await self._runtime.start()

    async def delete(self, *, force: bool) -> None:  # noqa: ARG002 - a runtime refuses to delete what was only created
        """Remove what the runtime keeps."""
        await self._runtime.delete()

    def pids(self) -> list[int]:
        """By the cgroup."""
        if self._cgroup is None:
            raise Unavailable("the container's cgroup is not known")
        return self._cgroup.pids()

    def signal_all(self, number: int) -> None:
        """By the cgroup, each by its pidfd."""
        if self._cgroup is not None:
            self._cgroup.signal_all(number)

    def kill_leftovers(self) -> None:
        """With a pid namespace of its own the kernel has done it; with the host's, this does."""
        if self._cgroup is not None:
            self._cgroup.kill()


def _message(line: str) -> str:
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("msg", line)) if isinstance(entry, Mapping) else line
