"""An OCI runtime by its command line (crun(1), runc(8)): a record of options, a method a verb, one command-maker.

The container's stdio is the runtime's own on ``create``, and init keeps what it inherits: so the runtime tells its
errors by ``--log``, and no pipe that anyone waits on is ever given to it. A later verb's stderr goes to a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shimproc import userns
from shimproc.cgroups import Cgroup
from shimproc.errors import InvalidArgument, NotFound, ShimyardError, Unknown
from shimproc.io.console import Console
from shimproc.messages import Checkpoint
from shimproc.reaper import Reaper, send_all
from shimproc.runtimes import criu
from shimproc.runtimes.backend import ExecFiles, Images, unlink
from shimproc.runtimes.descendants import naming, session
from shimproc.runtimes.failures import Failure, explain
from shimproc.runtimes.outside import home_with, to_dump, to_restore
from shimproc.runtimes.told import errors_in, read, size, try_to_write
from shimproc.spawn import Command, environment, run

PID_FILE: Final = "init.pid"
LOG: Final = "runtime.log"
STDERR: Final = "runtime.stderr"
RESOURCES: Final = "resources.json"
_TOLD: Final = 4096
_SETTLE_SECONDS: Final = 10.0
_SETTLE_SECONDS_OF_CRIU: Final = 60.0
"""All of a task's memory goes to the disk, or comes from it."""
_SETTLE_TRIES: Final = 8
_PRIVATE: Final = 0o077
"""What is written there is the container's memory."""
_OF_CRUN: Final = ".proxy-crun"
"""Below a container's cgroup: crun restores by way of it, and leaves it when that fails."""


@dataclass(frozen=True, slots=True)
class OciOptions:
    """``command``: the runtime's path; ``root``: where it keeps its state; ``bundle`` also gets log and pid file."""

    command: str
    root: str
    bundle: str
    id: str
    systemd_cgroup: bool = False
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    criu: str | None = None


