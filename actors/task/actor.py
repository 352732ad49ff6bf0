"""One task: requests from clients and events from its shim, one at a time.

A request asks the state first; the state is moved by the shim's events once they are durable, so nothing that a client
is told can be unsaid by a crash. What a request then takes in steps is a flow, and other messages go on meanwhile.
"""

from __future__ import annotations

import dataclasses
import logging
import signal as signals
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from actors.dispatch import LoopActor, post
from actors.messages import (
    Adopt,
    Begin,
    Call,
    Changed,
    DropContainer,
    Expired,
    Removed,
    Restore,
    ShimEvent,
    ShimGone,
    Undo,
    Watch,
)
from actors.records import Container, Exit, Stop, Task
from actors.spec import parse_signal
from actors.store.tasks import TaskRow
from actors.task.events import CREATED, RUNNING, STOPPED, advanced, told
from actors.task.failures import named
from actors.task.grip import Grip
from actors.task.life import Life
from actors.task.progress import Progress, Told
from actors.task.states import Created, Creating, Running, Starting, Stopped, TaskState
from actors.task.tools import Tools
from actors.task.view import Facts, run_result, view
from shimproc import flow
from shimproc.errors import NotFound, ShimyardError
from shimproc.flow import Pending
from shimproc.loop import LoopLike
from shimproc.messages import CloseIO, Delete, Exited, Hello, Kill, Message, Pids, Start, Started, StartFailed
from shimproc.messages import Created as ShimCreated

log = logging.getLogger(__name__)
_STATES: Mapping[str, type[TaskState]] = {CREATED: Created, RUNNING: Running, STOPPED: Stopped}


