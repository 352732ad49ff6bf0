"""Checkpoints of a task, and its restoring from one, in its shim.

    checkpoint : folder, intent, the runtime's checkpoint, our word that it is whole, journal, then told
    restore    : the create opens everything and makes no process; the start has the runtime restore it

A checkpoint holds init and what descends from it: not execs, whose parent is the shim, so none may run. A failed one leaves
the task as it was, and nothing in the folder. A shim that takes over finds the intent in the bundle, and by CRIU's log whether
what the dead one had begun came to a whole checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from shimproc import flow, images
from shimproc.crash import point
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError, Unavailable, scarce
from shimproc.flow import Pending
from shimproc.io.uri import parse_uri
from shimproc.messages import Checkpoint, Checkpointed, Message
from shimproc.process.estate import Estate
from shimproc.process.host import CHECKPOINTED
from shimproc.process.states import Checkpointing, CheckpointingPaused, Prepared, Restoring
from shimproc.process.takeover import InitTakeOver
from shimproc.runtimes import criu
from shimproc.runtimes.backend import Backend, Images

log = logging.getLogger(__name__)
_INTENT: Final = "checkpoint.cbor"
_VERSION: Final = 1
_HUNG_SECONDS: Final = 10.0
"""How long a checkpoint may be at work after its task was killed, and a restore after it was to be deleted."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A checkpoint that is begun. ``at``: no earlier than anything told before it; ``made``: the folder was made for it;
    ``outside``: see ``Backend``."""

    at: int
    made: bool
    request: Checkpoint
    outside: Mapping[str, int]

    def write(self, bundle: str) -> None:
        """Before anything is done. ``ResourceExhausted``: no room for that."""
        values = {"at": self.at, "made": self.made, "request": self.request.to_map(), "outside": dict(self.outside)}
        data = cbor2.dumps(values)
        path = f"{bundle}/{_INTENT}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
        except OSError as error:
            raise scarce(error, f"{path} cannot be written") from error

    @classmethod
    def read(cls, bundle: str) -> Intent | None:
        """None if there is none, or not a whole one: then nothing was done."""
        try:
            with open(f"{bundle}/{_INTENT}", "rb") as file:  # noqa: PTH123 - pathlib costs the shim memory
                values = cbor2.loads(file.read())
            return cls(values["at"], values["made"], Checkpoint.from_map(values["request"]), values["outside"])
        except (FileNotFoundError, cbor2.CBORError, KeyError, TypeError, ShimyardError):
            return None


class InitCheckpoints(InitTakeOver):
    """What ``shimproc.process.init`` offers of it."""

    _dump: tuple[str, Pending[dict[str, Any]]] | None = None
    _checkpointed_at = 0

    @property
    def checkpointing(self) -> str:
        """The folder of the checkpoint that is at work; "" for none."""
        return "" if self._dump is None or self._dump[1].done else self._dump[0]

    async def checkpoint(self, request: Checkpoint) -> dict[str, Any]:
        """Write it down. One that is at work already, for a daemon that was killed meanwhile, is waited for."""
        if self._dump is not None and self.checkpointing == request.path:
            return await self._dump[1]
        if not request.work_path:
            raise NotFound(f"no checkpoint to {request.path} is at work")
        after = self._state.checkpoint()
        self._check_execs()
        self._check_streams()
        made = images.make_room(request.path)
        self._state = after()
        outcome = flow.start(self._write_down(request, made=made))
        self._dump = (request.path, outcome)
        return await outcome

    def _check_execs(self) -> None:
        alive = self.execs.alive()
        if alive:
            raise FailedPrecondition(
                f"the exec {alive[0]} runs, and a checkpoint holds only the task's init and what descends from it; wait for "
                "the exec's end, or kill it"
            )

    def _check_streams(self) -> None:
        """Output to a file is appended; where the process stands in one that it reads could not be kept."""
        if parse_uri(str(self._request.stdio.get("stdin") or ""), "stdio.stdin")[0] == "file":
            raise FailedPrecondition(
                "stdio.stdin: how far the process has read that file, from outside of its container, would be lost in a "
                "checkpoint; give attach: or a named pipe"
            )

    async def _write_down(self, request: Checkpoint, *, made: bool) -> dict[str, Any]:
        assert self._backend is not None
        intent = Intent(self._now() + 1, made, request, self._outside(self._backend))
        self._later(intent.at)
        try:
            criu.make_work(request.work_path, criu.DUMP_LOG)  # a log of before must not be taken for this one's
            intent.write(self._request.bundle)
            point("shim: checkpoint intended")
            await self._backend.checkpoint(request, intent.outside)
            point("shim: checkpointed by the runtime")
            if not isinstance(self._state, Checkpointing):  # deleted meanwhile, by force
                self._state.over()
            self._sign(intent)
        except BaseException:
            images.clear(request.path, made=made)
            self._drop_intent()
            self._leave(ended=False)
            if self._reaped is not None:
                raise NotFound("the task has already exited", {"state": self.state}) from None
            raise
        told = self._tell_checkpointed(request)
        point("shim: checkpoint journaled")
        self._leave(ended=request.exit)
        await told
        self._drop_intent()
        if request.exit:
            await self._ended
        return {}

    def _outside(self, backend: Backend) -> Mapping[str, int]:
        """Nothing but stdio comes from outside; so all descriptors are looked at only if that may be files."""
        uris = (str(self._request.stdio.get(stream) or "") for stream in ("stdout", "stderr"))
        return backend.outside() if any(parse_uri(uri, "stdio")[0] == "file" for uri in uris) else {}

    def _leave(self, *, ended: bool) -> None:
        """It is over, done or failed: the state is what it was before, unless the task has ended. ``ended``: by it."""
        if isinstance(self._state, Checkpointing):
            paused = isinstance(self._state, CheckpointingPaused)
            self._state = self._state.checkpointed()()
            if (ended or not paused) and self._backend is not None:
                self._backend.thaw()
            if ended and self._reaped is None:
                self._end_by_checkpoint()
        self._end_if_reaped()

    def _end_by_checkpoint(self) -> None:
        """CRIU has done it already; its end may not have been seen yet."""
        with contextlib.suppress(NotFound):
            self._host.reaper.send(self.pid, signal.SIGKILL)

    def _sign(self, intent: Intent) -> None:
        request = intent.request
        options = {name: value for name, value in request.to_map().items() if name not in ("path", "work_path", "exit")}
        created = {"version": _VERSION, "created_at": self._now(), "runtime": self._request.runtime["name"]}
        more = {"stdio": dict(self._request.stdio), "options": options, "outside": dict(intent.outside)}
        images.sign(request.path, created | more)

    def _tell_checkpointed(self, request: Checkpoint) -> Pending[None]:
        if request.exit:
            self._reason = CHECKPOINTED
        return self._host.emit(Checkpointed(self._now(), request.path, request.exit))

    def _drop_intent(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._request.bundle}/{_INTENT}")  # noqa: PTH108 - pathlib costs the shim memory

    # -- restoring from one

    async def _start(self) -> dict[str, int]:
        """Let init go; what is prepared is restored. A restore that fails may be tried again."""
        if not isinstance(self._state, Prepared) or self._request.checkpoint is None:
            return await super()._start()
        self._state = self._state.start()()
        self._settled = Pending()
        try:
            await self._restore(self._request.checkpoint)
            told = self._host.emit(self._restored())
            point("shim: restored journaled")
            self._end_if_reaped()
            await told
        finally:
            self._settled.set(None)
        return {"pid": self.pid}

    async def _restore(self, checkpoint: Mapping[str, Any]) -> None:
        backend, streams = self._backend, self._io
        assert backend is not None
        assert streams is not None
        path = checkpoint["path"]
        streams.hold()
        try:
            images.check(path, checkpoint["parent"], terminal=bool(self._request.stdio.get("terminal")))
            record = images.read(path)
            found = Images(path, checkpoint["work_path"], record.get("options") or {}, record.get("outside") or {})
            with self._host.reaper.expecting():
                self._watch(await backend.restore(found, streams.child, streams.console))
            point("shim: restored by the runtime")
            streams.take_terminal()
        except BaseException:
            await self._unmake()
            streams.go_on(discard=True)
            self._state = self._state.unstarted()()
            raise
        streams.go_on(discard=False)
        streams.close_child()
        self.entrust()
        self._state = self._state.started()()

    async def _unmake(self) -> None:
        """What a restore that failed has left of a container."""
        assert self._backend is not None
        pid, self.pid, self._reaped = self.pid, 0, None
        self._host.reaper.release(pid)
        try:
            await self._backend.delete(force=True)
        except (ShimyardError, OSError) as error:
            log.warning("undo of a restore: %s", error)

    # -- its end, and a shim's

    async def delete(self, *, force: bool) -> dict[str, int]:
        """A restore that is at work, and hangs, is in the way for a while only."""
        if force and isinstance(self._state, Restoring) and self._backend is not None:
            await self._backend.settle(_HUNG_SECONDS)
        return await super().delete(force=force)

    async def _remove(self) -> None:
        if self._dump is not None and not self._dump[1].done and self._backend is not None:
            if not self._ended.done:
                self._slay()
            await self._backend.settle(_HUNG_SECONDS)  # of a dead task CRIU can write nothing down
            over: Pending[None] = Pending()
            self._dump[1].then(lambda _: over.set(None))
            await over
        if self._request.checkpoint is not None and not self.pid and self._io is not None:  # never started
            self._io.close_child()
            self._io.finish()
        await super()._remove()

    def _recall(self, event: Message) -> None:
        super()._recall(event)
        if isinstance(event, Checkpointed):
            self._checkpointed_at = self._later(event.at)
            if event.exit:
                self._reason = CHECKPOINTED

    async def _go_on(self, estate: Estate) -> None:
        self._finish_checkpoint()
        await super()._go_on(estate)
        if self._reason == CHECKPOINTED and self._reaped is None and self.status is None:  # CRIU was killed just before it did
            self._end_by_checkpoint()

    def _finish_checkpoint(self) -> None:
        """One that a killed shim had begun: CRIU has come to its end meanwhile, if it was started."""
        intent = Intent.read(self._request.bundle)
        if intent is not None and self._checkpointed_at < intent.at:
            request = intent.request
            try:
                if not (criu.whole(f"{request.work_path}/{criu.DUMP_LOG}") and images.are_there(request.path)):
                    raise Unavailable("its shim was killed before it was whole")
                self._sign(intent)
            except ShimyardError as error:
                log.warning("the checkpoint %s is undone: %s", request.path, error)
                images.clear(request.path, made=intent.made)
            else:
                self._tell_checkpointed(request)
            point("shim: checkpoint finished")
        self._drop_intent()
