"""A task's init in a shim that takes over from one that was killed: what that had begun is ended or undone, what it had made
goes on. The journal tells what has been told; the rest is found out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from shimproc import mounts
from shimproc.crash import point
from shimproc.errors import ResourceExhausted
from shimproc.flow import Pending
from shimproc.io.keepsakes import CONSOLE
from shimproc.io.stdio import adopt_stdio
from shimproc.io.uri import LogSettings
from shimproc.loop import after
from shimproc.messages import Created, Deleted, Exited, Message, Paused, Resumed, Started, StartFailed, exec_of
from shimproc.process.estate import Estate, begun
from shimproc.process.life import InitLife
from shimproc.process.states import Created as CreatedState
from shimproc.process.states import Deleted as DeletedState
from shimproc.process.states import Paused as PausedState
from shimproc.process.states import Prepared, Running, Stopped
from shimproc.reaper import boottime
from shimproc.runtimes.backend import Backend
from shimproc.runtimes.choose import backend_of

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 1.0


class InitTakeOver(InitLife):
    """How it goes on in the next shim."""

    async def adopt(self, events: Sequence[Message], estate: Estate) -> None:
        """Take over from a shim that was killed: what it had begun is ended or undone, what it had made goes on."""
        self._settled = Pending()
        request = self._request
        try:
            self._backend = backend_of(request, self._host.reaper)
            await self._backend.settle()
            point("shim: commands settled")
            if not any(isinstance(event, Created) for event in events):
                while not await self._undo_create():  # what is left would be in the way of the next create, or forgotten
                    await after(self._host.loop, _RETRY_SECONDS)
                point("shim: create undone")
                return
            for event in events:
                if not exec_of(event):
                    self._recall(event)
            point("shim: journal recalled")
            if self.state == "deleted":
                return
            self.execs.recall(events)
            if isinstance(self._state, Prepared) and not await self._was_restored(self._backend, estate):
                mounts.mount_all(request.mounts, self._rootfs)  # they went with the killed shim's mount namespace
                self._io = await self._open()
                self.entrust()
                return
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

    async def _was_restored(self, backend: Backend, estate: Estate) -> bool:
        """Had the killed shim restored it, so that it can be gone on with? Else nothing is left of that."""
        pid = backend.restored()
        if pid is not None and (not self._request.stdio.get("terminal") or CONSOLE in estate.kept):
            self.pid, self._began = pid, begun(pid)
            return True
        await backend.delete(force=True)
        return False

    async def _go_on(self, estate: Estate) -> None:
        """Init has not ended, as far as is known."""
        assert self._backend is not None
        if isinstance(self._state, Prepared):
            self._state = self._state.start()().started()()
            self._host.emit(self._restored())
            self.entrust()
        if isinstance(self._state, CreatedState) and await self._has_started(self._backend):
            self._state = self._state.start()().started()()
            self._host.emit(Started(at=self._now(), pid=self.pid, boottime=boottime()))
        if not isinstance(self._state, PausedState):  # a pause that was cut off was none
            self._backend.thaw()
        pid = self.pid
        ended = estate.watch(self._host.reaper, pid, self._created_at, self._began)
        ended.then(lambda outcome: self._on_reaped(pid, outcome))

    async def _has_started(self, backend: Backend) -> bool:
        """Only the runtime knows; where there is no room for its command, whoever asks for something waits until there is."""
        while True:
            try:
                return await backend.is_started()
            except ResourceExhausted as error:
                log.warning("whether %s has started cannot be asked yet: %s", self._request.runtime_id, error)
                await after(self._host.loop, _RETRY_SECONDS)

    def _recall(self, event: Message) -> None:
        """What the journal says has happened."""
        match event:
            case Created():
                self._state, self.pid = (CreatedState if event.checkpoint is None else Prepared)(), event.pid
                self._created_at, self._began = self._later(event.at), event.begun
            case Started():
                self._state, at = Running(), self._later(event.at)
                if not self.pid:  # restored from a checkpoint
                    self.pid, self._created_at, self._began = event.pid, at, event.begun
            case Resumed():
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
