"""The composition root: the only file that knows every room. Builds in order, runs, stops in reverse.

    folders, lock ─▶ sockets ─▶ store ─▶ exchange ─▶ monitor, runtime ─▶ tasks taken back ─▶ front end ─▶ READY=1

A stop ends the daemon, not the tasks: their shims live on, and the next daemon takes them back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pykka
import zmq

from actors import folders, restore, subscribers
from actors.about import AboutActor
from actors.api.frontend import Access, FrontEnd, check_peer_address
from actors.api.keys import Keys
from actors.api.watch import Watcher
from actors.boot import Boot
from actors.catalog import Catalog
from actors.config import Config
from actors.curve import Gate, ServerKeys, bind_more
from actors.diagnostics import configure
from actors.disk import Disk, DiskActor
from actors.dispatch import post
from actors.exchange import Bounds, Exchange, ExchangeClient, UseStore
from actors.launcher import Launcher, LaunchSettings
from actors.logs import LogsActor
from actors.measures import Meter
from actors.messages import Read
from actors.metrics.actor import MetricsActor, Sources
from actors.metrics.endpoint import Endpoint
from actors.monitor import MonitorActor
from actors.notify import notify
from actors.registry import Registry
from actors.release import NAME, VERSION
from actors.relics import Relics
from actors.runtime import Parts, RuntimeActor, Salvaged
from actors.runtimes import Runtimes
from actors.sockets import bind_ipc
from actors.store.actor import Store
from actors.store.containers import load_containers
from actors.store.database import open_database
from actors.store.events import bounds
from actors.store.idempotency import KeyRow, load_keys
from actors.store.namespaces import load_namespaces
from actors.store.supervision import load_supervision
from actors.store.tasks import TaskRow, load_tasks
from actors.supervision.book import Book
from actors.supervision.restarter import Restarter, Yard
from actors.supervision.watchman import Watchman
from actors.task.tools import LogLimits, Tools, log_path
from shimproc.errors import FailedPrecondition, ShimyardError
from shimproc.flow import Pending, spawn
from shimproc.loop import Loop
from shimproc.reaper import Reaper

log = logging.getLogger(__name__)
DATABASE = "shimyard.db"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the disk knows at the start."""

    catalog: Catalog
    tasks: list[TaskRow]
    salvaged: list[Salvaged]
    known: dict[str, int]
    keys: list[KeyRow]
    supervision: dict[tuple[str, str], dict[str, Any]]
    bounds: tuple[int, int]

    @property
    def former(self) -> list[TaskRow]:
        """Every task that a former daemon has left."""
        return [*self.tasks, *(one.row for one in self.salvaged)]


def main(config: Config) -> int:
    """Run a daemon in the foreground until SIGTERM or SIGINT; 0. ``ShimyardError`` if it cannot be started."""
    configure(config["log.level"], config["log.format"])
    try:
        _serve(config)
    except ShimyardError as error:
        if config["log.format"] == "text":
            raise  # the command line tells people
        log.critical("%s", error)
        return 1
    return 0


def _serve(config: Config) -> None:
    os.umask(folders.UMASK)
    folders.prepare(config.state, config.root)
    lock = folders.lock(config.state)
    try:
        Daemon(config).run()
    finally:
        os.close(lock)


