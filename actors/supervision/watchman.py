"""Probes the health of running tasks whose containers ask for it: an exec in the task, each ``interval`` seconds after the last.

It hears of starts and exits at the exchange, like any client outside, and asks for its execs as clients do. The task itself
shows its condition, keeps it, and publishes where that changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import secrets
import time
from collections.abc import Iterable

from actors.dispatch import LoopActor, post
from actors.messages import Delivered, Probed, Subscribe
from actors.records import HEALTH_EXECS, Container, Health
from actors.store.tasks import TaskRow
from actors.supervision.asking import ask
from actors.supervision.book import Key
from actors.supervision.health import Condition, Probe, judged
from actors.supervision.restarter import Yard
from shimproc import flow
from shimproc.errors import DeadlineExceeded, FailedPrecondition, NotFound, ShimyardError
from shimproc.flow import Pending
from shimproc.loop import LoopLike, Timer

log = logging.getLogger(__name__)
_NOT_NOW = (FailedPrecondition, NotFound)
"""The task is paused, or has ended: that is no failure of a probe."""


@dataclasses.dataclass(slots=True)
class Watch:
    """Over one task's run; over once another one, or none, has taken its place."""

    health: Health
    container: Container
    since: int
    condition: Condition = dataclasses.field(default_factory=Condition)
    inherited: bool = False
    """Is it still to be seen what a former daemon's watch has left?"""
    timer: Timer | None = None


