"""The shim's service: requests in, answers and events out. The same object serves in a shim and, ``no_shim``, in the daemon.

It knows no socket: ``receive`` takes the daemon's maps, ``attach`` says where answers and events go. With no link
attached, work goes on and events wait in the journal.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from shimproc import flow
from shimproc.errors import FailedPrecondition, InvalidArgument, ShimyardError, to_map
from shimproc.journal import Journal
from shimproc.loop import LoopLike
from shimproc.messages import (
    CloseIO,
    Create,
    Delete,
    Hello,
    Kill,
    Message,
    Pids,
    Shutdown,
    Start,
    event_map,
    request_of,
)
from shimproc.process.init import Host, Init
from shimproc.reaper import Reaper

log = logging.getLogger(__name__)
VERSION = 1
Send = Callable[[Mapping[str, Any]], None]


class Service:
    """One task.

    Parameters
    ----------
    journal : where events go before anyone is told.
    end : called when the task is deleted and the daemon said ``Shutdown``, or when there is nothing to serve.
    """

    def __init__(self, loop: LoopLike, reaper: Reaper, journal: Journal, end: Callable[[], None]) -> None:
        self._loop = loop
        self._journal = journal
        self._end = end
        self._send: Send | None = None
        self._host = Host(loop, reaper, self._emit)
        self._init: Init | None = None
        self._started_at = time.time_ns()
        self._last = journal.last

    def attach(self, send: Send) -> None:
        """Answers and events go to ``send`` from now on; the newest link is the daemon's."""
        self._send = send

    def detach(self) -> None:
        """The daemon is gone, for now. Without a task, or with a deleted one, nobody will come back."""
        self._send = None
        if self._init is None or self._init.state in ("new", "deleted"):
            self._end()

    def receive(self, frame: Mapping[str, Any]) -> None:
        """A request or an ack from the daemon."""
        if "ack" in frame:
            self._journal.ack(int(frame["ack"]))
            return
        number = frame.get("q")
        try:
            answer = self._serve(request_of(frame))
        except Exception as error:  # noqa: BLE001 - it is the answer
            self._answer(number, error)
            return
        flow.start(answer).then(lambda outcome: self._answer(number, outcome.error or outcome.result()))

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
        return await self._serve_init(self._init, request)

    async def _serve_init(self, init: Init, request: Message) -> Any:
        match request:
            case Start():
                return await init.start()
            case Kill():
                return init.kill(request)
            case Delete():
                return await init.delete(force=request.force)
            case CloseIO():
                return init.close_stdin()
            case Pids():
                return {"pids": init.pids()}
        raise InvalidArgument(f"{request.tag} is not for a shim")

    def _create(self, request: Create) -> Coroutine[Any, Any, Any]:
        if self._init is not None and self._init.state != "new":
            raise FailedPrecondition("the shim has a task already")
        self._init = Init(self._host, request)
        return self._init.create()

    def _hello(self, request: Hello) -> dict[str, Any]:
        """Say again what the daemon has not acked, then who we are."""
        for n, event in self._journal.since(request.acked):
            self._tell({"n": n, "event": event})
        state = self._init.state if self._init else "new"
        return {"pid": os.getpid(), "version": VERSION, "started_at": self._started_at, "state": state}

    def _emit(self, event: Message) -> None:
        values = event_map(event)
        self._last = self._journal.append(values)
        self._tell({"n": self._last, "event": values})

    def _answer(self, number: Any, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            if not isinstance(outcome, ShimyardError):
                log.error("a request failed", exc_info=outcome)
            self._tell({"a": number, "n": self._last, "error": to_map(outcome)})
        else:
            self._tell({"a": number, "n": self._last, "ok": outcome})

    def _tell(self, frame: Mapping[str, Any]) -> None:
        if self._send is not None:
            self._send(frame)
