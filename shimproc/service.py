"""The shim's service: requests in, answers and events out. The same object serves in a shim and, ``no_shim``, in the daemon.

It knows no socket: ``receive`` takes the daemon's maps, ``attach`` says where answers and events go. With no link
attached, work goes on and events wait in the journal. The create request is on disk before anything is done of it, so that
a shim that comes after a killed one can finish or undo it.

An event that the journal has no room for is kept here and tried again, and those behind it wait: an exit is told late
rather than never. Only a create is refused then, since it can be undone.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import cbor2

from shimproc import flow
from shimproc.crash import point
from shimproc.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ShimyardError,
    scarce,
    to_map,
)
from shimproc.flow import Pending
from shimproc.io.keepsakes import Keeper
from shimproc.io.streams import ProcessIO
from shimproc.journal import Journal
from shimproc.loop import LoopLike
from shimproc.messages import (
    Attach,
    Checkpoint,
    CloseIO,
    Create,
    Delete,
    DeleteProcess,
    Detach,
    Exec,
    Exited,
    Hello,
    Kill,
    Message,
    Metrics,
    Pause,
    Pids,
    Resize,
    Resume,
    Shutdown,
    Start,
    Update,
    Write,
    event_map,
    event_of,
    exec_of,
    request_of,
)
from shimproc.oom import OomWatch
from shimproc.process.audience import Audience
from shimproc.process.estate import Estate
from shimproc.process.history import needed
from shimproc.process.host import Host
from shimproc.process.init import Init
from shimproc.reaper import Reaper

log = logging.getLogger(__name__)
VERSION = 1
INTENT = "create.cbor"
RETRY_SECONDS = 1.0
Send = Callable[[Mapping[str, Any]], None]
Deed = Callable[[Init, Any], Any]
"""Its answer, or a coroutine that returns it."""
_OF_INIT: Final[Mapping[type[Message], Deed]] = {
    Start: lambda init, _: init.start(),
    Kill: lambda init, request: init.kill(request),
    Exec: lambda init, request: init.exec(request),
    Pause: lambda init, _: init.pause(),
    Resume: lambda init, _: init.resume(),
    Checkpoint: lambda init, request: init.checkpoint(request),
    Update: lambda init, request: init.update(request),
    Pids: lambda init, _: {"pids": init.pids()},
    Metrics: lambda init, _: init.metrics(),
    Delete: lambda init, request: init.delete(force=request.force),
}
_OF_STREAMS: Final[Mapping[type[Message], Callable[[ProcessIO, Any], Pending[None] | None]]] = {
    CloseIO: lambda streams, _: streams.close_stdin(),
    Resize: lambda streams, request: streams.resize(request.width, request.height),
    Write: lambda streams, request: streams.write(request.data),
}
_OF_EXECS: Final[Mapping[type[Message], Deed]] = {
    Start: lambda init, request: init.start_exec(request.process),
    Kill: lambda init, request: init.execs.get(request.process).kill(request),
    DeleteProcess: lambda init, request: init.execs.delete(request.process),
}


class Service:
    """One task.

    Parameters
    ----------
    journal : where events go before anyone is told.
    keeper : keeps what the next shim would need.
    end : called when the task is deleted and the daemon said ``Shutdown``, or when there is nothing to serve.
    """

    def __init__(
        self, loop: LoopLike, reaper: Reaper, journal: Journal, keeper: Keeper, end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._end = end
        self._send: Send | None = None
        self._host = Host(loop, reaper, self._emit, self._emit_now, keeper)
        self._init: Init | None = None
        self._started_at = time.time_ns()
        self._last = journal.last
        self._audience = Audience(self._tell)
        self._ooms = OomWatch(loop, self._emit)
        self._unwritten: deque[tuple[Message, Pending[None]]] = deque()
        self._adopted = False
        self._adopting: Pending[None] | None = None

    def adopt(self, bundle: str, estate: Estate) -> None:
        """Take over the bundle of a killed shim. Requests wait until that is done."""
        self._adopted = True
        self._adopting = Pending()
        flow.start(self._take_over(bundle, estate)).then(self._on_adopted)

    def entrust(self) -> None:
        """To a keeper that has nothing of ours yet."""
        if self._init is not None and self._adopting is None:
            self._init.entrust()

    def attach(self, send: Send) -> None:
        """Answers and events go to ``send`` from now on; the newest link is the daemon's."""
        self._audience.clear()
        self._send = send

    def detach(self) -> None:
        """The daemon is gone, for now. Without a task, or with a deleted one, nobody will come back."""
        self._send = None
        self._audience.clear()
        if self._adopting is None:
            self._end_if_idle()

    def receive(self, frame: Mapping[str, Any]) -> None:
        """A request or an ack from the daemon."""
        asker = self._send
        if self._adopting is not None:
            self._adopting.then(lambda _: self._receive(frame, asker))
        else:
            self._receive(frame, asker)

    def _receive(self, frame: Mapping[str, Any], asker: Send | None) -> None:
        if "ack" in frame:
            if isinstance(frame["ack"], int):
                self._on_ack(frame["ack"])
            return
        if "grant" in frame:
            self._audience.give_credit(int(frame["grant"]), int(frame["n"]))
            return
        number = frame.get("q")
        try:
            answer = self._serve(request_of(frame))
        except Exception as error:  # noqa: BLE001 - it is the answer
            self._answer(asker, number, error)
            return
        flow.start(answer).then(lambda outcome: self._answer(asker, number, outcome.error or outcome.result()))

    def _on_ack(self, n: int) -> None:
        self._journal.ack(n)
        if self._journal.bulky:
            try:
                self._journal.compact(needed)
            except (OSError, Internal) as error:  # it only grows on
                log.warning("the journal is not made smaller: %s", error)

    async def _serve(self, request: Message) -> Any:
        if isinstance(request, Create):
            return await self._create(request)
        if isinstance(request, Hello):
            return self._hello(request)
        if isinstance(request, Shutdown):
            self._loop.call_soon(self._end)
            return {}
        if self._init is None:
            raise FailedPrecondition("the shim has no task yet")
        return await self._serve_task(self._init, request)

    async def _serve_task(self, init: Init, request: Message) -> Any:
        exec_id = "" if isinstance(request, Exec) else exec_of(request)
        process = init.execs.get(exec_id) if exec_id else init
        if isinstance(request, Attach):
            return self._audience.add(process, request)
        if isinstance(request, Detach):
            return self._audience.remove(request.number)
        if (of_streams := _OF_STREAMS.get(type(request))) is not None:
            return await _done(of_streams(process.io, request))
        deed = (_OF_EXECS if exec_id else _OF_INIT).get(type(request))
        if deed is None:
            raise InvalidArgument(f"{request.tag} is not for {'an exec' if exec_id else 'a shim'}")
        answer = deed(init, request)
        self._ooms.asked(request)
        return await answer if isinstance(answer, Coroutine) else answer

    def _create(self, request: Create) -> Coroutine[Any, Any, Any]:
        if self._init is not None and self._init.state != "new":
            raise FailedPrecondition("the shim has a task already")
        _record(request)
        point("shim: intent written")
        self._init = Init(self._host, request)
        return self._init.create()

    async def _take_over(self, bundle: str, estate: Estate) -> None:
        point("shim: take-over begun")
        request = _recorded(bundle)
        try:
            if request is not None:
                events = [event_of(values) for _, values in self._journal.since(0)]
                for event in events:
                    self._ooms.heed(event)
                self._init = Init(self._host, request)
                await self._init.adopt(events, estate)
        finally:
            estate.close()

    def _on_adopted(self, outcome: Pending[None]) -> None:
        adopting, self._adopting = self._adopting, None
        if outcome.error is not None:
            log.error("the take-over failed", exc_info=outcome.error)
        self._host.reaper.taken_over()
        point("shim: taken over")
        if adopting is not None:
            adopting.set(None)
        if self._send is None:
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        """Nothing to serve, and nobody to tell; whoever comes gets a new shim, which knows as much from the journal."""
        if not self._unwritten and (self._init is None or self._init.state in ("new", "deleted")):
            self._end()

    def _hello(self, request: Hello) -> dict[str, Any]:
        """Say again what the daemon has not acked, then who we are."""
        self._journal.ack(request.acked)
        before = request.acked
        for n, event in self._journal.since(request.acked):
            self._tell({"n": n, "after": before, "event": event})
            before = n
        told = {"pid": os.getpid(), "version": VERSION, "started_at": self._started_at, "adopted": self._adopted}
        if self._init is None:
            return {**told, "state": "new", "checkpoint": ""}
        return {**told, "state": self._init.state, "checkpoint": self._init.checkpointing}

    def _emit(self, event: Message) -> Pending[None]:
        """Journal, then tell; done when it is journaled."""
        if isinstance(event, Exited):
            init_ended = self._init is not None and self._init.status is not None
            event = self._ooms.ended(event, slain=bool(event.process) and init_ended)
        written: Pending[None] = Pending()
        self._unwritten.append((event, written))
        if len(self._unwritten) == 1:
            self._write()
        return written

    def _emit_now(self, event: Message) -> None:
        """The same; ``ResourceExhausted`` if there is no room for it, and then it has not happened."""
        try:
            self._journal_and_tell(event)
        except OSError as error:
            raise scarce(error, "the task's journal, in its bundle, cannot be written") from error
        except Internal as error:
            raise ResourceExhausted(f"the task's bundle: {error}; free some space there") from error

    def _write(self) -> None:
        while self._unwritten:
            event, written = self._unwritten[0]
            try:
                self._journal_and_tell(event)
            except (OSError, Internal) as error:
                log.error("%s waits for the journal: %s", event.tag, error)
                self._loop.call_later(RETRY_SECONDS, self._write)
                return
            self._unwritten.popleft()
            written.set(None)
        if self._send is None and self._adopting is None:
            self._end_if_idle()

    def _journal_and_tell(self, event: Message) -> None:
        values = event_map(event)
        self._last = self._journal.append(values)
        self._ooms.heed(event)
        self._tell({"n": self._last, "event": values})

    def _answer(self, asker: Send | None, number: Any, outcome: Any) -> None:
        """To whoever asked: on a later link the same number is another request's."""
        if isinstance(outcome, BaseException) and not isinstance(outcome, ShimyardError):
            log.error("a request failed", exc_info=outcome)
        if asker is not self._send:
            return
        if isinstance(outcome, BaseException):
            self._tell({"a": number, "n": self._last, "error": to_map(outcome)})
        else:
            self._tell({"a": number, "n": self._last, "ok": outcome})

    def _tell(self, frame: Mapping[str, Any]) -> None:
        if self._send is not None:
            self._send(frame)


async def _done(pending: Pending[None] | None) -> dict[str, Any]:
    if pending is not None:
        await pending
    return {}


def _record(request: Create) -> None:
    """The intent: written before the deed, as a whole, or ``ResourceExhausted``."""
    path = os.path.join(request.bundle, INTENT)  # noqa: PTH118 - pathlib costs the shim memory
    data = cbor2.dumps(request.to_map())
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
    except OSError as error:
        raise scarce(error, f"{path} cannot be written") from error


def _recorded(bundle: str) -> Create | None:
    """What the shim before this one was asked to make; None if it had not begun."""
    try:
        with open(os.path.join(bundle, INTENT), "rb") as file:  # noqa: PTH118, PTH123 - see above
            return Create.from_map(cbor2.loads(file.read()))
    except (FileNotFoundError, cbor2.CBORError, ShimyardError):
        return None
