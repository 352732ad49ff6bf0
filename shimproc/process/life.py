"""A task's init in its shim: what is done when, and what is undone when it fails.

The order that everything relies on: created < started < exited < deleted, each journaled before it is told, and the
exit only after everything that the process wrote has been read (to EAGAIN: an orphan holding the pipe delays nothing).
"""

from __future__ import annotations

import logging
import os
import signal
import time

from shimproc import images, mounts, userns
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, NotFound, ResourceExhausted, ShimyardError
from shimproc.flow import Pending
from shimproc.io.logger import start_loggers
from shimproc.io.stdio import open_stdio
from shimproc.io.streams import ProcessIO
from shimproc.io.uri import Capture, LogSettings
from shimproc.messages import Create, Created, Deleted, Exited, Started, StartFailed
from shimproc.oom import counted
from shimproc.process.estate import begun
from shimproc.process.execs import Execs
from shimproc.process.host import EXEC_STATUS, FLUSH_SECONDS, LOST, LOST_STATUS, START_FAILED, Host
from shimproc.process.states import Creating, InitState, New, Prepared
from shimproc.reaper import Exited as Reaped
from shimproc.reaper import boottime
from shimproc.runtimes.backend import Backend
from shimproc.runtimes.choose import backend_of

log = logging.getLogger(__name__)
_MAY_END = ("created", "running", "pausing", "paused", "deleting")
"""Not while it is made or started: the exit would overtake that event."""


class InitLife:
    """From its mounts to its deletion; what is asked of it in between is ``shimproc.process.init``.

    A task that is to be restored from a checkpoint has no init before its start (``shimproc.process.checkpoints``).
    """

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
        self._starting: Pending[dict[str, int]] | None = None
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
        checkpoint = self._request.checkpoint
        try:
            if checkpoint is not None:
                images.check(checkpoint["path"], checkpoint["parent"], terminal=bool(self._request.stdio.get("terminal")))
            self._make_room()
            mounts.mount_all(self._request.mounts, self._rootfs)
            point("shim: rootfs mounted")
            self._io = await self._open()
            point("shim: stdio opened")
            self._backend = backend_of(self._request, self._host.reaper)
            if checkpoint is None:
                await self._make(self._backend, self._io)
                point("shim: init made")
            self.entrust()
            point("shim: descriptors entrusted")
            self._host.emit_now(self._made(None if checkpoint is None else checkpoint["path"]))
        except BaseException:
            await self._undo_create()
            raise
        self._state = (self._state.created() if checkpoint is None else self._state.prepared())()
        point("shim: created journaled")
        self._end_if_reaped()
        return {"pid": self.pid}

    def _make_room(self) -> None:
        """An ordinary user may mount, and have containers, only in a user namespace; without one the next step says so."""
        if userns.is_ordinary() and (self._request.mounts or self._request.runtime["name"] != "process"):
            userns.enter()

    async def _open(self) -> ProcessIO:
        request, logs = self._request, LogSettings(**self._request.log)
        loggers = await start_loggers(self._host, request.stdio, request.bundle)
        return open_stdio(self._host.loop, request.stdio, logs, self._capture, request.bundle, loggers)

    async def _make(self, backend: Backend, streams: ProcessIO) -> None:
        try:
            with self._host.reaper.expecting():
                self._watch(await backend.create(streams.child, streams.console))
            streams.take_terminal()
        finally:
            streams.close_child()

    def _made(self, checkpoint: str | None) -> Created:
        cgroup = None if self._backend is None else self._backend.cgroup
        return Created(self._now(), self.pid, begun(self.pid) if self.pid else 0, checkpoint, *counted(cgroup))

    def _restored(self) -> Started:
        cgroup = None if self._backend is None else self._backend.cgroup
        return Started(self._now(), self.pid, "", boottime(), begun(self.pid), *counted(cgroup))

    def _watch(self, pid: int) -> None:
        """Init is this one, a child."""
        self.pid = pid
        self._host.reaper.watch(pid, hold=True).then(lambda outcome: self._on_reaped(pid, outcome))

    def entrust(self) -> None:
        """Have kept what the next shim would need."""
        if self._io is not None and self._backend is not None and (self.pid or isinstance(self._state, Creating | Prepared)):
            self._io.entrust(self._host.keeper, self.pid, self._backend.keepsakes)
            self.execs.entrust()

    async def _start(self) -> dict[str, int]:
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

    async def _undo_create(self) -> bool:
        """Descriptors first: without them the rest may not be possible. False: the host has no room for it now."""
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
            return not isinstance(error, ResourceExhausted)
        finally:
            self._state, self._io = New(), None
            _unmount(self._request, self._rootfs)
        return True

    def _start_failed(self, status: int) -> None:
        assert self._io is not None
        self._reaped = None
        self._state = self._state.exited()()
        self.status, self.exited_at, self._reason = status, self._now(), START_FAILED
        self._io.finish()
        self.execs.end()
        self._host.emit(StartFailed(at=self.exited_at, pid=self.pid, status=status)).then(self._on_end_told)

    def _on_reaped(self, pid: int, outcome: Pending[Reaped]) -> None:
        if self.status is not None or pid != self.pid:  # it could not be started, or was undone: this is no exit
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
