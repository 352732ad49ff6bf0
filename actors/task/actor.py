"""One task: who asks something of it (``TaskDeeds``): clients, its shim's events, and a daemon that has been restarted.

A request asks the state first; the state is moved by the shim's events once they are durable, so nothing that a client
is told can be unsaid by a crash. What a request then takes in steps is a flow, and other messages go on meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from actors.dispatch import post
from actors.messages import (
    Adopt,
    Begin,
    Begun,
    Call,
    Expired,
    Probed,
    Removed,
    Reply,
    Restore,
    ShimEvent,
    ShimGone,
    ShimOutput,
    Unanswered,
    Undo,
)
from actors.records import Container, Exit, Stop, Task
from actors.spec import check_resources, check_seconds, parse_signal
from actors.store.tasks import TaskRow
from actors.task.checkpoints import CheckpointDeeds
from actors.task.deeds import FAILED
from actors.task.events import CREATED, PAUSED, RUNNING, STOPPED
from actors.task.exec_deeds import reply_late
from actors.task.states import Created, Creating, Deleting, Paused, Running, Stopped, TaskState
from actors.task.tools import Tools
from actors.task.usage import usage
from actors.task.view import Facts, run_result
from actors.task.waits import Waits
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, ShimyardError, Unavailable
from shimproc.flow import Pending
from shimproc.loop import LoopLike
from shimproc.messages import CloseIO, Hello, Kill, Metrics, Pids, Resize, Update

log = logging.getLogger(__name__)
_STATES: Mapping[str, type[TaskState]] = {CREATED: Created, RUNNING: Running, PAUSED: Paused, STOPPED: Stopped}


class TaskActor(CheckpointDeeds):
    """A task from its creation to its removal; the runtime holds it, by its ref."""

    def __init__(self, loop: LoopLike, tools: Tools, row: TaskRow, container: Container) -> None:
        super().__init__(loop, tools, row, container)
        self._ready: Pending[None] = Pending()
        self._waits = Waits()
        self._requests: Mapping[str, Callable[[Call], Coroutine[Any, Any, Any]]] = {
            "tasks.start": self._start_called,
            "tasks.kill": self._kill_called,
            "tasks.stop": self._stop_called,
            "tasks.delete": self._delete_called,
            "tasks.close_io": self._close_io_called,
            "tasks.resize": self._resize_called,
            "tasks.pids": self._pids_called,
            "tasks.metrics": self._metrics_called,
            "tasks.pause": self._pause_called,
            "tasks.resume": self._resume_called,
            "tasks.checkpoint": self._checkpoint_called,
            "tasks.update": self._update_called,
            "tasks.shim": self._shim_called,
        }
        self._exec_requests: Mapping[str, Callable[[Call], Coroutine[Any, Any, Any]]] = {
            "tasks.exec": self._exec_called,
            "tasks.start": self._start_exec_called,
            "tasks.wait": self._wait_exec_called,
            "tasks.kill": self._kill_exec_called,
            "tasks.close_io": self._close_exec_io_called,
            "tasks.resize": self._resize_exec_called,
            "tasks.delete_process": self._delete_process_called,
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
        about_exec = getattr(call.params, "exec_id", None) is not None
        if about_exec and self._grip.is_lost and not self._progress.durable:  # they are in the shim's journal alone
            raise Unavailable("the task has no shim now, and its execs are not known; another is being made, try again")
        if call.method == "tasks.attach":
            flow.start(self._attach(call)).then(lambda outcome: _refused(call, outcome))
            return
        if call.method == "tasks.wait" and not about_exec:
            self._waits.add(self._facts.exit, call.reply)
            return
        served = self._exec_requests if about_exec else self._requests
        self._answer(call, served[call.method](call))

    def on_shim_event(self, message: ShimEvent) -> None:
        """Journaled by the shim; here it counts once it is durable."""
        self._progress.take(message.n, message.event, message.after)

    def on_shim_output(self, message: ShimOutput) -> None:
        """For an attached client."""
        self._attachments.take(message.frame)

    def on_shim_gone(self, _: ShimGone) -> None:
        """Expected after a delete; else the task has lost its shim, and gets another."""
        if not self._life.ending and self._made.done:
            self._grip.replaced()

    def on_expired(self, _: Expired) -> None:
        """The monitor: its time is over."""
        if not isinstance(self._state, Stopped):
            flow.spawn(self._end(self._stop_settings(), "timeout"), f"stop of {self._row.id} at its timeout")

    def on_probed(self, message: Probed) -> None:
        """The watchman: how it is."""
        if not isinstance(self._state, Stopped) and not self._facts.deleted:
            self._take_health(message.health, changed=message.changed)

    def on_adopt(self, _: Adopt) -> None:
        """Try again to get a shim for a task that has none."""
        if not self._life.ending:
            self._grip.retry()

    def on_restore(self, message: Restore) -> None:
        """Find the shim again and hear from it how the task stands."""
        if message.known:
            self._believe()
            self._progress.begin_after(message.known)
        flow.start(self._restore(message.unanswered)).then(lambda _: self._ready.set(None))

    def on_undo(self, message: Undo) -> None:
        """A create, or a removal, that was cut off: nothing may be left, and nobody is told."""
        self._progress.mute()
        undone = flow.start(self._undo())

        def answer(outcome: Pending[None]) -> None:
            if outcome.error is not None:  # its row stays, for the next daemon to try
                log.error("undo of %s failed", self._row.id, exc_info=outcome.error)
                message.done.set(None)
            else:  # not before the runtime has heard that the id is free
                post(self._tools.runtime, Removed(self._row.namespace, self._row.id, message.done))
            self._ready.set(None)  # who has asked meanwhile hears that it is gone
            for begun in message.unanswered:
                begun.reply.drop()

        undone.then(answer)

    # -- requests

    async def _create(self, call: Call) -> Task:  # noqa: ARG002 - as all requests
        await self._make()
        return self._view()

    async def _run(self, call: Call) -> Any:
        """Container, create and start in one; a failure leaves nothing at all."""
        await self._start_run(self._make())
        return await self._finish_run(call.reply)

    async def _start_called(self, _: Call) -> Any:
        return await self._start()

    async def _kill_called(self, call: Call) -> Any:
        number = parse_signal(call.params.signal, "signal")
        self._state.kill()
        await self._grip.ask(Kill(number, all=call.params.all))
        return {}

    async def _stop_called(self, call: Call) -> Exit:
        settings = self._stop_settings()
        signal = settings.signal if call.params.signal is None else call.params.signal
        grace = settings.grace if call.params.grace is None else call.params.grace
        check_seconds(grace, "grace")
        return await self._end(Stop(parse_signal(signal, "signal"), grace), None)

    async def _delete_called(self, call: Call) -> Exit:
        if call.params.force:
            await self._made
        return await self._delete(force=call.params.force, reply=call.reply)

    async def _close_io_called(self, _: Call) -> Any:
        self._state.close_io()
        await self._grip.ask(CloseIO())
        return {}

    async def _resize_called(self, call: Call) -> Any:
        self._state.resize()
        await self._grip.ask(Resize(call.params.width, call.params.height))
        return {}

    async def _attach(self, call: Call) -> None:
        exec_id = call.params.exec_id
        if exec_id is None:
            self._state.attach()
        else:
            self._execs.get(exec_id).state.attach()
        await self._attachments.open(call, exec_id or "")

    async def _pids_called(self, _: Call) -> Any:
        self._state.pids()
        answer = await self._grip.ask(Pids())
        return {"pids": answer.result["pids"]}

    async def _metrics_called(self, _: Call) -> Any:
        self._state.metrics()
        return await usage((await self._grip.ask(Metrics())).result, self._tools.disk)

    async def _pause_called(self, _: Call) -> Any:
        return await self._pause()

    async def _resume_called(self, _: Call) -> Any:
        return await self._resume()

    async def _update_called(self, call: Call) -> Any:
        check_resources(call.params.resources, "resources")
        self._state.update()
        await self._grip.ask(Update(call.params.resources))
        return {}

    async def _shim_called(self, _: Call) -> Any:
        if self._grip.is_gone:
            why = "its bundle is gone, or its host was started again"
            raise FailedPrecondition(f"the task has no shim, and can have none any more: {why}")
        answer = await self._grip.ask(Hello(self._progress.durable))
        return {name: answer.result[name] for name in ("pid", "version", "started_at", "adopted")}

    # -- runs

    async def _start_run(self, making: Coroutine[Any, Any, None] | None = None) -> None:
        """A failure leaves neither task nor container."""
        try:
            if making is not None:
                await making
            if (failure := self._failed_start()) is not None:
                raise failure
            await self._start()
        except BaseException:
            await self._give_up_run()
            raise

    async def _finish_run(self, reply: Reply | None) -> Any:
        """From its start on. The answer is kept before the task, which it is about, is removed."""
        extra = self._row.extra
        if not extra.get("wait"):
            if self._row.rm:
                flow.spawn(self._remove_after_exit(), f"removal of {self._row.id}")
            return self._view()
        await self._facts.exit
        result = run_result(self._view(), self._facts, captured=extra.get("capture") is not None)
        if self._row.rm:
            if reply is not None and (changes := reply.kept(result)):
                await self._tools.exchange.publish(changes=changes)
                point("daemon: answer kept")
            await self._remove_all()
        return result

    async def _resume_run(self, reply: Reply | None) -> Any:
        """A run that a former daemon had begun: it goes on where that was killed."""
        if self._is_to_start():
            await self._start_run()
        return await self._finish_run(reply)

    def _is_to_start(self) -> bool:
        """Or to be told, and undone, since it could not be."""
        return isinstance(self._state, Created) or self._failed_start() is not None

    # -- after a restart of the daemon

    async def _restore(self, unanswered: Sequence[Begun]) -> None:
        point("daemon: task to be taken back")
        self._made.set(None)
        self._deleting = _reply_to("tasks.delete", unanswered)
        self._removals = {one.exec_id: one.reply for one in unanswered if one.method == "tasks.delete_process"}
        checkpoint = self._checkpointing = _reply_to("tasks.checkpoint", unanswered)
        await self._grip.recover(self._row.shim_pid)
        self._deleting, self._removals, self._checkpointing = None, {}, None
        if self._grip.is_lost and isinstance(self._state, Creating):  # nothing was heard: what the row says holds
            shown = self._facts.shim
            self._believe()
            self._facts.shim = shown
        self._restored = True
        self._show()
        if self._facts.deleted:
            await self._clear()
        self._answer_late_for_checkpoint(checkpoint)
        run = next((one.reply for one in unanswered if one.method == "tasks.run" and _has_made(one.reply, self._row)), None)
        for begun in unanswered:
            if begun.exec_id:
                self._answer_late_for_exec(begun)
            elif begun.reply not in (run, checkpoint):
                self._answer_late(begun.method, begun.reply)
        if self._grip.is_deleting and not isinstance(self._state, Deleting):
            flow.spawn(self._delete(force=True), f"the rest of the removal of {self._row.id}")
        if self._row.extra.get(FAILED):
            failure = self._failed_start() or Unavailable("the run had failed when the daemon was killed; it is undone")
            flow.start(self._remove_all()).then(lambda _: None if run is None else run.fail(failure))
        elif run is not None or (self._row.extra.get("run") and self._is_to_start()):
            flow.start(self._resume_run(run)).then(lambda outcome: reply_late(run, outcome))
        elif self._row.rm and not self._facts.deleted:
            flow.spawn(self._remove_after_exit(), f"removal of {self._row.id}")

    def _believe(self) -> None:
        """What the row says holds."""
        self._state, self._facts = _STATES[self._row.phase](), Facts.of(self._row)

    def _answer_late(self, method: str, reply: Unanswered) -> None:
        """A request that a former daemon had begun: was it done?"""
        if method == "tasks.start" and (failure := self._failed_start()) is not None:
            reply.fail(failure)
        elif method == "tasks.start" and isinstance(self._state, (Running, Stopped)):
            reply.ok({"pid": self._facts.pid})
        elif method == "tasks.start" and self._grip.is_starting:
            flow.start(self._start()).then(lambda outcome: reply_late(reply, outcome))
        elif method == "tasks.create" and _has_made(reply, self._row):
            reply.ok(self._view())
        elif method == "tasks.delete" and self._facts.deleted:
            reply.ok(self._exit())
        elif method == "tasks.delete" and self._grip.is_deleting and not isinstance(self._state, Deleting):
            flow.start(self._delete(force=True, reply=reply)).then(lambda outcome: reply_late(reply, outcome))
        elif (method == "tasks.kill" and self._facts.exit.done) or (
            (method, type(self._state)) in (("tasks.pause", Paused), ("tasks.resume", Running))
        ):
            reply.ok({})
        else:
            reply.drop()

    async def _undo(self) -> None:
        point("daemon: undo begun")
        await self._life.undo(self.loop)
        point("daemon: undone")
        self._gone()
        if self._row.extra.get("run") or self._row.rm:
            await self._drop_container()

    def _answer(self, call: Call, deed: Coroutine[Any, Any, Any]) -> None:
        flow.start(deed).then(lambda outcome: _reply(call, outcome))


def _has_made(reply: Unanswered, row: TaskRow) -> bool:
    """Another request for a task of this id was too late; repeated, it is told so."""
    return bool(reply.key) and reply.key == row.extra.get("by")


def _reply_to(method: str, unanswered: Sequence[Begun]) -> Unanswered | None:
    return next((begun.reply for begun in unanswered if begun.method == method), None)


def _reply(call: Call, outcome: Pending[Any]) -> None:
    if outcome.error is None:
        call.reply.ok(outcome.result())
        return
    if not isinstance(outcome.error, ShimyardError):
        log.error("%s failed", call.method, exc_info=outcome.error)
    call.reply.fail(outcome.error)


def _refused(call: Call, outcome: Pending[None]) -> None:
    if outcome.error is not None:
        _reply(call, outcome)
