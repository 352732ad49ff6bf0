"""What a task can do, and what is known of it: its deeds, each read from top to bottom, and its shim's events.

The state is asked first, and moved by the shim's events once they are durable; what takes several steps is a flow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal as signals
from collections.abc import Mapping
from typing import Any

from actors.dispatch import LoopActor, post
from actors.messages import Changed, DropContainer, Removed, Reply, Watch
from actors.records import Container, Exit, Stop, Task
from actors.shimlink import ShimLink
from actors.spec import parse_signal
from actors.store.tasks import PutTask, TaskRow
from actors.task.attach import Attachments
from actors.task.events import DELETED, START_FAILED, advanced, forgotten, health_changed, told
from actors.task.execs import Execs
from actors.task.failures import failed_start, named, program_of
from actors.task.grip import Grip
from actors.task.life import Life
from actors.task.progress import Progress, Told
from actors.task.states import Creating, Pausing, Starting, Stopped, TaskState
from actors.task.states import Paused as PausedState
from actors.task.tools import Tools
from actors.task.view import Facts, view
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError
from shimproc.flow import Pending
from shimproc.loop import LoopLike
from shimproc.messages import (
    Checkpointed,
    Delete,
    Deleted,
    Exited,
    Kill,
    Message,
    Pause,
    Paused,
    Resume,
    Resumed,
    Start,
    Started,
    StartFailed,
    exec_of,
)
from shimproc.messages import Created as ShimCreated

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
FAILED = "failed"
"""In a row's ``extra``: its run has failed, and nothing of it is to be left."""


