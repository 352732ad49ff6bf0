"""Checkpoints of a task, as the daemon sees them: asked of the shim, told by its event, and found again after a restart."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from actors.messages import Call, Reply, Unanswered
from actors.records import HEALTH_EXECS, Container
from actors.spec import check_path
from actors.store.tasks import TaskRow
from actors.task.exec_deeds import ExecDeeds
from actors.task.progress import Told
from actors.task.states import Checkpointing, Paused, Running, TaskState
from actors.task.tools import Tools
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import NotFound, ShimyardError, Unimplemented
from shimproc.flow import Pending
from shimproc.loop import LoopLike
from shimproc.messages import Checkpoint, Checkpointed, Message
from shimproc.runtimes.plain import NO_CHECKPOINT


class CheckpointDeeds(ExecDeeds):
    """What a task does about its checkpoints.

    A shim tells a new daemon everything from the beginning; what is after the row's ``checkpointed`` is news.
    """

    def __init__(self, loop: LoopLike, tools: Tools, row: TaskRow, container: Container) -> None:
        super().__init__(loop, tools, row, container)
        self._checkpointing: Reply | None = None
        self._former_checkpoint = self._last_checkpoint = row.checkpointed

    async def _checkpoint_called(self, call: Call) -> Any:
        params = call.params
        check_path(params.path, "path")
        check_path(params.work_path, "work_path")
        if self._row.runtime["name"] == "process":
            raise Unimplemented(NO_CHECKPOINT)
        self._move(self._state.checkpoint()())
        own = self._tools.criu_path(self._row.namespace, self._row.id)
        request = Checkpoint(
            path=params.path,
            work_path=params.work_path or own,
            exit=params.exit,
            open_tcp=params.open_tcp,
            external_unix_sockets=params.external_unix_sockets,
            terminal=params.terminal,
            file_locks=params.file_locks,
            empty_namespaces=params.empty_namespaces,
        )
        await self._probes_over()
        return await self._checkpoint(request, call.reply)

    async def _probes_over(self) -> None:
        """Execs are in the way of a checkpoint, and these are nobody's to wait for but ours; no other begins meanwhile."""
        for probe in self._execs.running(HEALTH_EXECS):
            with contextlib.suppress(NotFound):
                await probe.exit

    async def _checkpoint(self, request: Checkpoint, reply: Reply | None) -> dict[str, Any]:
        """``reply`` is kept with the event's own commit. With ``exit`` done once the exit is durable, too."""
        before = self._last_checkpoint
        self._checkpointing = reply
        try:
            answer = await self._grip.ask(request, over=lambda: not isinstance(self._state, Checkpointing))
            point("daemon: checkpointed by the shim")
            await self._progress.until(answer.n)
        except ShimyardError:
            if self._life.shim is not None:
                await self._progress.until(self._life.shim.last)
            if self._last_checkpoint == before:
                self._move(self._state.uncheckpointed()())
                raise
        finally:
            self._checkpointing = None
        if request.exit:
            await self._facts.exit
        return {}

    def _answer_late_for_checkpoint(self, reply: Unanswered | None) -> None:
        """A former daemon had asked for one: it is done, is at work, or was not done."""
        path = self._grip.checkpoint
        if path and isinstance(self._state, Running | Paused):
            self._move(self._state.checkpoint()())
            flow.start(self._checkpoint(Checkpoint(path), reply)).then(lambda outcome: _answer(reply, outcome))
        elif reply is not None and self._last_checkpoint > self._former_checkpoint:
            reply.ok({})
        elif reply is not None:
            reply.drop()

    def _move(self, state: TaskState) -> None:
        self._state = state
        self._show()

    def _tell(self, n: int, event: Message) -> Told:
        """An event is told again, if its commit has failed."""
        news = isinstance(event, Checkpointed) and n > self._former_checkpoint
        if news:
            self._last_checkpoint = max(n, self._last_checkpoint)
            self._row = dataclasses.replace(self._row, checkpointed=self._last_checkpoint)
        events, changes = super()._tell(n, event)
        if news and self._checkpointing is not None:
            changes += self._checkpointing.kept({})
        return events, changes


def _answer(reply: Unanswered | None, outcome: Pending[dict[str, Any]]) -> None:
    if reply is not None and outcome.error is None:
        reply.ok(outcome.result())
    elif reply is not None and outcome.error is not None:
        reply.fail(outcome.error)