class Watchman(LoopActor):
    """One timer for each running task that has a health probe, none for others.

    Parameters
    ----------
    former : the tasks of former daemons.
    """

    def __init__(self, loop: LoopLike, yard: Yard, former: Iterable[TaskRow]) -> None:
        super().__init__(loop)
        self._yard = yard
        self._former = list(former)
        self._watches: dict[Key, Watch] = {}

    def on_start(self) -> None:
        """Hear of every start from now on; what a former daemon was at is taken up."""
        post(self._yard.exchange, Subscribe(self.actor_ref))
        former, self._former = self._former, []
        for row in former:
            if row.started_at is not None and row.exited is None:
                condition = Condition(**row.extra.get("health") or {})
                self._begin((row.namespace, row.id), row.started_at, condition, inherited=True)

    def on_stop(self) -> None:
        """The next daemon goes on."""
        for watch in self._watches.values():
            if watch.timer is not None:
                watch.timer.cancel()

    def on_delivered(self, message: Delivered) -> None:
        """Starts and exits of inits."""
        for event in message.events:
            envelope = event.envelope
            key = (envelope.namespace, str(envelope.event.get("container_id")))
            if envelope.type == "TaskStart":
                self._end(key)
                if (watch := self._begin(key, envelope.timestamp, Condition())) is not None:
                    self._tell(key, watch, changed=False)
            elif envelope.type == "TaskExit" and envelope.event["id"] == key[1]:
                self._end(key)

    def _begin(self, key: Key, since: int, condition: Condition, *, inherited: bool = False) -> Watch | None:
        container = self._yard.catalog.find(*key)
        if container is None or container.health is None:
            return None
        watch = self._watches[key] = Watch(container.health, container, since, condition, inherited)
        self._schedule(key, watch, 0.0 if inherited else watch.health.interval)
        return watch

    def _end(self, key: Key) -> None:
        watch = self._watches.pop(key, None)
        if watch is not None and watch.timer is not None:
            watch.timer.cancel()

    def _schedule(self, key: Key, watch: Watch, seconds: float) -> None:
        if self._watches.get(key) is watch:
            look = functools.partial(self._look, key, watch)
            watch.timer = self.loop.call_later(seconds, lambda: flow.spawn(look(), f"health of {key[1]}"))

    async def _look(self, key: Key, watch: Watch) -> None:
        watch.timer = None
        try:
            if watch.inherited:
                watch.inherited = not await self._clear_up(key, watch)
                return
            probe = await self._probe(key, watch)
            if self._watches.get(key) is watch and probe is not None:
                starting = probe.at - watch.since < watch.health.start_period * 1e9
                before, watch.condition = (
                    watch.condition,
                    judged(watch.condition, watch.health, probe, starting=starting),
                )
                self._tell(key, watch, changed=before.status != watch.condition.status)
        finally:
            self._schedule(key, watch, watch.health.interval)

    async def _probe(self, key: Key, watch: Watch) -> Probe | None:
        """How it went; None if it could not be tried now."""
        namespace, task_id = key
        exec_id = f"{HEALTH_EXECS}{secrets.token_hex(4)}"
        process = {**watch.container.spec["process"], "args": list(watch.health.args), "terminal": False}
        runtime = self._yard.runtime
        try:
            await ask(runtime, "tasks.exec", namespace, id=task_id, exec_id=exec_id, process=process)
        except _NOT_NOW:
            return None
        except ShimyardError as error:
            return Probe(time.time_ns(), None, error.message)
        try:
            await ask(runtime, "tasks.start", namespace, id=task_id, exec_id=exec_id)
            return await self._end_of(key, exec_id, watch.health.timeout)
        except _NOT_NOW:
            return None
        except ShimyardError as error:
            return Probe(time.time_ns(), None, error.message)
        finally:
            with contextlib.suppress(ShimyardError):
                await ask(runtime, "tasks.delete_process", namespace, id=task_id, exec_id=exec_id)

    async def _end_of(self, key: Key, exec_id: str, seconds: float) -> Probe:
        """Its end, or that it has not come in time; then it is killed."""
        namespace, task_id = key
        ended = ask(self._yard.runtime, "tasks.wait", namespace, id=task_id, exec_id=exec_id)
        first: Pending[bool] = Pending()
        timer = self.loop.call_later(seconds, lambda: first.set(False))
        ended.then(lambda _: first.set(True))
        in_time = await first
        timer.cancel()
        if not in_time:
            with contextlib.suppress(*_NOT_NOW):
                await ask(self._yard.runtime, "tasks.kill", namespace, id=task_id, exec_id=exec_id, signal="SIGKILL")
        ended_at = await ended
        if not in_time:
            late = DeadlineExceeded(f"the probe had not ended after {seconds} seconds")
            return Probe(time.time_ns(), None, late.message)
        return Probe(ended_at.exited_at, ended_at.exit_status)

    def _tell(self, key: Key, watch: Watch, *, changed: bool) -> None:
        entry = self._yard.registry.find(*key)
        if entry is not None and entry.ref is not None:
            post(entry.ref, Probed(dataclasses.asdict(watch.condition), changed))

    async def _clear_up(self, key: Key, watch: Watch) -> bool:
        """A daemon that was killed has left its probe in the task. Is that over? Else it is tried again."""
        namespace, task_id = key
        try:
            await ask(self._yard.runtime, "tasks.shim", namespace, id=task_id)  # from now on its execs are known
            self._tell(key, watch, changed=False)
            task = await ask(self._yard.runtime, "tasks.get", namespace, id=task_id)
            for process in task.execs:
                if process.id.startswith(HEALTH_EXECS):
                    await self._take_away(key, process.id)
        except NotFound:  # the task has gone
            return True
        except ShimyardError as error:
            log.warning("former probes of %s/%s: %s", *key, error)
            return False
        return True

    async def _take_away(self, key: Key, exec_id: str) -> None:
        namespace, task_id = key
        with contextlib.suppress(*_NOT_NOW):
            await ask(self._yard.runtime, "tasks.kill", namespace, id=task_id, exec_id=exec_id, signal="SIGKILL")
            await ask(self._yard.runtime, "tasks.wait", namespace, id=task_id, exec_id=exec_id)
        with contextlib.suppress(NotFound):
            await ask(self._yard.runtime, "tasks.delete_process", namespace, id=task_id, exec_id=exec_id)