class Daemon:
    """Builds and runs."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = Loop()
        self._context: zmq.Context[Any] = zmq.Context()
        self._registry = Registry()
        self._bounds = Bounds(daemon={"name": NAME, "version": VERSION, "pid": os.getpid()})
        self._stops: list[pykka.ActorRef[Any]] = []
        self._endpoint: Endpoint | None = None

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            self._build()
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.on_signal(number, self._on_stop)
            notify("READY=1")
            log.info("serving %s", self._config.state)
            self._loop.run()
        finally:
            self._stop()

    def _build(self) -> None:
        config = self._config
        loaded = self._load()
        loop = self._loop
        self._ready_outside()
        api = self._bind(zmq.ROUTER, "api")
        events = self._bind(zmq.XPUB, "events")
        self._disk_ref = DiskActor.start(loop.call_from_thread)
        disk = Disk(self._disk_ref)
        most = config["events.subscriptions_per_client"]
        exchange_ref = self._started(Exchange.start(loop, events, self._bounds, config["events.keep"], most))
        self._store = Store.start(
            path=config.root / DATABASE,
            keep=config["events.keep"],
            exchange=exchange_ref,
            call_from_thread=loop.call_from_thread,
        )
        post(exchange_ref, UseStore(self._store))
        exchange = ExchangeClient(exchange_ref)
        monitor = self._started(MonitorActor.start(loop, exchange_ref))
        runtimes: Pending[Runtimes] = disk.do(lambda: Runtimes.probe(config.state, config["runtime"]))
        launch = LaunchSettings(config.state, config["shim"], config["shim_debug"])
        launcher = self._launcher = Launcher(loop, reaper := self._reaper(), launch)

        def tools(runtime: pykka.ActorRef[Any]) -> Tools:
            limits = LogLimits(config["stdio.log_size"], config["stdio.log_files"])
            relics = Relics(loop, reaper, disk, self._read, Boot.of(config.state))
            return Tools(config.state, config.root, limits, exchange, launcher, disk, runtime, monitor, relics)

        book = Book(loaded.supervision, loaded.catalog, self._registry, exchange)
        parts = Parts(loaded.catalog, self._registry, exchange, book, runtimes, config["no_shim"])
        runtime = self._started(RuntimeActor.start(loop, parts, tools))
        keys = Keys(loop, exchange, self._store, loaded.keys, config["api.keys"])
        self._supervise(Yard(loaded.catalog, self._registry, exchange_ref, runtime), book, loaded.former)
        self._look_after(loaded, disk, runtime, keys)
        routes = self._routes(loaded.catalog, disk, exchange_ref, runtime, runtimes)
        meter = Meter() if config["metrics.address"] else None
        front_end = self._started(FrontEnd.start(loop, api, self._access(), routes, keys, meter))
        self._tell_metrics(Sources(exchange_ref, front_end, runtime, config["metrics.tasks"]), loaded.former)

    def _ready_outside(self) -> None:
        """What the config may want and the host not have: a daemon that cannot serve it says so before it serves anything."""
        config = self._config
        self._endpoint = Endpoint.open(config["metrics.address"], config["api.group"], config.root / DATABASE)
        self._keys = ServerKeys.load(config)
        if self._keys is not None:
            self._gate = Gate(self._loop, self._context, self._keys)

    def _access(self) -> Access:
        config = self._config
        uids = frozenset(config["api.allowed_uids"])
        return Access(uids, config["api.requests_per_client"], config["api.streams_per_client"])

    def _read(self, query: Callable[[sqlite3.Connection], Any]) -> Pending[Any]:
        receipt: Pending[Any] = Pending()
        post(self._store, Read(query, receipt))
        return receipt

    def _reaper(self) -> Reaper:
        reaper = Reaper(self._loop, alone=False)
        self._loop.on_signal(signal.SIGCHLD, reaper.sweep)
        return reaper

    def _supervise(self, yard: Yard, book: Book, former: list[TaskRow]) -> None:
        """Before the tasks are taken back: no exit is missed."""
        self._started(Restarter.start(self._loop, yard, book, former))
        self._started(Watchman.start(self._loop, yard, former))

    def _tell_metrics(self, sources: Sources, former: list[TaskRow]) -> None:
        """Where that is wanted."""
        if self._endpoint is not None:
            self._endpoint.serve(self._started(MetricsActor.start(self._loop, sources, former)))

    def _look_after(self, loaded: Loaded, disk: Disk, runtime: pykka.ActorRef[Any], keys: Keys) -> None:
        """What former daemons left."""
        begun = keys.begun_before(restore.names(loaded.tasks))
        post(runtime, restore.sort_out(loaded.tasks, loaded.salvaged, loaded.catalog, loaded.known, begun))
        if loaded.former:
            self._launcher.ensure()
        spawn(restore.sweep(disk, self._config.state, loaded.former), "sweep of old bundles")
        spawn(restore.sweep_logs(disk, self._config.root, loaded.catalog), "sweep of old logs")

    def _routes(
        self,
        catalog: Catalog,
        disk: Disk,
        exchange: pykka.ActorRef[Any],
        runtime: pykka.ActorRef[Any],
        runtimes: Pending[Runtimes],
    ) -> dict[str, pykka.ActorRef[Any]]:
        """Which actor serves which methods."""
        root, behind = self._config.root, self._config["events.subscriber_queue"]
        about = self._started(AboutActor.start(self._loop, disk, runtimes, self._registry, self._bounds))
        logs = self._started(
            LogsActor.start(self._loop, disk, (catalog, self._registry), partial(log_path, root))
        )
        watcher = self._started(Watcher.start(self._loop, exchange, self._store, self._bounds, behind))
        return {
            "version": about,
            "health": about,
            "namespaces": runtime,
            "containers": runtime,
            "tasks": runtime,
            "tasks.logs": logs,
            "events": watcher,
        }

    def _load(self) -> Loaded:
        """Read the database once, before its own thread has it."""
        with contextlib.closing(open_database(self._config.root / DATABASE)) as db:
            catalog = Catalog(load_namespaces(db), load_containers(db))
            tasks = load_tasks(db)
            salvaged = restore.salvage(self._config.state, tasks, catalog)
            known = restore.well_known(db, tasks, catalog)
            loaded = Loaded(catalog, tasks, salvaged, known, load_keys(db), load_supervision(db), bounds(db))
        self._bounds.last_seq, self._bounds.oldest_seq = loaded.bounds
        return loaded

    def _bind(self, kind: int, name: str) -> zmq.Socket[Any]:
        config = self._config
        made: zmq.Socket[bytes] = self._context.socket(kind)
        made.linger = 0
        if kind == zmq.ROUTER:
            made.setsockopt(zmq.ROUTER_MANDATORY, 1)
            made.setsockopt(zmq.MAXMSGSIZE, config["api.max_message"])
            made.setsockopt(zmq.SNDHWM, 1000)
        else:
            made.setsockopt(zmq.SNDHWM, config["events.subscriber_queue"])
            made.setsockopt(zmq.MAXMSGSIZE, subscribers.MAX_LENGTH)
        bind_ipc(made, config.state / f"{name}.sock", config["api.group"])
        if kind == zmq.ROUTER and not check_peer_address(self._context, config.state / ".peer.sock"):
            raise FailedPrecondition(
                "this libzmq does not tell the uid of a peer on ipc, so requests cannot be checked; install pyzmq's own wheel"
            )
        bind_more(made, config[f"{name}.addresses"], f"{name}.addresses", config["api.group"], self._keys)
        return made

    def _started(self, ref: pykka.ActorRef[Any]) -> pykka.ActorRef[Any]:
        self._stops.append(ref)
        return ref

    def _on_stop(self) -> None:
        log.info("stopping; tasks run on")
        notify("STOPPING=1")
        self._loop.stop()

    def _stop(self) -> None:
        """In reverse; what the loop still has to do for a stop, it does here."""
        if self._endpoint is not None:
            self._endpoint.close()
        for ref in reversed(self._stops):
            if ref in self._stops[:1] and hasattr(self, "_store"):  # the exchange outlives its store's last commits
                self._store.stop()
            self._end(ref)
        if hasattr(self, "_disk_ref"):
            self._disk_ref.stop()
        if hasattr(self, "_launcher"):
            self._launcher.close()
        if hasattr(self, "_gate"):
            self._gate.close()
        self._context.destroy(linger=500)
        self._loop.close()

    def _end(self, ref: pykka.ActorRef[Any]) -> None:
        ended = ref.stop(block=False)
        del ended
        while ref.is_alive():
            self._loop.round(0.1)
