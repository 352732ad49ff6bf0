"""An OCI runtime of the simulated host, and the containers that it makes: what a command of ``oci.py`` finds.

A command is a process like any other: it goes on when its shim is killed, and does its deed at a moment of its own. What a
program does is in its args: ``job SECONDS STATUS TERM``; SECONDS may be ``-`` (for ever), and TERM says what SIGTERM does:
``die``, ``ignore``, or a status with which it ends a little later. ``missing`` is a program that is not there.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shimproc.runtimes.oci import LOG, STDERR
from tests.simulation.kernel import Kernel, Process
from tests.simulation.loop import SimLoop
from tests.simulation.stage import STAGE

FLAGS_ALONE = ("--detach", "--force", "--no-pivot", "--no-new-keyring", "--systemd-cgroup")


class CommandFailed(Exception):  # noqa: N818 - as crun words it
    """What the command logs before it ends with status 1."""


class Container:
    """``state``: created, running, stopped. ``members``: its living processes by pid."""

    def __init__(self, name: str, bundle: str) -> None:
        self.name = name
        self.bundle = bundle
        self.init: Process | None = None
        self.started = False
        self.frozen = False
        self.members: dict[int, Process] = {}
        self.waiting: list[Callable[[], None]] = []

    @property
    def state(self) -> str:
        """As ``state`` tells it."""
        if self.init is None or not self.init.alive:
            return "stopped"
        return "paused" if self.frozen else "running" if self.started else "created"

    def thaw(self) -> None:
        """What waited for it happens."""
        self.frozen = False
        waiting, self.waiting = self.waiting, []
        for deed in waiting:
            deed()


class Runtime:
    """All containers, and the commands about them.

    Parameters
    ----------
    loop : of the host, on which time passes for commands and programs.
    kills_frozen : does SIGKILL end a frozen process (cgroup v2), or only once it is thawed (v1)?
    """

    def __init__(self, kernel: Kernel, loop: SimLoop, *, kills_frozen: bool) -> None:
        self.kernel = kernel
        self.loop = loop
        self.kills_frozen = kills_frozen
        self.containers: dict[str, Container] = {}
        self.commands: dict[int, str] = {}
        self.made: list[str] = []
        self.started: list[str] = []
        self.slowest = 0.02

    # -- commands

    def spawned(self, argv: Sequence[str]) -> int:
        """A command begins; its pid."""
        verb, flags, name = _parsed(argv)
        command = self.kernel.spawn("command", f"crun-{verb}")
        command.session = command.pid
        self.commands[command.pid] = name
        command.cleanups.append(lambda: self._over(command))
        deeds = getattr(self, f"_{verb}")(command, name, flags)
        self._go_on(command, deeds, flags)
        return command.pid

    def _over(self, command: Process) -> None:
        self.commands.pop(command.pid, None)

    def _go_on(self, command: Process, deeds: Any, flags: dict[str, str]) -> None:
        """Its steps, each a while after the one before."""

        def step() -> None:
            if not command.alive:
                return
            with self.kernel.running(command):
                try:
                    next(deeds)
                except StopIteration:
                    self.kernel.exit(command, 0)
                except CommandFailed as error:
                    _append(flags["--log"], json.dumps({"level": "error", "msg": str(error)}) + "\n")
                    self.kernel.exit(command, 1)
                else:
                    self._later(step)

        self._later(step)

    def _later(self, deed: Callable[[], None]) -> None:
        draw = self.kernel.random
        if draw.random() < 0.4:
            self.loop.call_soon(deed)
        else:
            self.loop.call_later(draw.random() * self.slowest, deed)

    def _create(self, command: Process, name: str, flags: dict[str, str]) -> Any:
        if name in self.containers:
            raise CommandFailed(f"container `{name}` already exists")
        spec = json.loads((Path(flags["--bundle"]) / "config.json").read_bytes())
        if spec["process"]["args"][0] == "uncreatable":
            raise CommandFailed("mount `/nowhere`: invalid argument")
        yield
        if name in self.containers:
            raise CommandFailed(f"container `{name}` already exists")
        container = self.containers[name] = Container(name, flags["--bundle"])
        self.made.append(name)
        init = container.init = self._member(container, command, "init")
        init.name = f"init-{name[:8]}"
        init.on_signal = lambda number: self._on_signal(container, init, number, "die")
        yield
        Path(flags["--pid-file"]).write_text(str(init.pid))
        yield

    def _start(self, _command: Process, name: str, _flags: dict[str, str]) -> Any:
        container = self._known(name)
        if container.state != "created":
            raise CommandFailed(f"container `{name}` is not in `created` or `stopped` state")
        args = self._args(container)
        yield
        if container.state != "created" or container.init is None:
            raise CommandFailed("the process: No such process")
        if args[0] == "missing":
            self.kernel.exit(container.init, 1)
            raise CommandFailed("executable file `missing` not found in $PATH: No such file or directory")
        container.started = True
        self.started.append(name)
        self._program(container, container.init, args)
        yield

    def _exec(self, command: Process, name: str, flags: dict[str, str]) -> Any:
        container = self._known(name)
        args = json.loads(Path(flags["--process"]).read_bytes())["args"]
        yield
        if container.state not in ("running", "created"):
            raise CommandFailed(f"the container `{name}` is not running")
        if args[0] == "missing":
            raise CommandFailed("executable file `missing` not found in $PATH: No such file or directory")
        process = self._member(container, command, "exec")
        self._program(container, process, args)
        if self.kernel.random.random() < 0.5:
            yield
        Path(flags["--pid-file"]).write_text(str(process.pid))
        yield

    def _state(self, _command: Process, name: str, flags: dict[str, str]) -> Any:
        container = self._known(name)
        _append(str(Path(flags["--log"]).with_name(STDERR)), json.dumps({"status": container.state}))
        yield

    def _update(self, _command: Process, name: str, _flags: dict[str, str]) -> Any:
        self._known(name)
        yield

    def _delete(self, _command: Process, name: str, _flags: dict[str, str]) -> Any:
        container = self._known(name)
        if container.init is not None:
            self.kernel.signal(container.init, signal.SIGKILL)
            container.thaw()
        yield
        for process in list(container.members.values()):
            self.kernel.signal(process, signal.SIGKILL)
        self.containers.pop(name, None)
        yield

    def _known(self, name: str) -> Container:
        found = self.containers.get(name)
        if found is None:
            raise CommandFailed(f"container `{name}` does not exist")
        return found

    # -- programs

    def _member(self, container: Container, parent: Process, name: str) -> Process:
        process = self.kernel.spawn("task", name, parent)
        process.session = process.pid
        container.members[process.pid] = process

        def gone() -> None:
            container.members.pop(process.pid, None)
            if process is container.init:  # a pid namespace of its own ends with its first process
                for other in list(container.members.values()):
                    self.kernel.signal(other, signal.SIGKILL)

        process.cleanups.append(gone)
        return process

    @staticmethod
    def _args(container: Container) -> list[str]:
        spec = json.loads((Path(container.bundle) / "config.json").read_bytes())
        return list(spec["process"]["args"])

    def _program(self, container: Container, process: Process, args: list[str]) -> None:
        _, seconds, status, term = args
        process.on_signal = lambda number: self._on_signal(container, process, number, term)
        if seconds != "-":
            self.loop.call_later(float(seconds), lambda: self._when_thawed(container, process, int(status)))

    def _when_thawed(self, container: Container, process: Process, status: int) -> None:
        if container.frozen:
            container.waiting.append(lambda: self._when_thawed(container, process, status))
        else:
            self.kernel.end(process, status << 8)

    def _on_signal(self, container: Container, process: Process, number: int, term: str) -> None:
        if number == 0:
            return
        deadly = number == signal.SIGKILL and (self.kills_frozen or not container.frozen)
        if container.frozen and not deadly:
            container.waiting.append(lambda: self._on_signal(container, process, number, term))
        elif number == signal.SIGKILL or term == "die":
            self.kernel.end(process, number)
        elif term != "ignore":
            delay = self.kernel.random.random() * 0.01
            self.loop.call_later(delay, lambda: self._when_thawed(container, process, int(term)))


class SimCgroup:
    """In place of ``shimproc.cgroups.Cgroup``: of a container."""

    def __init__(self, container: Container) -> None:
        self.container = container

    @classmethod
    def of(cls, pid: int) -> SimCgroup | None:
        for container in STAGE.world.runtime.containers.values():
            if container.init is not None and container.init.pid == pid:
                return cls(container) if pid in STAGE.kernel.processes else None
        return None

    @classmethod
    def at(cls, _path: str) -> SimCgroup:
        return cls(Container("", ""))

    @classmethod
    def below_ours(cls, path: str) -> SimCgroup:
        return cls.at(path)

    def folder(self, _controller: str) -> None:
        """Nothing is counted here: neither what is used nor whom the OOM killer strikes."""

    def pids(self) -> list[int]:
        return sorted(self.container.members)

    def kill(self) -> None:
        kernel = STAGE.kernel
        kernel.enter()
        for process in list(self.container.members.values()):
            kernel.signal(process, signal.SIGKILL)

    def occupied(self) -> bool:
        return bool(self.container.members)

    def remove(self) -> bool:
        return True

    def remove_inner(self, _prefix: str) -> None:
        """None is made within."""


class SimFamily:
    """In place of ``Family``: containers have cgroups here."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def pids(self) -> list[int]:
        return []

    def kill_orphans(self) -> None:
        """None."""