class TaskDeeds(LoopActor):
    """One task, without those who ask (``TaskActor``)."""

    def __init__(self, loop: LoopLike, tools: Tools, row: TaskRow, container: Container) -> None:
        super().__init__(loop)
        self._tools = tools
        self._row = row
        self._container = container
        self._state: TaskState = Creating()
        self._facts = Facts()
        self._execs = Execs(row.id)
        self._removals: dict[str, Reply] = {}
        self._removed: dict[str, Exit] = {}
        self._life = Life(tools, row, container, self.actor_ref)
        self._progress = Progress(loop, tools.exchange, self._tell, self._apply)
        self._grip = Grip(self._life, self._progress, tools.exchange, self.actor_ref, self._on_shim)
        self._attachments = Attachments(self._grip)
        self._linked: ShimLink | None = None
        self._made: Pending[None] = Pending()
        self._restored = False
        self._deleting: Reply | None = None
        self._dropped: Pending[None] | None = None

    async def _make(self) -> None:
        try:
            await self._life.make(self._progress)
        except BaseException:
            self._gone()
            raise
        finally:
            self._made.set(None)
        assert self._life.shim is not None
        self._grip.hold(self._life.shim.pid)  # the one that made it may have been killed, and followed
        if self._row.shim_pid != self._life.shim.pid:
            await self._tools.exchange.publish(changes=(PutTask(self._on_shim("alive", self._life.shim.pid)),))
        self._grip.replaced()  # if it is gone just now, nobody would have heard it

    async def _start(self) -> dict[str, int]:
        self._state = self._state.start()()
        try:
            point("daemon: start sent")
            answer = await self._grip.ask(Start(), over=lambda: not isinstance(self._state, Starting))
        except ShimyardError as error:
            if self._life.shim is not None:
                await self._progress.until(self._life.shim.last)
            if self._facts.started_at is None:  # else a start that a former daemon had asked for has come to its end just now
                self._state = self._state.unstarted()()
                raise named(error, program_of(self._container.spec.get("process") or {}), "spec.process") from None
        else:
            point("daemon: started by the shim")
            await self._progress.until(answer.n)
        if (failure := self._failed_start()) is not None:  # told by a shim that was killed before it could answer
            raise failure
        return {"pid": self._facts.pid}

    def _failed_start(self) -> ShimyardError | None:
        ended = self._facts.exit.result() if self._facts.exited is not None else None
        return failed_start(ended, program_of(self._container.spec.get("process") or {}), "spec.process")

    async def _pause(self) -> dict[str, int]:
        self._state = self._state.pause()()
        self._show()
        try:
            answer = await self._grip.ask(Pause(), over=lambda: not isinstance(self._state, Pausing))
        except ShimyardError:
            self._state = self._state.unpaused()()
            self._show()
            raise
        await self._progress.until(answer.n)
        return {}

    async def _resume(self) -> dict[str, int]:
        self._state = self._state.resume()()
        answer = await self._grip.ask(Resume(), over=lambda: not isinstance(self._state, PausedState))
        await self._progress.until(answer.n)
        return {}

    async def _end(self, settings: Stop, reason: str | None) -> Exit:
        """Ask with the signal, then insist with SIGKILL."""
        if self._facts.exit.done:
            return self._facts.exit.result()
        self._state.kill()
        insist = self.loop.call_later(settings.grace, lambda: self._insist(reason))
        try:
            await self._grip.ask(Kill(parse_signal(settings.signal, "signal"), reason=reason))
        except NotFound:  # it ended just now; its exit is on the way
            log.debug("%s ended by itself", self._row.id)
        ended = await self._facts.exit
        insist.cancel()
        return ended

    async def _delete(self, *, force: bool, reply: Reply | None = None) -> Exit:
        """``reply``: is kept with the delete's own commit."""
        before = self._state
        self._state = (before.force_delete() if force else before.delete())()
        self._deleting = reply
        self._show()
        try:
            answer = await self._grip.ask(Delete(force=force), force=force)
        except ShimyardError:
            if self._life.shim is not None:
                await self._progress.until(self._life.shim.last)  # it may have ended before that failed
            self._state = Stopped() if self._facts.exit.done else before
            self._show()
            raise
        point("daemon: deleted by the shim")
        await self._progress.until(answer.n)
        await self._clear()
        return self._exit()

    async def _clear(self) -> None:
        """The shim has deleted the task: itself goes, the bundle, and with rm the container."""
        await self._grip.loosen()
        await self._life.remove(self.loop)
        self._gone()
        if self._row.rm:
            await self._drop_container()

    def _exit(self) -> Exit:
        """How it ended; a task that never ran has status 0, at no time."""
        return self._facts.exit.result() if self._facts.exited is not None else Exit(self._row.id, self._facts.pid, 0, 0)

    async def _give_up_run(self) -> None:
        """A later daemon shall not start it, but go on with its removal: that is on disk before anyone is told."""
        self._row = dataclasses.replace(self._row, rm=True, extra={**self._row.extra, FAILED: True})
        if not self._life.removed and self._row.phase != DELETED:
            with contextlib.suppress(ShimyardError):  # a full disk: then this daemon alone knows
                await self._tools.exchange.publish(changes=(PutTask(self._row),))
        await self._remove_all()

    async def _remove_all(self) -> None:
        """Task and container, as far as they are there: another client may have been faster. It was promised, so what
        fails is tried again; a daemon that is killed meanwhile leaves it to the next one, by the row."""
        try:
            if self._life.removed:
                await self._drop_container()
            else:
                await self._delete(force=True)
        except ShimyardError as error:
            log.warning("removal of %s: %s", self._row.id, error)
            used_again = self._life.removed and isinstance(error, FailedPrecondition)
            if not used_again:
                self.loop.call_later(RETRY_SECONDS, lambda: flow.spawn(self._remove_all(), f"removal of {self._row.id}"))

    async def _drop_container(self) -> None:
        """With the task's row, which says until then that this is to be done. Once, whoever asks."""
        if self._dropped is None:
            row = self._row
            dropped: Pending[None] = Pending()
            post(self._tools.runtime, DropContainer(row.namespace, row.id, self._container.created_at, forgotten(row), dropped))
            self._dropped = dropped
        try:
            await self._dropped
        except ShimyardError:
            self._dropped = None
            raise

    async def _remove_after_exit(self) -> None:
        with contextlib.suppress(NotFound):  # it is gone without one
            await self._facts.exit
        await self._remove_all()

    # -- what is known

    def _tell(self, n: int, event: Message) -> Told:
        self._row = advanced(self._row, event, self._life.shim.pid if self._life.shim else 0)
        events, changes = told(self._row, self._container, n, event)
        if isinstance(event, Deleted) and event.process:
            removal = self._removals.get(event.process)
            if removal is not None:
                self._removed[event.process] = record = self._execs.record(event)
                changes += removal.kept(record)
        elif isinstance(event, Deleted) and self._deleting is not None:
            reason = (self._row.exited or {}).get("reason")  # by the row: its exit may be told in the same commit
            changes += self._deleting.kept(Exit(self._row.id, event.pid, event.status, event.exited_at, reason))
        return events, changes

    def _apply(self, n: int, event: Message) -> None:
        """A durable event moves the state."""
        if exec_id := exec_of(event):
            self._execs.apply(exec_id, event)
        else:
            self._apply_to_task(event)
        if self._life.shim is not None:
            if isinstance(event, ShimCreated):
                self._grip.hold(self._life.shim.pid)
                self._facts.shim_pid = self._life.shim.pid
            self._life.shim.ack(n)
        self._show()

    def _apply_to_task(self, event: Message) -> None:
        match event:
            case ShimCreated():
                if not isinstance(self._state, Creating):  # so far it was known by its row alone; now all of it is told
                    self._state = Creating()
                self._state = self._state.created()()
                self._facts.pid = event.pid
            case Started():
                self._state = self._state.started()()
                self._facts.started_at, self._facts.pid = event.at, event.pid
                self._watch(event.boottime)
            case StartFailed():
                self._state = self._state.exited()()
                self._facts.end(self._row.id, Exited(event.at, event.pid, event.status, reason=START_FAILED))
            case Exited():
                point("daemon: exit durable")
                self._state = self._state.exited()()
                self._facts.end(self._row.id, event)
            case Paused():
                self._state = self._state.paused()()
            case Resumed():
                self._state = self._state.resumed()()
            case Checkpointed():
                self._state = self._state.checkpointed()()
            case Deleted():
                self._facts.deleted = True

    def _watch(self, started: int) -> None:
        if self._container.timeout is not None:
            row = self._row
            watch = Watch(row.namespace, row.id, self.actor_ref, started, self._container.timeout)
            post(self._tools.monitor, watch)

    def _take_health(self, health: Mapping[str, Any], *, changed: bool) -> None:
        """Shown at once; kept, and told, where its status is another one."""
        self._row = dataclasses.replace(self._row, extra={**self._row.extra, "health": health})
        self._show()
        if changed:
            told = self._tools.exchange.publish(health_changed(self._row, health), changes=(PutTask(self._row),))
            told.then(lambda outcome: _log_failure(outcome, self._row.id))

    def _stop_settings(self) -> Stop:
        return self._container.stop or Stop()

    def _on_shim(self, state: str, pid: int) -> TaskRow:
        if state == "alive" and self._life.shim is not self._linked:
            self._linked = self._life.shim
            self._attachments.renew()
        self._facts.shim, self._facts.shim_pid = state, pid
        self._row = dataclasses.replace(self._row, shim_pid=pid)
        self._show()
        return self._row

    def _insist(self, reason: str | None) -> None:
        if self._life.shim is not None:
            self._life.shim.call(Kill(signals.SIGKILL, reason=reason))

    def _view(self) -> Task:
        return view(self._row, self._state.status, self._facts, self._execs.views())

    def _show(self) -> None:
        if self._restored and not self._life.removed:
            post(self._tools.runtime, Changed(self._view()))

    def _gone(self) -> None:
        self._execs.end_waits()
        self._attachments.end()
        post(self._tools.runtime, Removed(self._row.namespace, self._row.id))
        self.stop()
        self._facts.exit.fail(NotFound(f"the task {self._row.id} is gone, and had no exit"))  # to who still waits for one


def _log_failure(outcome: Pending[Any], task_id: str) -> None:
    if outcome.error is not None:
        log.error("the health of %s is not told: %s", task_id, outcome.error)