class TaskActor(LoopActor):
    """A task from its creation to its removal; the runtime holds it, by its ref."""

    def __init__(self, loop: LoopLike, tools: Tools, row: TaskRow, container: Container) -> None:
        super().__init__(loop)
        self._tools = tools
        self._row = row
        self._container = container
        self._state: TaskState = Creating()
        self._facts = Facts()
        self._life = Life(tools, row, container, self.actor_ref)
        self._progress = Progress(loop, tools.exchange, self._tell, self._apply)
        self._made: Pending[None] = Pending()
        self._ready: Pending[None] = Pending()
        self._restored = False
        self._grip = Grip(self._life, self._progress, tools.exchange, self.actor_ref, self._on_shim)
        self._requests: Mapping[str, Callable[[Call], Coroutine[Any, Any, Any]]] = {
            "tasks.start": self._start_called,
            "tasks.wait": self._wait_called,
            "tasks.kill": self._kill_called,
            "tasks.stop": self._stop_called,
            "tasks.delete": self._delete_called,
            "tasks.close_io": self._close_io_called,
            "tasks.pids": self._pids_called,
            "tasks.shim": self._shim_called,
        }

    # -- messages

    def on_begin(self, message: Begin) -> None:
        """Make the task; with ``tasks.run``, go on from there."""
        self._restored = True
        self._ready.set(None)
        self._show()
        deed = self._run(message.call) if message.call.method == "tasks.run" else self._create(message.call)
        self._answer(message.call, deed)

    def on_call(self, call: Call) -> None:
        """A client's request; one that comes before a restored task has its shim again waits for that."""
        for waited in (self._ready, self._grip.settled):
            if not waited.done:
                waited.then(lambda _: post(self.actor_ref, call))
                return
        params = call.params
        if getattr(params, "exec_id", None) is not None:
            raise NotFound(f"the task {self._row.id} has no exec {params.exec_id}")
        self._answer(call, self._requests[call.method](call))

    def on_shim_event(self, message: ShimEvent) -> None:
        """Journaled by the shim; here it counts once it is durable."""
        self._progress.take(message.n, message.event)

    def on_shim_gone(self, message: ShimGone) -> None:
        """Expected after a delete; else the task has lost its shim, and gets another."""
        if not self._life.ending and self._made.done:
            self._grip.replaced(message.pid)

    def on_expired(self, _: Expired) -> None:
        """The monitor: its time is over."""
        if not isinstance(self._state, Stopped):
            flow.spawn(self._end(self._stop_settings(), "timeout"), f"stop of {self._row.id} at its timeout")

    def on_adopt(self, _: Adopt) -> None:
        """Try again to get a shim for a task that has none."""
        if not self._life.ending:
            self._grip.retry()

    def on_restore(self, _: Restore) -> None:
        """Find the shim again and hear from it how the task stands."""
        flow.start(self._restore()).then(lambda _: self._ready.set(None))

    def on_undo(self, _: Undo) -> None:
        """A create that was cut off: nothing may be left, and nobody is told, as nobody was told of it."""
        self._progress.mute()
        flow.spawn(self._undo(), f"undo of {self._row.id}")

    # -- requests

    async def _create(self, call: Call) -> Task:  # noqa: ARG002 - as all requests
        await self._make()
        return self._view()

    async def _run(self, call: Call) -> Any:
        """Container, create and start in one; a failure leaves nothing at all."""
        try:
            await self._make()
            await self._start()
        except BaseException:
            await self._remove_all()
            raise
        if not call.params.wait:
            if call.params.rm:
                flow.spawn(self._remove_after_exit(), f"removal of {self._row.id}")
            return self._view()
        await self._facts.exit
        result = run_result(self._view(), self._facts, captured=call.params.capture is not None)
        if call.params.rm:
            await self._remove_all()
        return result

    async def _start_called(self, _: Call) -> Any:
        return await self._start()

    async def _wait_called(self, _: Call) -> Exit:
        return await self._facts.exit

    async def _kill_called(self, call: Call) -> Any:
        number = parse_signal(call.params.signal, "signal")
        self._state.kill()
        await self._grip.ask(Kill(number, all=call.params.all))
        return {}

    async def _stop_called(self, call: Call) -> Exit:
        settings = self._stop_settings()
        signal = settings.signal if call.params.signal is None else call.params.signal
        grace = settings.grace if call.params.grace is None else call.params.grace
        return await self._end(Stop(parse_signal(signal, "signal"), grace), None)

    async def _delete_called(self, call: Call) -> Exit:
        if call.params.force:
            await self._made
        ended = await self._delete(force=call.params.force)
        if self._row.rm:  # the run that asked for it finds nothing more to remove
            await self._drop_container()
        return ended

    async def _close_io_called(self, _: Call) -> Any:
        self._state.close_io()
        await self._grip.ask(CloseIO())
        return {}

    async def _pids_called(self, _: Call) -> Any:
        self._state.pids()
        answer = await self._grip.ask(Pids())
        return {"pids": [{"pid": pid} for pid in answer.result["pids"]]}

    async def _shim_called(self, _: Call) -> Any:
        answer = await self._grip.ask(Hello(self._progress.durable))
        return {name: answer.result[name] for name in ("pid", "version", "started_at", "adopted")}

    # -- deeds

    async def _make(self) -> None:
        try:
            await self._life.make(self._progress)
        except BaseException:
            self._gone()
            raise
        finally:
            self._made.set(None)
        shim = self._life.shim
        if shim is not None and shim.gone.done:  # just now, when nobody would have heard it
            self._grip.replaced(shim.pid)

    async def _start(self) -> dict[str, int]:
        self._state = self._state.start()()
        try:
            answer = await self._grip.ask(Start(), over=lambda: not isinstance(self._state, Starting))
        except ShimyardError as error:
            if self._life.shim is not None:
                await self._progress.until(self._life.shim.last)
            self._state = self._state.unstarted()()
            raise named(error, self._container.spec) from None
        await self._progress.until(answer.n)
        return {"pid": self._facts.pid}

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

    async def _delete(self, *, force: bool) -> Exit:
        before = self._state
        self._state = (before.force_delete() if force else before.delete())()
        self._show()
        try:
            answer = await self._grip.ask(Delete(force=force))
        except BaseException:
            self._state = Stopped() if self._facts.exit.done else before
            self._show()
            raise
        await self._progress.until(answer.n)
        await self._life.remove(self.loop)
        self._gone()
        return self._facts.exit.result()

    async def _remove_all(self) -> None:
        """Task and container, as far as they are there: another client may have been faster."""
        try:
            if not self._life.ending:
                await self._delete(force=True)
        except ShimyardError as error:
            log.warning("removal of %s: %s", self._row.id, error)
            return
        await self._drop_container()

    async def _drop_container(self) -> None:
        dropped: Pending[None] = Pending()
        post(self._tools.runtime, DropContainer(self._row.namespace, self._row.id, dropped))
        try:
            await dropped
        except NotFound:
            log.debug("the container of %s was removed by another", self._row.id)

    async def _remove_after_exit(self) -> None:
        await self._facts.exit
        await self._remove_all()

    async def _restore(self) -> None:
        self._made.set(None)
        await self._grip.recover(self._row.shim_pid)
        if self._facts.shim == "lost" and isinstance(self._state, Creating):  # nothing was heard: what the row says holds
            self._state, self._facts = _STATES[self._row.phase](), Facts.of(self._row)
            self._facts.shim = "lost"
        self._restored = True
        self._show()
        if self._row.rm:
            flow.spawn(self._remove_after_exit(), f"removal of {self._row.id}")

    async def _undo(self) -> None:
        await self._life.undo(self.loop)
        if self._row.extra.get("run"):
            await self._drop_container()
        self._gone()

    # -- what is known

    def _tell(self, n: int, event: Message) -> Told:
        self._row = advanced(self._row, event, self._life.shim.pid if self._life.shim else 0)
        return told(self._row, self._container, n, event)

    def _apply(self, n: int, event: Message) -> None:
        """A durable event moves the state."""
        match event:
            case ShimCreated():
                self._state = self._state.created()()
                self._facts.pid = event.pid
            case Started():
                self._state = self._state.started()()
                self._facts.started_at = event.at
                self._watch(event.at)
            case StartFailed():
                self._state = self._state.exited()()
                self._facts.end(self._row.id, Exited(event.at, event.pid, event.status, reason="start-failed"))
            case Exited():
                self._state = self._state.exited()()
                self._facts.end(self._row.id, event)
        if self._life.shim is not None:
            if isinstance(event, ShimCreated):
                self._grip.hold(self._life.shim.pid)
                self._facts.shim_pid = self._life.shim.pid
            self._life.shim.ack(n)
        self._show()

    def _watch(self, started_at: int) -> None:
        if self._container.timeout is not None:
            row = self._row
            watch = Watch(row.namespace, row.id, self.actor_ref, started_at, self._container.timeout)
            post(self._tools.monitor, watch)

    def _stop_settings(self) -> Stop:
        return self._container.stop or Stop()

    def _on_shim(self, state: str, pid: int) -> TaskRow:
        self._facts.shim, self._facts.shim_pid = state, pid
        self._row = dataclasses.replace(self._row, shim_pid=pid)
        self._show()
        return self._row

    def _insist(self, reason: str | None) -> None:
        if self._life.shim is not None:
            self._life.shim.call(Kill(signals.SIGKILL, reason=reason))

    def _view(self) -> Task:
        return view(self._row, self._state.status, self._facts)

    def _show(self) -> None:
        if self._restored and not self._life.removed:
            post(self._tools.runtime, Changed(self._view()))

    def _gone(self) -> None:
        post(self._tools.runtime, Removed(self._row.namespace, self._row.id))
        self.stop()

    def _answer(self, call: Call, deed: Coroutine[Any, Any, Any]) -> None:
        flow.start(deed).then(lambda outcome: _reply(call, outcome))


def _reply(call: Call, outcome: Pending[Any]) -> None:
    if outcome.error is None:
        call.reply.ok(outcome.result())
        return
    if not isinstance(outcome.error, ShimyardError):
        log.error("%s failed", call.method, exc_info=outcome.error)
    call.reply.fail(outcome.error)
