"""A task's execs, as clients ask for them: added, then started; each has stdio, logs and an exit status of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from actors.messages import Begun, Call, Unanswered
from actors.records import Exit, Process
from actors.shape import dump
from actors.spec import check_exec, parse_signal
from actors.task.deeds import TaskDeeds
from actors.task.exec_states import Running, Starting, Stopped
from actors.task.execs import Exec
from actors.task.failures import failed_start, named
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import AlreadyExists, InvalidArgument, ShimyardError
from shimproc.flow import Pending
from shimproc.messages import CloseIO, DeleteProcess, Kill, Resize, Start
from shimproc.messages import Exec as ExecRequest


class ExecDeeds(TaskDeeds):
    """What a task does for its execs."""

    async def _exec_called(self, call: Call) -> Process:
        params = call.params
        self._state.exec()
        check_exec(params)
        exec_id, row = params.exec_id, self._row
        if exec_id == row.id or self._execs.has(exec_id):
            what = "the task's init has this id" if exec_id == row.id else f"the exec {exec_id} exists already"
            raise AlreadyExists(f"exec_id: {what}; take another")
        log = self._tools.log_settings(row.namespace, row.id, exec_id)
        if "log:" in (params.stdio.stdout, params.stdio.stderr):
            await self._tools.disk.do(lambda: Path(log["path"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True))
        request = ExecRequest(exec_id, params.process, dump(params.stdio), log)
        answer = await self._grip.ask(request, over=lambda: self._execs.has(exec_id))
        point("daemon: exec added by the shim")
        await self._progress.until(answer.n)
        return self._execs.get(exec_id).view(row.id)

    def _answer_late_for_exec(self, begun: Begun) -> None:
        """A request about an exec that a former daemon had begun: was it done?"""
        one = self._execs.find(begun.exec_id)
        if begun.method == "tasks.exec" and one is not None:
            begun.reply.ok(one.view(self._row.id))
        elif begun.method == "tasks.start" and one is not None and (failure := _failed_start(one)) is not None:
            begun.reply.fail(failure)
        elif begun.method == "tasks.start" and one is not None and isinstance(one.state, (Running, Stopped)):
            begun.reply.ok({"pid": one.pid})
        elif begun.method == "tasks.start" and one is not None:  # perhaps it is under way: then this is its outcome
            flow.start(self._start_exec(begun.exec_id)).then(lambda outcome: reply_late(begun.reply, outcome))
        elif begun.method == "tasks.kill" and one is not None and one.exit.done:
            begun.reply.ok({})
        elif begun.method == "tasks.delete_process" and begun.exec_id in self._removed:
            begun.reply.ok(self._removed.pop(begun.exec_id))
        else:
            begun.reply.drop()

    async def _start_exec_called(self, call: Call) -> dict[str, int]:
        return await self._start_exec(call.params.exec_id)

    async def _start_exec(self, exec_id: str) -> dict[str, int]:
        one = self._execs.get(exec_id)
        self._state.exec()
        one.state = one.state.start()()
        try:
            answer = await self._grip.ask(Start(exec_id), over=lambda: not isinstance(one.state, Starting))
        except ShimyardError as error:
            if self._life.shim is not None:
                await self._progress.until(self._life.shim.last)
            if isinstance(one.state, Starting) or _failed_start(one) is not None:  # else a former daemon's start has been done
                one.state = one.state.unstarted()()
                raise named(error, one.program, "process") from None
        else:
            point("daemon: exec started by the shim")
            await self._progress.until(answer.n)
        if (failure := _failed_start(one)) is not None:  # told by a shim that was killed before it could answer
            raise failure
        return {"pid": one.pid}

    async def _wait_exec_called(self, call: Call) -> Exit:
        return await self._execs.get(call.params.exec_id).exit

    async def _kill_exec_called(self, call: Call) -> dict[str, int]:
        params = call.params
        number = parse_signal(params.signal, "signal")
        self._execs.get(params.exec_id).state.kill()
        await self._grip.ask(Kill(number, all=params.all, process=params.exec_id))
        return {}

    async def _close_exec_io_called(self, call: Call) -> dict[str, int]:
        exec_id = call.params.exec_id
        self._execs.get(exec_id).state.close_io()
        await self._grip.ask(CloseIO(exec_id))
        return {}

    async def _resize_exec_called(self, call: Call) -> dict[str, int]:
        params = call.params
        self._execs.get(params.exec_id).state.resize()
        await self._grip.ask(Resize(params.width, params.height, params.exec_id))
        return {}

    async def _delete_process_called(self, call: Call) -> Exit:
        exec_id, row = call.params.exec_id, self._row
        if exec_id == row.id:
            raise InvalidArgument(f"exec_id: {exec_id} is the task's init; delete the task")
        one = self._execs.get(exec_id)
        one.state.delete()
        record = one.exit.result() if one.exit.done else Exit(exec_id, 0, 0, 0)
        self._removals[exec_id] = call.reply
        try:
            answer = await self._grip.ask(DeleteProcess(exec_id), over=lambda: not self._execs.has(exec_id))
            point("daemon: exec deleted by the shim")
            await self._progress.until(answer.n)
        finally:
            self._removals.pop(exec_id, None)
            self._removed.pop(exec_id, None)
        log = Path(self._tools.log_settings(row.namespace, row.id, exec_id)["path"])
        await self._tools.disk.do(lambda: shutil.rmtree(log.parent, ignore_errors=True))
        return record


def _failed_start(one: Exec) -> ShimyardError | None:
    return failed_start(one.exit.result() if one.exit.done else None, one.program, "process")


def reply_late(reply: Unanswered | None, outcome: Pending[Any]) -> None:
    """The answer to a request that a former daemon had begun."""
    if reply is not None and outcome.error is None:
        reply.ok(outcome.result())
    elif reply is not None and outcome.error is not None:
        reply.fail(outcome.error)
