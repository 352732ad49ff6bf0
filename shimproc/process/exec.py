"""An exec: one more process of a task, in its shim. Added, then started; it ends by itself, is killed, or goes with init.

What it shall be is in the bundle before it is journaled as added, so that the shim after a killed one can go on with it. Its
exit is told after everything that it wrote has been read, as init's is.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence

from shimproc import flow
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, InvalidArgument, NotFound, ShimyardError
from shimproc.flow import Pending, done
from shimproc.io.attach import Attachment
from shimproc.io.keepsakes import ForExec, taken_for
from shimproc.io.logger import start_loggers
from shimproc.io.stdio import adopt_stdio, open_stdio
from shimproc.io.streams import ProcessIO
from shimproc.io.uri import LogSettings
from shimproc.messages import Deleted, Exited, Kill, Message, Started, StartFailed, exec_of
from shimproc.messages import ExecAdded as Told
from shimproc.process.estate import Estate, begun
from shimproc.process.host import EXEC_STATUS, FLUSH_SECONDS, LOST, LOST_STATUS, Host
from shimproc.process.states import ExecAdded, ExecRunning, ExecStarting, ExecState, ExecStopped
from shimproc.reaper import Exited as Reaped
from shimproc.reaper import boottime
from shimproc.runtimes.backend import Added, Backend, ExecFiles

log = logging.getLogger(__name__)


class Exec:
    """From its being added to its deletion.

    Parameters
    ----------
    told : its journaled beginning.
    files : its files in the bundle, written by then.
    """

    def __init__(self, host: Host, told: Told, files: ExecFiles) -> None:
        self.id = told.process
        self._host = host
        self._told = told
        self._files = files
        self._keeper = ForExec(host.keeper, self.id)
        self._state: ExecState = ExecAdded()
        self._added: Added | None = None
        self._io: ProcessIO | None = None
        self._reaped: Reaped | None = None
        self._reason: str | None = None
        self._waiting: dict[int, Attachment] = {}
        self._started_at = 0
        self._began = 0
        self.pid = 0
        self.status = 0
        self.exited_at = 0
        self._settled: Pending[None] = done(None)
        self._starting: Pending[dict[str, int]] | None = None
        self._ended: Pending[None] = Pending()

    @property
    def state(self) -> str:
        """The state's name."""
        return self._state.name

    @property
    def is_alive(self) -> bool:
        """Is there a process, or one on its way?"""
        return isinstance(self._state, ExecStarting | ExecRunning)

    async def start(self, backend: Backend) -> dict[str, int]:
        """Make it, and let it go. A program that cannot be started leaves it stopped, without an exit event.

        One that is under way was asked for by a daemon that was killed meanwhile: its outcome is this one's, too.
        """
        if self._starting is None or self._starting.done:
            self._starting = flow.start(self._start(backend))
        return await self._starting

    async def _start(self, backend: Backend) -> dict[str, int]:
        self._state = self._state.start()()
        self._settled = Pending()
        try:
            await self._make(backend)
        except BaseException as error:
            details = error.details if isinstance(error, ShimyardError) else {}
            self._fail(EXEC_STATUS.get(str(details.get("kind"))))
            raise
        else:
            await self._run()
        finally:
            self._settled.set(None)
        return {"pid": self.pid}

    async def _make(self, backend: Backend) -> None:
        try:
            logs = LogSettings(**self._told.log)
            loggers = await start_loggers(self._host, self._told.stdio, self._files.bundle)
            self._io = open_stdio(self._host.loop, self._told.stdio, logs, None, self._files.bundle, loggers)
            self._let_in()
            added = self._added = backend.add(self._files)
            self._io.entrust(self._keeper, 0, {})
            with self._host.reaper.expecting():
                self.pid = await added.create(self._io.child, self._io.console)
                self._watch(self._host.reaper.watch(self.pid, hold=True))
            point("shim: exec made")
            self._io.take_terminal()
            self._io.entrust(self._keeper, self.pid, added.keepsakes)
            await added.start()
        finally:
            if self._io is not None:
                self._io.close_child()

    def _run(self) -> Pending[None]:
        self._state = self._state.started()()
        self._started_at = max(time.time_ns(), self._told.at)
        told = self._host.emit(Started(self._started_at, self.pid, self.id, boottime(), begun(self.pid)))
        point("shim: exec started journaled")
        self._end_if_reaped()
        return told

    def kill(self, request: Kill) -> dict[str, int]:
        """By pidfd, without a fork."""
        if request.all:
            raise InvalidArgument("all: it is for the task's init; leave it out, or leave out exec_id")
        self._state.kill()
        if self._reaped is not None:
            self._state.over()
        self._host.reaper.send(self.pid, request.signal)
        return {}

    def slay(self) -> Pending[None]:
        """Init has ended, so this ends; done when that is told."""
        return flow.start(self._slay())

    async def _slay(self) -> None:
        await self._settled
        if not isinstance(self._state, ExecRunning):
            return
        if self._reaped is None:
            try:
                self._host.reaper.send(self.pid, signal.SIGKILL)
            except NotFound:
                log.debug("exec %s had ended before it was killed", self.id)
        await self._ended

    @property
    def io(self) -> ProcessIO:
        """Its streams; ``FailedPrecondition`` while it has none."""
        if self._io is None:
            raise FailedPrecondition("the exec has no streams: it is not started")
        return self._io

    def attach(self, attachment: Attachment) -> None:
        """A client at its output; one that comes before the start waits for it."""
        if not isinstance(self._state, ExecAdded | ExecStarting | ExecRunning):
            self._state.kill()  # NotFound
        if self._io is not None:
            self._io.attach(attachment)
        else:
            self._waiting[attachment.number] = attachment

    def _let_in(self) -> None:
        assert self._io is not None
        waiting, self._waiting = self._waiting, {}
        for attachment in waiting.values():
            try:
                self._io.attach(attachment)
            except ShimyardError as error:
                attachment.fail(error)

    def detach(self, number: int) -> None:
        """The client is gone."""
        self._waiting.pop(number, None)
        if self._io is not None:
            self._io.detach(number)

    async def delete(self) -> dict[str, int]:
        """Forget it, once its output is delivered. Only when it does not run."""
        before = self._state
        self._state = before.delete()()
        if before.name != self._state.name:
            if self._io is not None:
                await self._io.delivered(FLUSH_SECONDS)
                self._io.abandon()
            self._files.remove()
            at = max(time.time_ns(), self._told.at, self.exited_at)  # the clock may have been set back
            told = Deleted(at, self.pid, self.status, self.exited_at, self.id)
            await self._host.emit(told)
        return {"pid": self.pid, "exit_status": self.status, "exited_at": self.exited_at}

    def entrust(self) -> None:
        """To a keeper that has nothing of ours yet."""
        if self._io is not None and self._added is not None and self.is_alive:
            self._io.entrust(self._keeper, self.pid, self._added.keepsakes)

    # -- after a shim that was killed

    def recall(self, event: Message) -> None:
        """What the journal says has happened since it was added."""
        match event:
            case Started():
                self._state, self.pid, self._started_at, self._began = ExecRunning(), event.pid, event.at, event.begun
            case Exited() | StartFailed():
                self._state, self.pid, self.status, self.exited_at = ExecStopped(), event.pid, event.status, event.at
                self._ended.set(None)

    async def adopt(self, backend: Backend, estate: Estate) -> None:
        """Go on with it. A start that was cut off before anything was made has not been."""
        kept = taken_for(estate.kept, self.id)
        try:
            if isinstance(self._state, ExecAdded) and self._files.pid() is None:
                return
            added = self._added = backend.add(self._files)
            added.adopt(kept)
            if isinstance(self._state, ExecAdded) and not added.is_started():
                self._files.unmake()
                added.let_go()
                return
            self._io = adopt_stdio(self._host.loop, self._told.stdio, LogSettings(**self._told.log), None, kept)
            self._io.tell(self._keeper)
            self._take_up(added, estate)
        finally:
            Estate(kept).close()

    def _take_up(self, added: Added, estate: Estate) -> None:
        assert self._io is not None
        if isinstance(self._state, ExecStopped):
            self._io.finish()
            return
        told_at = self._started_at
        if isinstance(self._state, ExecAdded):  # made, and not told
            self.pid, told_at = added.made() or 0, self._told.at
            self._io.entrust(self._keeper, self.pid, added.keepsakes)
            self._state = self._state.start()()
            self._run()
        self._watch(estate.watch(self._host.reaper, self.pid, told_at, self._began))

    # -- its end

    def _fail(self, status: int | None) -> None:
        """It was not started. ``status`` if that is final; else it may be tried again."""
        if self._added is not None:
            self._added.let_go()
        self._files.unmake()
        if self._io is not None:
            self._io.abandon()
            self._io = None
        pid, self._reaped = self.pid, None
        self._keeper.forget(pid)
        self._host.reaper.release(pid)
        if status is None:
            self._state, self.pid = self._state.unstarted()(), 0
            return
        self._state = self._state.exited()()
        self.status, self.exited_at = status, max(time.time_ns(), self._told.at)
        told = self._host.emit(StartFailed(at=self.exited_at, pid=pid, status=status, process=self.id))
        told.then(lambda _: self._ended.set(None))

    def _watch(self, ending: Pending[Reaped]) -> None:
        pid = self.pid
        ending.then(lambda outcome: self._on_reaped(pid, outcome))

    def _on_reaped(self, pid: int, outcome: Pending[Reaped]) -> None:
        if pid != self.pid or not self.is_alive:  # its start had failed: this death is no exit
            self._host.reaper.release(pid)
            return
        if outcome.error is not None:
            log.warning("exec %s: %s", self.id, outcome.error)
            self._reason = LOST
        self._reaped = outcome.result() if outcome.error is None else Reaped(LOST_STATUS, time.time_ns())
        self._end_if_reaped()

    def _end_if_reaped(self) -> None:
        """The exit, never before its start."""
        reaped = self._reaped
        if reaped is None or not isinstance(self._state, ExecRunning):
            return
        assert self._io is not None
        assert self._added is not None
        self._added.ended()
        self._state = self._state.exited()()
        self.status, self.exited_at = reaped.status, max(reaped.at, self._started_at)
        self._io.finish()
        dropped = self._io.dropped or None
        told = self._host.emit(
            Exited(self.exited_at, self.pid, reaped.status, self.id, self._reason, dropped=dropped)
        )
        point("shim: exec exit journaled")
        told.then(self._on_end_told)

    def _on_end_told(self, _: Pending[None]) -> None:
        """The journal has it: it may go."""
        assert self._io is not None
        self._host.reaper.release(self.pid)
        self._io.flushed.then(lambda _: self._keeper.forget(self.pid))
        self._ended.set(None)


def recalled(host: Host, events: Sequence[Message], bundle: str) -> dict[str, Exec]:
    """The execs that a journal tells of and that are not deleted."""
    found: dict[str, Exec] = {}
    for event in events:
        name = exec_of(event)
        if isinstance(event, Told):
            found[name] = Exec(host, event, ExecFiles(bundle, name))
        elif isinstance(event, Deleted) and name:
            found.pop(name, None)
        elif name in found:
            found[name].recall(event)
    return found