class OciRuntime:
    """The verbs for one container. Each raises what ``failures`` makes of the runtime's last error."""

    def __init__(self, options: OciOptions, reaper: Reaper) -> None:
        self._options = options
        self._reaper = reaper
        self._log = f"{options.bundle}/{LOG}"
        self._stderr = f"{options.bundle}/{STDERR}"

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Init's pid. ``fds`` are its 0, 1 and 2 unless it has a terminal, and the runtime's own while it works."""
        more = ["--no-new-keyring"] if self._options.no_new_keyring else []
        await self._run("create", [*self._making(console), *more, self._options.id], fds)
        return self._made("created")

    def refuse_limits(self) -> None:
        """``FailedPrecondition`` where the bundle's spec asks for what nobody could hold to."""
        with open(f"{self._options.bundle}/config.json", "rb") as config:  # noqa: PTH123 - pathlib costs the shim memory
            userns.refuse_limits((json.load(config).get("linux") or {}).get("resources") or {})

    async def checkpoint(self, request: Checkpoint, outside: Mapping[str, int]) -> None:
        """To the folder. ``FailedPrecondition`` with CRIU's own reasons; the container goes on then, as far as it can."""
        log = f"{request.work_path}/{criu.DUMP_LOG}"
        env = self._for_criu(to_dump(outside))
        await self._have_criu("checkpoint", [*criu.dump_args(request), self._options.id], log, None, env)

    async def restore(self, images: Images, fds: tuple[int, int, int], console: Console | None) -> int:
        """Init's pid, running. ``fds`` are in the places of those that it had."""
        criu.make_work(images.work_path, criu.RESTORE_LOG)
        unlink(f"{self._options.bundle}/{PID_FILE}")
        args = ["--detach", *self._making(console), *criu.restore_args(images), self._options.id]
        env = self._for_criu(to_restore(images.outside))
        await self._have_criu("restore", args, f"{images.work_path}/{criu.RESTORE_LOG}", fds, env)
        return self._made("restored")

    def _for_criu(self, config: list[str]) -> Mapping[str, str]:
        options, env = self._options, dict(environment())
        if options.criu is not None:
            env["PATH"] = criu.search_path(options.criu, options.bundle, env.get("PATH", os.defpath))
        if config:
            env["HOME"] = home_with(config, options.bundle, env.get("HOME", "/"))
        return env

    async def _have_criu(
        self, verb: str, args: list[str], log: str, fds: tuple[int, int, int] | None, env: Mapping[str, str]
    ) -> None:
        try:
            await self._run(verb, args, fds, env)
        except ShimyardError as error:
            raise criu.explained(error, verb, log) from None

    def _making(self, console: Console | None) -> list[str]:
        options = self._options
        args = ["--bundle", options.bundle, "--pid-file", f"{options.bundle}/{PID_FILE}"]
        return [*args, *(["--no-pivot"] if options.no_pivot_root else []), *_for_terminal(console)]

    def _made(self, how: str) -> int:
        pid, options = self.made(), self._options
        if pid is None:
            raise Unknown(f"{options.command} {how} {options.id} and left no pid in {options.bundle}/{PID_FILE}")
        return pid

    async def start(self) -> None:
        """Let init go."""
        await self._run("start", [self._options.id])

    async def exec(self, files: ExecFiles, fds: tuple[int, int, int], console: Console | None) -> int:
        """One more process, which runs at once; its pid."""
        args = ["--detach", "--process", files.process, "--pid-file", files.pid_file]
        args += [*_for_terminal(console), self._options.id]
        await self._run("exec", args, fds)
        pid = files.pid()
        if pid is None:
            raise Unknown(f"{self._options.command} made a process in {self._options.id} and left no pid in {files.pid_file}")
        return pid

    async def update(self, resources: Mapping[str, Any]) -> None:
        """Change the limits that are named."""
        path = f"{self._options.bundle}/{RESOURCES}"
        _write(path, json.dumps(resources))
        await self._run("update", ["--resources", path, self._options.id])

    async def status(self) -> str:
        """``created``, ``running``, ``paused`` or ``stopped`` (runtime-spec, "State"); ``NotFound`` if there is none."""
        written = size(self._stderr)
        await self._run("state", [self._options.id])
        told = read(self._stderr, written)
        try:
            return str(json.loads(told[told.index("{") : told.rindex("}") + 1])["status"])
        except (ValueError, KeyError) as error:
            raise Unknown(f"{self._options.command} told no state of {self._options.id}: {told[:200]!r}") from error

    async def settle(self, reaper: Reaper, seconds: float | None = None) -> None:
        """Wait for commands about this container that a killed shim has left; one that takes longer is killed.

        A held init may bear the name of the command that made it; it is known by its pid file, the last thing a create writes.
        """
        for _ in range(_SETTLE_TRIES):
            left = sorted(set(naming(self._options.id)) - {self.made()})
            if not left:
                return
            by_criu = left[0] in (*naming("checkpoint"), *naming("restore"))
            await reaper.ended(left[0], seconds or (_SETTLE_SECONDS_OF_CRIU if by_criu else _SETTLE_SECONDS))
            if left[0] != self.made() and left[0] in naming(self._options.id):  # its pid is not another's by now
                send_all(session(left[0]), signal.SIGKILL)
                await reaper.ended(left[0], _SETTLE_SECONDS)

    async def delete(self) -> None:
        """Remove the container, killing it if it runs; one that does not exist is removed already."""
        with contextlib.suppress(OSError):  # somebody may have removed it by hand, and the runtime logs into it
            os.makedirs(self._options.bundle, 0o711, exist_ok=True)  # noqa: PTH103 - pathlib costs the shim memory
        with contextlib.suppress(NotFound):
            await self._run("delete", ["--force", self._options.id])
        unlink(f"{self._options.bundle}/{PID_FILE}")

    def remove_cgroup(self) -> None:
        """What a create or restore that failed may have left: crun makes the cgroup, then sets limits, and deletes what it knows.

        One with processes or cgroups in it is another's. systemd ends a scope without processes by itself.
        """
        if self._options.systemd_cgroup:
            return
        with contextlib.suppress(OSError, ValueError, InvalidArgument):  # no bundle, no such spec, or no cgroup of a task
            with open(f"{self._options.bundle}/config.json", "rb") as config:  # noqa: PTH123 - pathlib costs the shim memory
                path = (json.load(config).get("linux") or {}).get("cgroupsPath")
            cgroup = Cgroup.at(path or f"/{self._options.id}")
            cgroup.remove_inner(_OF_CRUN)
            if not cgroup.occupied():
                cgroup.remove()

    def made(self) -> int | None:
        """Init's pid, by the pid file, which is written last; None if that is not there, or not whole."""
        try:
            return int(read(f"{self._options.bundle}/{PID_FILE}", 0))
        except (OSError, ValueError):
            return None

    def _command(self, verb: str, args: list[str]) -> tuple[str, ...]:
        options = self._options
        argv = [options.command, "--root", options.root, "--log", self._log, "--log-format", "json"]
        if userns.is_ordinary():
            argv += userns.without_cgroups(os.path.basename(options.command))  # noqa: PTH119 - pathlib costs the shim memory
        if options.systemd_cgroup:
            argv.append("--systemd-cgroup")
        return (*argv, verb, *args)

    async def _run(
        self, verb: str, args: list[str], fds: tuple[int, int, int] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        argv = self._command(verb, args)
        logged, written = size(self._log), size(self._stderr)
        with self._stdio(fds) as (stdin, stdout, stderr):
            command = Command(argv, stdin, stdout, stderr, env or environment(), _PRIVATE if verb == "checkpoint" else None)
            status = await run(self._reaper, command)
        if status != 0:
            errors = tuple(errors_in(read(self._log, logged)))
            told = read(self._stderr, written) if fds is None or errors else await self._ask_what_ails(written)
            if not errors and not told.strip():
                try_to_write(self._log)
            raise explain(Failure(verb, " ".join(argv), status, errors, told[-_TOLD:]))

    async def _ask_what_ails(self, written: int) -> str:
        """Its stderr went to the container's, and its log is empty: it may not even be able to start, so let it say that."""
        with self._stdio(None) as (stdin, stdout, stderr), contextlib.suppress(ShimyardError):
            command = Command((self._options.command, "--version"), stdin, stdout, stderr, environment())
            if await run(self._reaper, command) == 0:
                return ""
        return read(self._stderr, written)

    @contextlib.contextmanager
    def _stdio(self, fds: tuple[int, int, int] | None) -> Iterator[tuple[int, int, int]]:
        """The given ones; else nothing to read, and a file for what is written, unless the disk has no room for one."""
        if fds is not None:
            yield fds
            return
        with contextlib.ExitStack() as opened:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            opened.callback(os.close, null)
            out = null
            with contextlib.suppress(OSError):
                out = os.open(self._stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                opened.callback(os.close, out)
            yield null, out, out


def _for_terminal(console: Console | None) -> list[str]:
    return [] if console is None else ["--console-socket", console.path]


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - pathlib costs the shim memory
        file.write(text)
