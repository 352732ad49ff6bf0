"""A task's init in its shim: what is done when, and what is undone when it fails.

The order that everything relies on: created < started < exited < deleted, each journaled before it is told, and the
exit only after everything that the process wrote has been read (to EAGAIN: an orphan holding the pipe delays nothing).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence

from shimproc import mounts
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError
from shimproc.flow import Pending
from shimproc.io.logger import start_loggers
from shimproc.io.stdio import adopt_stdio, open_stdio
from shimproc.io.streams import ProcessIO
from shimproc.io.uri import Capture, LogSettings
from shimproc.messages import Create, Created, Deleted, Exited, Message, Paused, Resumed, Started, StartFailed, exec_of
from shimproc.process.estate import Estate, begun
from shimproc.process.execs import Execs
from shimproc.process.host import EXEC_STATUS, FLUSH_SECONDS, LOST, LOST_STATUS, START_FAILED, Host
from shimproc.process.states import Created as CreatedState
from shimproc.process.states import Deleted as DeletedState
from shimproc.process.states import InitState, New, Running, Stopped
from shimproc.process.states import Paused as PausedState
from shimproc.reaper import Exited as Reaped
from shimproc.reaper import boottime
from shimproc.runtimes.backend import Backend
from shimproc.runtimes.choose import backend_of

log = logging.getLogger(__name__)
_MAY_END = ("created", "running", "pausing", "paused", "deleting")
"""Not while it is made or started: the exit would overtake that event."""


class InitLife:
    """From its mounts to its deletion; what is asked of it in between is ``shimproc.process.init``."""

    def __init__(self, host: Host, request: Create) -> None:
        self._host = host
        self._request = request
        self._rootfs = os.path.join(request.bundle, "rootfs")  # noqa: PTH118 - pathlib costs the shim memory
        self._state: InitState = New()
        self._backend: Backend | None = None
        self._io: ProcessIO | None = None
        self._reaped: Reaped | None = None
        self._reason: str | None = None
        self._ended: Pending[None] = Pending()
        self._settled: Pending[None] = Pending()
        self._settled.set(None)
        self._capture = None if request.capture is None else Capture(request.capture, request.bundle)
        self._deletion: Pending[None] | None = None
        self.execs = Execs(host, request.bundle)
        self._created_at = 0
        self._began = 0
        self._latest = 0
        self.pid = 0
        self.status: int | None = None
        self.exited_at = 0

    @property
    def state(self) -> str:
        """The state's name."""
        return self._state.name

    @property
    def io(self) -> ProcessIO:
        """Its streams; ``FailedPrecondition`` while it has none."""
        if self._io is None:
            raise FailedPrecondition("the task has no streams")
        return self._io

    async def create(self) -> dict[str, int]:
        """Mounts, stdio, and the runtime's create; a failure leaves nothing of them."""
        self._state, self._settled = self._state.create()(), Pending()
        try:
            return await self._create()
        finally:  # not before the state has moved: a forced delete that waited goes on right here
            self._settled.set(None)

    async def _create(self) -> dict[str, int]:
        try:
            mounts.mount_all(self._request.mounts, self._rootfs)
            point("shim: rootfs mounted")
            stdio, bundle, logs = self._request.stdio, self._request.bundle, LogSettings(**self._request.log)
            loggers = await start_loggers(self._host, stdio, bundle)
            self._io = open_stdio(self._host.loop, stdio, logs, self._capture, bundle, loggers)
            point("shim: stdio opened")
            self._backend = backend_of(self._request, self._host.reaper)
            with self._host.reaper.expecting():
                self.pid = await self._backend.create(self._io.child, self._io.console)
                self._host.reaper.watch(self.pid, hold=True).then(self._on_reaped)
            self._io.take_terminal()
            point("shim: init made")
            self.entrust()
            point("shim: descriptors entrusted")
            self._host.emit_now(Created(at=self._now(), pid=self.pid, begun=begun(self.pid)))
        except BaseException:
            await self._undo_create()
            raise
        finally:
            if self._io is not None:
                self._io.close_child()
        self._state = self._state.created()()
        point("shim: created journaled")
        self._end_if_reaped()
        return {"pid": self.pid}

    def entrust(self) -> None:
        """Have kept what the next shim would need."""
        if self._io is not None and self._backend is not None and self.pid:
            self._io.entrust(self._host.keeper, self.pid, self._backend.keepsakes)
            self.execs.entrust()

    async def adopt(self, events: Sequence[Message], estate: Estate) -> None:
        """Take over from a shim that was killed: what it had begun is ended or undone, what it had made goes on."""
        self._settled = Pending()
        request = self._request
        try:
            self._backend = backend_of(request, self._host.reaper)
            await self._backend.settle()
            point("shim: commands settled")
            if not any(isinstance(event, Created) for event in events):
                await self._undo_create()
                point("shim: create undone")
                return
            for event in events:
                if not exec_of(event):
                    self._recall(event)
            point("shim: journal recalled")
            if self.state == "deleted":
                return
            self.execs.recall(events)
            logs = LogSettings(**request.log)
            self._io = adopt_stdio(self._host.loop, request.stdio, logs, self._capture, estate.kept)
            self._backend.adopt(self.pid, estate.kept)
            self._io.tell(self._host.keeper)
            point("shim: descriptors taken over")
            await self.execs.adopt(self._backend, estate)
            if self._ended.done:
                self._io.finish()
            else:
                await self._go_on(estate)
        finally:
            self._settled.set(None)

    async def _go_on(self, estate: Estate) -> None:
        """Init has not ended, as far as is known."""
        assert self._backend is not None
        if isinstance(self._state, CreatedState) and await self._backend.is_started():
            self._state = self._state.start()().started()()
            self._host.emit(Started(at=self._now(), pid=self.pid, boottime=boottime()))
        if not isinstance(self._state, PausedState):  # a pause that was cut off was none
            self._backend.thaw()
        estate.watch(self._host.reaper, self.pid, self._created_at, self._began).then(self._on_reaped)

    def _recall(self, event: Message) -> None:
        """What the journal says has happened."""
        match event:
            case Created():
                self._state, self.pid = CreatedState(), event.pid
                self._created_at, self._began = self._later(event.at), event.begun
            case Started() | Resumed():
                self._later(event.at)
                self._state = Running()
            case Paused():
                self._later(event.at)
                self._state = PausedState()
            case Exited() | StartFailed():
                self._state, self.status, self.exited_at = Stopped(), event.status, self._later(event.at)
                self._ended.set(None)
            case Deleted():
                self._state = DeletedState()

    async def start(self) -> dict[str, int]:
        """Let init go. A program that cannot be started leaves a stopped task without an exit event."""
        self._state = self._state.start()()
        self._settled = Pending()
        assert self._backend is not None
        try:
            await self._backend.start()
            point("shim: let go")
        except ShimyardError as error:
            self._state = self._state.unstarted()()
            status = EXEC_STATUS.get(str(error.details.get("kind")))
            if status is not None:
                self._start_failed(status)
            self._end_if_reaped()
            raise
        else:
            self._state = self._state.started()()
            told = self._host.emit(Started(at=self._now(), pid=self.pid, boottime=boottime()))
            point("shim: started journaled")
            self._end_if_reaped()
            await told
        finally:
            self._settled.set(None)
        return {"pid": self.pid}

    async def delete(self, *, force: bool) -> dict[str, int]:
        """Kill if need be, and remove all that the runtime and we keep; the exit is told before."""
        if force:
            await self._settled
        if self._deletion is not None:  # asked by a daemon that was killed meanwhile
            await self._deletion
        before = self._state
        self._state = (before.force_delete() if force else before.delete())()
        if before.name == self._state.name:
            return self._record()
        deletion = self._deletion = Pending()
        try:
            await self._finish_delete(before)
        finally:
            deletion.set(None)
        return self._record()

    async def _finish_delete(self, before: InitState) -> None:
        point("shim: asked to delete")
        try:
            await self._remove()
            point("shim: removed by the runtime")
        except BaseException:
            self._state = before if isinstance(before, New) else self._state.undeleted()()
            raise
        self._state = self._state.deleted()()
        if isinstance(before, New):  # nobody was told of it
            return
        told = Deleted(at=self._now(), pid=self.pid, status=self.status or 0, exited_at=self.exited_at)
        await self._host.emit(told)
        point("shim: deleted journaled")

    def _record(self) -> dict[str, int]:
        return {"pid": self.pid, "exit_status": self.status or 0, "exited_at": self.exited_at}

    async def _remove(self) -> None:
        if self.pid and not self._ended.done:
            self._slay()
            await self._ended
        if self._backend is not None:
            await self._backend.delete(force=True)
        if self._io is not None:
            await self._io.delivered(FLUSH_SECONDS)
            self._io.abandon()
        await self.execs.delete_all()
        _unmount(self._request, self._rootfs)

    def _slay(self) -> None:
        try:
            self._host.reaper.send(self.pid, signal.SIGKILL)
        except NotFound:  # it ended by itself; its exit is on the way
            log.debug("init %d had ended before it was killed", self.pid)
        if self._backend is not None:
            self._backend.thaw()

    async def _undo_create(self) -> None:
        """Descriptors first: without them the rest may not be possible."""
        pid, self.pid, self._reaped = self.pid, 0, None
        self._host.reaper.release(pid)
        if self._io is not None:
            self._io.close_child()
            self._io.abandon()
        try:
            if self._backend is not None:
                await self._backend.delete(force=True)
        except (ShimyardError, OSError) as error:
            log.warning("undo of create: %s", error)
        finally:
            self._state = New()
            _unmount(self._request, self._rootfs)

    def _start_failed(self, status: int) -> None:
        assert self._io is not None
        self._reaped = None
        self._state = self._state.exited()()
        self.status, self.exited_at, self._reason = status, self._now(), START_FAILED
        self._io.finish()
        self.execs.end()
        self._host.emit(StartFailed(at=self.exited_at, pid=self.pid, status=status)).then(self._on_end_told)

    def _on_reaped(self, outcome: Pending[Reaped]) -> None:
        if self.status is not None or not self.pid:  # it could not be started, or was undone: this is no exit
            return
        if outcome.error is not None:  # an adopted one, whose end no process could see
            log.warning("init %d: %s", self.pid, outcome.error)
            self._reason = LOST
        self._reaped = outcome.result() if outcome.error is None else Reaped(LOST_STATUS, time.time_ns())
        self._end_if_reaped()

    def _end_if_reaped(self) -> None:
        """The exit, once init is reaped, and never between start and its event (the exit would overtake it)."""
        reaped = self._reaped
        if reaped is None or self.status is not None or self.state not in _MAY_END:
            return
        self._state = self._state.exited()()
        point("shim: init ended")
        self.status, self.exited_at = reaped.status, self._later(reaped.at)
        self._kill_leftovers()
        self.execs.end().then(lambda _: self._tell_exit(reaped.status))

    def _tell_exit(self, status: int) -> None:
        """The last of all: its execs have ended before it."""
        assert self._io is not None
        if self.execs:
            self._kill_leftovers()  # theirs
        self._io.finish()
        point("shim: output drained")
        captured = self._io.captured() or {}
        dropped = self._io.dropped or None
        told = self._host.emit(
            Exited(self._later(self.exited_at), self.pid, status, reason=self._reason, dropped=dropped, **captured)
        )
        point("shim: exit journaled")
        told.then(self._on_end_told)

    def _kill_leftovers(self) -> None:
        """Whatever hinders it must not hinder the exit; a delete tries again."""
        assert self._backend is not None
        try:
            self._backend.kill_leftovers()
            self._backend.thaw()
        except OSError as error:
            log.error("processes that init %d has left may still run: %s", self.pid, error)

    def _on_end_told(self, _: Pending[None]) -> None:
        """The journal has it: init may go."""
        self._host.reaper.release(self.pid)
        self._ended.set(None)

    def _now(self) -> int:
        return self._later(time.time_ns())

    def _later(self, at: int) -> int:
        """``at``, but no earlier than what was told before: the clock may have been set back since then."""
        self._latest = max(self._latest, at)
        return self._latest


def _unmount(request: Create, rootfs: str) -> None:
    if request.mounts:
        mounts.unmount_all(rootfs)
