"""A task's init in its shim: what a daemon may ask of it while it lives. Its states say what is allowed when."""

from __future__ import annotations

import signal
import time
from typing import Any

from shimproc import flow
from shimproc.cgroup_stats import usage
from shimproc.errors import FailedPrecondition, NotFound
from shimproc.io.attach import Attachment
from shimproc.messages import Exec, Kill, Paused, Resumed, Update
from shimproc.process.checkpoints import InitCheckpoints
from shimproc.process.states import CheckpointingPaused, Pausing
from shimproc.process.states import Paused as PausedState


class Init(InitCheckpoints):
    """The task's first process, and through it all others."""

    async def start(self) -> dict[str, int]:
        """Let init go. A program that cannot be started leaves a stopped task without an exit event.

        One that is under way was asked for by a daemon that was killed meanwhile: its outcome is this one's, too.
        """
        if self._starting is None or self._starting.done:
            self._starting = flow.start(self._start())
        return await self._starting

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
        if request.signal == signal.SIGKILL and isinstance(self._state, Pausing | PausedState | CheckpointingPaused):
            self._backend.thaw()
        return {}

    def exec(self, request: Exec) -> dict[str, int]:
        """Add a process, to be started later."""
        self._state.add()
        return self.execs.add(request)

    async def start_exec(self, exec_id: str) -> dict[str, int]:
        """Let it go."""
        self._state.start_exec()
        assert self._backend is not None
        return await self.execs.get(exec_id).start(self._backend)

    async def pause(self) -> dict[str, int]:
        """Freeze all of it."""
        self._state = self._state.pause()()
        assert self._backend is not None
        try:
            await self._backend.pause()
        except BaseException:
            if isinstance(self._state, Pausing):
                self._state = self._state.unpaused()()
            raise
        if not isinstance(self._state, Pausing):  # killed meanwhile
            self._state.over()
        self._state = self._state.paused()()
        await self._host.emit(Paused(at=self._now()))
        return {}

    async def resume(self) -> dict[str, int]:
        """Let all of it go on."""
        self._state = self._state.resume()()
        assert self._backend is not None
        self._backend.thaw()
        self._state = self._state.resumed()()
        await self._host.emit(Resumed(at=self._now()))
        return {}

    async def update(self, request: Update) -> dict[str, int]:
        """Change limits."""
        self._state.update()
        assert self._backend is not None
        await self._backend.update(request.resources)
        return {}

    def attach(self, attachment: Attachment) -> None:
        """A client at its output."""
        if self._ended.done:
            self._state.over()
        self.io.attach(attachment)

    def detach(self, number: int) -> None:
        """The client is gone."""
        if self._io is not None:
            self._io.detach(number)

    def pids(self) -> list[dict[str, int | str]]:
        """Every process of the container now, those of execs by their ids."""
        if self._backend is None or self._ended.done:
            raise NotFound("the task has already exited")
        return self.execs.named(self._backend.pids())

    def metrics(self) -> dict[str, Any]:
        """What it uses (``shimproc.messages.Metrics``)."""
        if self._backend is None or self._ended.done:
            raise FailedPrecondition("the task has stopped: nothing counts any more what it uses")
        now = time.time_ns()
        if self._backend.cgroup is not None:
            return {"timestamp": now, **usage(self._backend.cgroup)}
        return {"timestamp": now, "tree": self._backend.pids(), "reaped": self._host.reaper.reaped_cpu()}
