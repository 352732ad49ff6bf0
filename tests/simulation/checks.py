"""What must hold, whatever was killed: in the log of events, on the disk, and in what is left of processes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import defaultdict
from typing import Any

import cbor2

from actors.daemon import DATABASE
from tests.simulation.world import World

_ORDER = {"create": 0, "exec-added": 1, "start": 2, "exec-started": 2, "exit": 3, "delete": 4}


class Checks:
    """Of one world, at its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        with contextlib.closing(sqlite3.connect(world.folder / "root" / DATABASE)) as db:
            self.events = [cbor2.loads(row[0]) for row in db.execute("SELECT frame FROM events ORDER BY seq")]
            self.rows = {
                table: db.execute(f"SELECT * FROM {table}").fetchall()
                for table in ("tasks", "containers", "sources", "keys")
            }

    def run(self) -> list[str]:
        """What is wrong."""
        wrong: list[str] = []
        for check in (self._numbers, self._published, self._lives, self._disk, self._processes, self._daemon, self._forkserver):
            wrong += check()
        return wrong

    def _numbers(self) -> list[str]:
        seqs = [event["seq"] for event in self.events]
        return [] if seqs == list(range(1, len(seqs) + 1)) else [f"seq is broken: {seqs}"]

    def _published(self) -> list[str]:
        known = {event["seq"]: event for event in self.events}
        wrong: list[str] = []
        last: dict[int, int] = defaultdict(int)
        for daemon, topic, body in self.world.published:
            if topic.startswith(b"_/"):
                continue
            event = cbor2.loads(body)
            if known.get(event["seq"]) != event:
                wrong.append(f"published and not durable: {event}")
            if event["seq"] <= last[daemon]:
                wrong.append(f"published out of order: {event}")
            last[daemon] = event["seq"]
        return wrong

    def _lives(self) -> list[str]:
        """For one process: create, added, start, exit, delete, each once, in order; the status true."""
        wrong: list[str] = []
        lives: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for event in self.events:
            kind = event["topic"].rpartition("/")[2]
            if not event["topic"].startswith("/tasks/") or kind not in _ORDER:
                continue
            body = event["event"]
            process = str(body.get("exec_id") or body.get("id") or body["container_id"])
            key = (event["namespace"], body["container_id"], process)
            life = lives[key]
            if kind in ("create", "exec-added") and (not life or life[-1]["topic"].endswith("delete")):
                life.clear()
            wrong += self._step(key, life, event, kind)
            life.append(event)
            if kind == "exit" and (why := self.world.untrue(body)):
                wrong.append(f"event {event['seq']}: {why}")
            if kind == "delete" and process == body["container_id"]:
                wrong += [
                    f"{other[1:]} was not deleted before its task" for other, others in lives.items()
                    if other[:2] == key[:2] and other[2] != process and others and not others[-1]["topic"].endswith("delete")
                ]
        for key, life in lives.items():
            if not life[-1]["topic"].endswith("delete"):
                wrong.append(f"{key} has no delete: {[event['topic'] for event in life]}")
        return wrong

    @staticmethod
    def _step(key: Any, life: list[dict[str, Any]], event: dict[str, Any], kind: str) -> list[str]:
        before = [one["topic"].rpartition("/")[2] for one in life]
        wrong = []
        if kind in before:
            wrong.append(f"{key}: {kind} occurs twice: {before}")
        if before and _ORDER[kind] < max(_ORDER[one] for one in before):
            wrong.append(f"{key}: {kind} after {before}")
        if not before and kind not in ("create", "exec-added"):
            wrong.append(f"{key}: begins with {kind}")
        if kind == "exit" and not {"start", "exec-started", "create"} & set(before):
            wrong.append(f"{key}: exit without a start: {before}")
        at = [one["timestamp"] for one in life]
        if at and event["timestamp"] < at[-1]:
            wrong.append(f"{key}: the time of {kind} is before that of {before[-1]}")
        return wrong

    def _disk(self) -> list[str]:
        rows = {table: [row[:2] for row in self.rows[table]] for table in ("tasks", "containers", "sources")}
        wrong = [f"left in {table}: {left}" for table, left in rows.items() if left]
        wrong += [f"key begun and never answered: {row[:3]}" for row in self.rows["keys"] if row[4] is None]
        tasks = self.world.folder / "state" / "tasks"
        if tasks.is_dir():
            wrong += [f"left of a bundle: {path.relative_to(tasks)}" for path in tasks.glob("*/*")]
        return wrong

    def _processes(self) -> list[str]:
        world = self.world
        stay = ("init", "daemon", "forkserver", "clients")
        wrong = [f"left: {one}" for one in world.kernel.processes.values() if one.kind not in stay]
        wrong += [f"left: container {name} {one.state}" for name, one in world.runtime.containers.items()]
        counts = world.runtime.started
        wrong += [f"{name} was started twice" for name in set(counts) if counts.count(name) > 1]
        return wrong

    def _daemon(self) -> list[str]:
        process = self.world.daemon
        assert process is not None
        daemon = self.world.daemons[process.pid]
        wrong = [f"left in the registry: {daemon._registry._entries}"] if len(daemon._registry) else []
        timers = daemon._loop.pending()
        if len(timers) > 2:  # the heartbeat, and the sweep of old keys
            wrong.append(f"timers left in the daemon: {[timer.callback for timer in timers]}")
        if daemon._launcher._asked:
            wrong.append("the daemon still waits for a shim")
        files = sorted(type(self.world.kernel.fds[fd][0]).__name__ for fd in process.fds)
        most = ["Inbox"] * 4 + ["Stream"]
        if files not in (most, most[:4]):
            wrong.append(f"descriptors left in the daemon: {files}")
        return wrong

    def _forkserver(self) -> list[str]:
        process = self.world.forkserver
        if process is None or not process.alive:
            return []
        server = self.world.forkservers.get(process.pid)
        kept = {name: getattr(server, name) for name in ("_wards", "_bundles", "_members", "_bereft")}
        wrong = [f"left in the forkserver: {name} {left}" for name, left in kept.items() if left]
        files = sorted(type(self.world.kernel.fds[fd][0]).__name__ for fd in process.fds)
        if files not in (["Listener"], ["Listener", "Stream"]) or process.real:
            wrong.append(f"descriptors left in the forkserver: {files} {process.real}")
        return wrong
