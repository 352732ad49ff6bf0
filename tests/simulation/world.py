"""One seed's world: the kernel, a folder on the disk, the processes, the clients; and the faults that are drawn for it."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import time as real_time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors import config as configs
from actors import launcher, sockets
from actors.api import frontend
from actors.api.keys import Keys
from actors.disk import DiskActor
from actors.runtimes import Runtimes
from actors.store.actor import Store
from shimproc import crash, flow, linux, mounts, reaper
from shimproc.cgroups import Cgroup
from shimproc.freezer import freeze, thaw
from shimproc.loop import Loop as RealLoop
from shimproc.process import estate
from shimproc.runtimes import descendants
from shimproc.runtimes.probe import Probe
from tests.simulation import programs, runtime, system, wire
from tests.simulation.kernel import Kernel, Process
from tests.simulation.loop import SimLoop
from tests.simulation.sockets import Listener, SocketModule, Stream
from tests.simulation.stage import STAGE


class World:
    """What there is beside the kernel."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        kernel = self.kernel = STAGE.kernel = Kernel(seed)
        STAGE.world = self
        self.random = kernel.random
        self.folder = folder
        self.points: set[str] = set()
        self.locks: dict[int, Process] = {}
        self.listeners: dict[tuple[int, str], Listener] = {}
        self.published: list[tuple[int, bytes, bytes]] = []
        self.clients: dict[bytes, Any] = {}
        self.complaints: list[str] = []
        self.daemons: dict[int, Any] = {}
        self.forkservers: dict[int, Any] = {}
        self.shims: dict[int, Any] = {}
        self.daemon: Process | None = None
        self.forkserver: Process | None = None
        self.api: wire.SimZmq | None = None
        self.wanted = True
        self.forks_from = 0
        with kernel.running(kernel.init):
            self.loop = SimLoop()
        kernel.tells_exit = self.random.random() < 0.85
        kernel.pids = 40 if self.random.random() < 0.15 else 0
        self.runtime = runtime.Runtime(kernel, self.loop, kills_frozen=self.random.random() < 0.5)
        flags = {"state": str(folder / "state"), "root": str(folder / "root")}
        self.config = configs.load(flags, environ={"SHIMYARD_CONFIG": "/dev/null"})
        for name in ("state", "root"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # -- what the stand-ins ask

    def spawned(self, path: str, argv: Any) -> int:
        """posix_spawn(3)."""
        self.may_fork()
        if "shimproc.forkserver" in argv:
            return programs.start_forkserver(argv[-1])
        return self.runtime.spawned(argv)

    def serve(self, api: wire.SimZmq) -> None:
        """A daemon's socket is bound."""
        self.api = api
        self.kernel.current.cleanups.append(self._unserve)
        for client in self.clients.values():
            client.on_served()

    def _unserve(self) -> None:
        self.api = None
        for client in self.clients.values():
            client.on_lost()

    def complain(self, text: str) -> None:
        """Something is wrong that must not be."""
        self.complaints.append(text)
        self.kernel.say(f"COMPLAINT {text}")

    # -- what is true

    def untrue(self, told: Any) -> str:
        """What is wrong with an exit that was told; "" if nothing is."""
        ended = self.kernel.deaths.get(told["pid"])
        if ended is None:
            return f"the process {told} has not ended"
        wrong = [self._untrue(told, process) for process in ended]  # several may have had the pid
        return "" if "" in wrong else wrong[-1]

    def _untrue(self, told: Any, process: Process) -> str:
        if told.get("reason") == "start-failed":
            return "" if told["exit_status"] in (126, 127) else f"no status of a failed start: {told}"
        code = os.waitstatus_to_exitcode(process.status)
        truth = code if code >= 0 else 128 - code
        if told.get("reason") == "shim-lost":
            if told["exit_status"] != 255:
                return f"shim-lost, with a status of its own: {told}"
            by = process.reaped_by
            known = by is not None and by is not self.kernel.init and (by.alive or by.kind == "shim")
            return f"its status was known to {by}: {truth}, told: {told}" if known else ""
        return "" if told["exit_status"] == truth else f"it ended with {truth}, told: {told}"

    def check_exit(self, what: str, told: Any) -> None:
        """Of an answer."""
        why = self.untrue(told) if told else "no exit"
        if why:
            self.complain(f"{what}: {why}")

    # -- daemons and faults

    def start_daemon(self) -> None:
        """And again whenever it has ended, while it is wanted."""
        process = self.daemon = programs.start_daemon(self.config)

        def ended() -> None:
            if self.wanted:
                self.loop.call_later(self.random.random() * 0.2, self.start_daemon)

        process.cleanups.append(ended)

    def living(self, kind: str) -> list[Process]:
        """Processes of a kind."""
        return [one for one in self.kernel.processes.values() if one.kind == kind and one.alive]

    def fault(self, kind: str) -> None:
        """Something happens."""
        draw = self.random
        if kind == "stop":
            for process in draw.sample(self.living("shim"), min(1, len(self.living("shim")))):
                self.kernel.say(f"{process} is stopped")
                self.kernel.stop(process, draw.choice((0.05, 1.0, 8.0, 30.0)), self.loop)
        elif kind == "term":
            for process in self.living("daemon"):
                self.kernel.say(f"{process} is to stop")
                self.kernel.interrupt(process, signal.SIGTERM)
        elif kind == "clock":
            self.kernel.wall += draw.choice((-3600, -1, 1, 300)) * 10**9
        elif kind == "no forks":
            self.forks_from = self.kernel.now + int(draw.random() * 3 * 10**9)
        elif kind == "cut":
            self._cut()
        else:
            self.kill(kind)

    def _cut(self) -> None:
        """A link between the daemon and a shim is closed, as by one that was too far behind."""
        streams = [file for file, owner in self.kernel.fds.values() if isinstance(file, Stream) and owner.kind == "daemon"]
        links = [one for one in streams if one.peer is not None and one.peer.owner.kind in ("shim", "daemon")]
        if links:
            self.kernel.say("a link is cut")
            end = self.random.choice(links)
            for one in (end, end.peer):
                assert one is not None
                one.cut()

    def may_fork(self) -> None:
        """``OSError`` while the host is at its bound of processes."""
        if self.kernel.now < self.forks_from:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    def kill(self, kind: str) -> None:
        """One of a kind: now, or in the midst of one of its next calls."""
        found = self.living(kind)
        if not found:
            return
        victim = self.random.choice(found)
        if self.random.random() < 0.5:
            victim.doom = self.random.randrange(1, 60)
            self.kernel.say(f"{victim} will be killed after {victim.doom} calls")
        else:
            self.kernel.say(f"{victim} is killed")
            self.kernel.end(victim, signal.SIGKILL)

    def close(self) -> None:
        """Everything ends."""
        self.wanted = False
        for process in list(self.kernel.processes.values()):
            if process is not self.kernel.init:
                process.cleanups = [one for one in process.cleanups if getattr(one, "__name__", "") == "close"]
                self.kernel.end(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


class Probed:
    """In place of ``Runtimes``: what a probe of this host finds."""

    @staticmethod
    def probe(state: Path, preferred: str) -> Runtimes:
        return Runtimes(state, preferred, tuple(Probe(name, f"/bin/{name}", "1.0", True, "") for name in ("crun", "process")))


class Mounts:
    """In place of ``shimproc.mounts``."""

    @staticmethod
    def mount_all(*_: Any) -> None:
        STAGE.kernel.enter()

    @staticmethod
    def unmount_all(*_: Any) -> None:
        """Nothing is mounted."""


def _registering(start: Any) -> Any:
    """``flow.start``, whose coroutines end with the process that began them."""

    def begin(coroutine: Any) -> Any:
        STAGE.kernel.current.flows.append(coroutine)
        return start(coroutine)

    return begin


def _keys(*args: Any, **kwargs: Any) -> Keys:
    return Keys(*args, clock=system.TimeModule.monotonic, **kwargs)


@contextmanager
def on_stage() -> Iterator[None]:
    """The product stands on the simulated host."""


    swaps = {
        os: system.OsModule(),
        real_time: system.TimeModule(),
        socket: SocketModule(),
        signal: system.SignalModule(),
        secrets: system.SecretsModule(),
        fcntl: system.FcntlModule(),
        linux: system.LinuxModule(),
        mounts: Mounts(),
        RealLoop: SimLoop,
        reaper.children: system.children,
        estate.begun: system.begun,
        crash.point: system.point,
        Cgroup: runtime.SimCgroup,
        descendants.Family: runtime.SimFamily,
        descendants.naming: runtime.naming,
        freeze: runtime.freeze,
        thaw: runtime.thaw,
        flow.start: _registering(flow.start),
        sockets.bind_ipc: wire.bind_ipc,
        frontend.check_peer_address: lambda *_: True,
        Store: programs.SimStore,
        DiskActor: programs.SimDisk,
        Runtimes: Probed,
        Keys: _keys,
        launcher._oom_score: lambda: 0,
    }
    alone = {("actors.daemon", "zmq"): wire.ZmqModule()}
    with system.interposed({id(real): stand_in for real, stand_in in swaps.items()}, alone):
        yield


logging.getLogger("pykka").setLevel(logging.CRITICAL)
