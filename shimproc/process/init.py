"""A task's init in its shim: what is done when, and what is undone when it fails.

The order that everything relies on: created < started < exited < deleted, each journaled before it is told, and the
exit only after everything that the process wrote has been read (to EAGAIN: an orphan holding the pipe delays nothing).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shimproc import mounts
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError
from shimproc.flow import Pending
from shimproc.io.keepsakes import Keeper
from shimproc.io.stdio import Capture, LogSettings, ProcessIO, adopt_stdio, open_stdio
from shimproc.loop import LoopLike
from shimproc.messages import Create, Created, Deleted, Exited, Kill, Message, Started, StartFailed
from shimproc.process.estate import Estate, begun
from shimproc.process.states import Created as CreatedState
from shimproc.process.states import Deleted as DeletedState
from shimproc.process.states import InitState, New, Running, Starting, Stopped
from shimproc.reaper import Exited as Reaped
from shimproc.reaper import Reaper, boottime
from shimproc.runtimes.backend import Backend
from shimproc.runtimes.choose import backend_of

log = logging.getLogger(__name__)
FLUSH_SECONDS = 10.0
LOST = "shim-lost"
START_FAILED = "start-failed"
LOST_STATUS = 255
"""What an exit says whose status nobody can know; the seed's code for it."""
_EXEC_STATUS = {"not_found_executable": 127, "not_executable": 126}


@dataclass(frozen=True, slots=True)
class Host:
    """What a process needs of the shim around it.

    ``emit`` journals an event, then sends it, and is done when it is journaled: on a full disk that may take long.
    ``emit_now`` refuses instead (``ResourceExhausted``).
    """

    loop: LoopLike
    reaper: Reaper
    emit: Callable[[Message], Pending[None]]
    emit_now: Callable[[Message], None]
    keeper: Keeper


class Init:
    """The task's first process, from its mounts to its deletion."""

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
        self._latest = 0
        self.pid = 0
        self.status: int | None = None
        self.exited_at = 0

    @property
    def state(self) -> str:
        """The state's name."""
        return self._state.name

    async def create(self) -> dict[str, int]:
        """Mounts, stdio, and the runtime's create; a failure leaves nothing of them."""
        self._state = self._state.create()()
        self._settled = Pending()
        try:
            mounts.mount_all(self._request.mounts, self._rootfs)
            point("shim: rootfs mounted")
            logs = LogSettings(**self._request.log)
            self._io = open_stdio(self._host.loop, self._request.stdio, logs, self._capture)
            point("shim: stdio opened")
            self._backend = backend_of(self._request, self._host.reaper)
            with self._host.reaper.expecting():
                self.pid = await self._backend.create(self._io.child)
                self._host.reaper.watch(self.pid, hold=True).then(self._on_reaped)
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
            self._settled.set(None)
        self._state = self._state.created()()
        point("shim: created journaled")
        self._end_if_reaped()
        return {"pid": self.pid}

    def entrust(self) -> None:
        """Have kept what the next shim would need."""
        if self._io is not None and self._backend is not None and self.pid:
            self._io.entrust(self._host.keeper, self.pid, self._backend.keepsakes)

    async def adopt(self, events: Sequence[Message], estate: Estate) -> None:
        """Take over from a shim that was killed: what it had begun is ended or undone, what it had made goes on."""
        self._settled = Pending()
        request = self._request
        try:
            self._backend = backend_of(request, self._host.reaper)
            await self._backend.settle()
            if not any(isinstance(event, Created) for event in events):
                await self._undo_create()
                return
            for event in events:
                self._recall(event)
            if self.state == "deleted":
                return
            logs = LogSettings(**request.log)
            self._io = adopt_stdio(self._host.loop, request.stdio, logs, self._capture, estate.kept)
            self._backend.adopt(self.pid, estate.kept)
            self._io.tell(self._host.keeper)
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
        estate.watch(self._host.reaper, self.pid).then(self._on_reaped)

    def _recall(self, event: Message) -> None:
        """What the journal says has happened."""
        match event:
            case Created():
                self._later(event.at)
                self._state, self.pid = CreatedState(), event.pid
            case Started():
                self._later(event.at)
                self._state = Running()
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
            status = _EXEC_STATUS.get(str(error.details.get("kind")))
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

    def kill(self, request: Kill) -> dict[str, int]:
        """Send a signal by pidfd, without a fork."""
        self._state.kill()
        assert self._backend is not None
        if self._reaped is not None:
            self._state.over()
        if request.reason is not None:
            self._reason = request.reason
        if request.all:
            self._backend.signal_all(request.signal)
        else:
            self._host.reaper.send(self.pid, request.signal)
        return {}

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

    def close_stdin(self) -> dict[str, int]:
        """Close our end of init's stdin."""
        if self._io is None:
            raise FailedPrecondition("the task has no stdin")
        self._io.close_stdin()
        return {}

    def pids(self) -> list[int]:
        """Every process of the container now."""
        if self._backend is None or self._ended.done:
            raise NotFound("the task has already exited")
        return self._backend.pids()

    def _record(self) -> dict[str, int]:
        return {"pid": self.pid, "exit_status": self.status or 0, "exited_at": self.exited_at}

    async def _remove(self) -> None:
        if self.pid and not self._ended.done:
            self._slay()
            await self._ended
        if self._backend is not None:
            await self._backend.delete(force=True)
        if self._io is not None:
            await self._flushed(self._io)
            self._io.abandon()
        self._unmount()

    def _unmount(self) -> None:
        if self._request.mounts:
            mounts.unmount_all(self._rootfs)

    def _slay(self) -> None:
        try:
            self._host.reaper.send(self.pid, signal.SIGKILL)
        except NotFound:  # it ended by itself; its exit is on the way
            log.debug("init %d had ended before it was killed", self.pid)

    async def _flushed(self, io: ProcessIO) -> None:
        """Wait for a slow reader of the output, but not for ever."""
        timer = self._host.loop.call_later(FLUSH_SECONDS, lambda: io.flushed.set(None))
        await io.flushed
        timer.cancel()

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
            self._unmount()

    def _start_failed(self, status: int) -> None:
        assert self._io is not None
        self._reaped = None
        self._state = self._state.exited()()
        self.status, self.exited_at, self._reason = status, self._now(), START_FAILED
        self._io.finish()
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
        if reaped is None or self.status is not None or isinstance(self._state, Starting) or self.state in ("new", "creating"):
            return
        assert self._io is not None
        self._state = self._state.exited()()
        point("shim: init ended")
        self.status, self.exited_at = reaped.status, self._later(reaped.at)
        self._kill_leftovers()
        self._io.finish()
        point("shim: output drained")
        captured = self._io.captured() or {}
        dropped = self._io.dropped or None
        told = self._host.emit(
            Exited(self.exited_at, self.pid, reaped.status, reason=self._reason, dropped=dropped, **captured)
        )
        point("shim: exit journaled")
        told.then(self._on_end_told)

    def _kill_leftovers(self) -> None:
        """Whatever hinders it must not hinder the exit; a delete tries again."""
        assert self._backend is not None
        try:
            self._backend.kill_leftovers()
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
