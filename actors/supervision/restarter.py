"""Starts tasks again by their containers' policies. It hears of exits at the exchange, like any client outside, and asks for
what it wants as clients do: delete, create, start.

What it has resolved is in the book, on disk, before it is done; at the daemon's start it goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterable
from typing import Any

import pykka

from actors.catalog import Catalog
from actors.dispatch import LoopActor, post
from actors.messages import Delivered, Subscribe
from actors.records import Restart, Stdio, Task
from actors.registry import Registry
from actors.store.tasks import TaskRow
from actors.supervision.asking import ask
from actors.supervision.book import Book, Key
from actors.supervision.policy import STEADY_NS, delay, is_followed, policy_of
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import AlreadyExists, NotFound, ShimyardError
from shimproc.loop import LoopLike, Timer
from shimproc.process.host import CHECKPOINTED

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Yard:
    """What supervisors see of the daemon."""

    catalog: Catalog
    registry: Registry
    exchange: pykka.ActorRef[Any]
    runtime: pykka.ActorRef[Any]


class Restarter(LoopActor):
    """One timer for each task that is to be started again.

    Parameters
    ----------
    former : the tasks of former daemons.
    """

    def __init__(self, loop: LoopLike, yard: Yard, book: Book, former: Iterable[TaskRow]) -> None:
        super().__init__(loop)
        self._yard = yard
        self._book = book
        self._former = {(row.namespace, row.id): row for row in former}
        self._timers: dict[Key, Timer] = {}

    def on_start(self) -> None:
        """Hear of every exit from now on, and go on with what a former daemon was at."""
        post(self._yard.exchange, Subscribe(self.actor_ref))
        former, self._former = self._former, {}
        for key in self._book.remembered():
            if key not in former:
                self._take_up_gone(key)
        for key, row in former.items():
            if policy_of(self._yard.catalog.find(*key)) is not None:
                self._take_up(key, row)

    def on_stop(self) -> None:
        """The next daemon goes on."""
        for timer in self._timers.values():
            timer.cancel()

    def on_delivered(self, message: Delivered) -> None:
        """Exits of inits, and what is gone for good. One that a checkpoint has ended was meant to end."""
        for event in message.events:
            envelope = event.envelope
            body = envelope.event
            if envelope.type == "TaskExit" and body["id"] == body["container_id"] and body.get("reason") != CHECKPOINTED:
                self._on_exit((envelope.namespace, body["id"]), int(body["exit_status"]), int(body["exited_at"]))
            elif envelope.type == "TaskDelete" and body["id"] == body["container_id"]:
                key = (envelope.namespace, body["id"])
                if not self._book.find(key).wanted:
                    self._forget(key)
            elif envelope.type == "ContainerDelete":
                self._forget((envelope.namespace, body["id"]))

    # -- at the daemon's start

    def _take_up_gone(self, key: Key) -> None:
        """There is no task: it was deleted on purpose, or it is just to be made again."""
        restart = policy_of(self._yard.catalog.find(*key))
        record = self._book.find(key)
        if restart is None or not record.wanted:
            self._book.drop(key)
        else:
            self._at_once(key)

    def _take_up(self, key: Key, row: TaskRow) -> None:
        if row.exited is not None and row.exited.get("reason") == CHECKPOINTED:
            return
        if row.exited is not None and row.exited.get("reason") != "start-failed":
            self._on_exit(key, int(row.exited["status"]), int(row.exited["at"]))
        elif row.extra.get("restarts") and (row.phase in ("creating", "created") or row.exited is not None):
            self._at_once(key)

    # -- exits

    def _on_exit(self, key: Key, status: int, at: int) -> None:
        restart, record = policy_of(self._yard.catalog.find(*key)), self._book.find(key)
        if restart is None or not record.wanted:
            return
        if record.counted == at:  # a former daemon has counted it, and was killed before it came to the restart
            self._schedule(key, restart, record.streak)
            return
        task = self._task(key)
        ran = 0 if task is None or task.started_at is None else at - task.started_at
        streak = 0 if ran >= STEADY_NS else record.streak
        stdio = record.stdio if task is None else dataclasses.asdict(task.stdio)
        again = dataclasses.replace(record, streak=streak, counted=at, stdio=stdio)
        self._follow(key, restart, status, again)

    def _follow(self, key: Key, restart: Restart, status: int, record: Any) -> None:
        """Count and schedule the next start, if there is to be one."""
        if not is_followed(restart, status, record.restarts):
            if status != 0:
                log.warning("%s/%s is not started again: %d restarts were all it may have", *key, record.restarts)
            return
        more = dataclasses.replace(record, restarts=record.restarts + 1, streak=record.streak + 1)
        flow.spawn(self._count(key, restart, more), f"restart of {key[1]}")

    async def _count(self, key: Key, restart: Restart, record: Any) -> None:
        await self._book.put(key, record)
        point("daemon: restart resolved")
        self._schedule(key, restart, record.streak)

    def _schedule(self, key: Key, restart: Restart, streak: int) -> None:
        self._cancel(key)
        seconds = delay(restart, max(0, streak - 1))
        log.info("%s/%s is started again in %.1f s", *key, seconds)
        self._timers[key] = self.loop.call_later(seconds, lambda: self._at_once(key))

    # -- the restart

    def _at_once(self, key: Key) -> None:
        """A former daemon was at it: no client shall find the task missing meanwhile."""
        flow.spawn(self._again(key), f"restart of {key[1]}")

    async def _again(self, key: Key) -> None:
        """Away with the old task, and a new one; what fails counts as a restart that failed."""
        self._timers.pop(key, None)
        restart, record = policy_of(self._yard.catalog.find(*key)), self._book.find(key)
        if restart is None or not record.wanted:
            return
        self._book.begin(key)
        try:
            await self._make_again(key, record.stdio)
        except AlreadyExists:
            log.info("%s/%s was made by somebody else", *key)
        except ShimyardError as error:
            log.warning("%s/%s could not be started again: %s", *key, error)
            self._follow(key, restart, 1, record)
        finally:
            self._book.end(key)

    async def _make_again(self, key: Key, stdio: Any) -> None:
        namespace, task_id = key
        task = await self._seen(key)
        if task is not None and task.status not in ("stopped", "created"):
            return
        if task is not None and task.status == "stopped":
            with contextlib.suppress(NotFound):
                await ask(self._yard.runtime, "tasks.delete", namespace, id=task_id)
            task = None
            point("daemon: former task deleted")
        if task is None:
            streams = None if stdio is None else Stdio(**stdio)
            await ask(self._yard.runtime, "tasks.create", namespace, id=task_id, stdio=streams)
            point("daemon: task made again")
        await ask(self._yard.runtime, "tasks.start", namespace, id=task_id)

    async def _seen(self, key: Key) -> Task | None:
        """After the tasks of former daemons were taken back."""
        try:
            task: Task = await ask(self._yard.runtime, "tasks.get", key[0], id=key[1])
        except NotFound:
            return None
        return task

    # -- what is remembered

    def _task(self, key: Key) -> Task | None:
        entry = self._yard.registry.find(*key)
        return None if entry is None else entry.task

    def _forget(self, key: Key) -> None:
        self._cancel(key)
        self._book.drop(key)

    def _cancel(self, key: Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