async def freeze(cgroup: SimCgroup, _reaper: Any) -> None:
    """In place of ``shimproc.freezer.freeze``."""
    STAGE.kernel.enter()
    cgroup.container.frozen = True
    await _reaper.after(STAGE.kernel.random.random() * 0.003)


def thaw(cgroup: SimCgroup) -> None:
    """In place of ``shimproc.freezer.thaw``."""
    STAGE.kernel.enter()
    cgroup.container.thaw()


def naming(word: str) -> list[int]:
    """In place of ``shimproc.runtimes.descendants.naming``: commands about a container."""
    return [pid for pid, name in STAGE.world.runtime.commands.items() if name == word]


def _parsed(argv: Sequence[str]) -> tuple[str, dict[str, str], str]:
    flags: dict[str, str] = {}
    words: list[str] = []
    rest = iter(argv[1:])
    for word in rest:
        if word in FLAGS_ALONE:
            flags[word] = ""
        elif word.startswith("--"):
            flags[word] = next(rest)
        else:
            words.append(word)
    return words[0], flags, words[1]


def _append(path: str, text: str) -> None:
    with contextlib.suppress(FileNotFoundError), open(path, "a") as file:  # noqa: PTH123 - its bundle may be gone
        file.write(text)


__all__ = ["LOG", "Runtime", "SimCgroup", "SimFamily", "freeze", "naming", "thaw"]
