"""A reply that is measured: when the first answer is given, and which."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from actors.api.requests import Request
from actors.measures import Meter
from actors.messages import Change, Reply, Stream
from shimproc.errors import Internal, ShimyardError

_AS_LONG_AS_WANTED: Final = ("tasks.wait", "tasks.stop")


class MeteredReply:
    """``actors.messages.Reply``: what another does, counted.

    Parameters
    ----------
    since : when the request came, by ``time.monotonic``.
    """

    def __init__(self, reply: Reply, meter: Meter, request: Request, since: float) -> None:
        self._reply = reply
        self._meter: Meter | None = meter
        self._method = request.method
        self._since = since
        waits = request.method in _AS_LONG_AS_WANTED or getattr(request.params, "wait", False)
        self._timed = not (waits or request.row.streams)

    @property
    def key(self) -> str:
        """As the other says."""
        return self._reply.key

    @property
    def open(self) -> bool:
        """As the other says."""
        return self._reply.open

    def ok(self, result: Any) -> None:
        """It was done."""
        self._count("ok")
        self._reply.ok(result)

    def fail(self, error: BaseException) -> None:
        """It was not."""
        self._count(error.code if isinstance(error, ShimyardError) else Internal.code)
        self._reply.fail(error)

    def kept(self, result: Any) -> tuple[Change, ...]:
        """As the other says."""
        return self._reply.kept(result)

    def stream(
        self,
        credit: int | None,
        on_room: Callable[[], None],
        on_gone: Callable[[], None],
        on_write: Callable[[bytes, Reply], None] | None = None,
    ) -> Stream:
        """It has begun."""
        self._count("ok")
        return self._reply.stream(credit, on_room, on_gone, on_write)

    def _count(self, code: str) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.answered(self._method, code, time.monotonic() - self._since if self._timed else None)
