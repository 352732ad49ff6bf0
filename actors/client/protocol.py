"""The client's side of API.md section 2, sans-IO: requests to bytes, replies to outcomes.

A ``Session`` knows what is in flight. After a lost connection all of it is sent again, with the same keys, so that
nothing is done twice (``unanswered``).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2

from actors.methods import METHODS
from actors.shape import dump
from shimproc.errors import ShimyardError, from_map

VERSION: Final = 1
_OF_A_STREAM: Final = "tasks.attach.write"
"""It names a stream of its own connection; the next connection may have another of that number."""


@dataclass(slots=True)
class Exchanged:
    """A request and what has come back of it. ``chunks`` and ``stream`` are a streaming method's; ``broken``: it was cut.

    ``bound``: it means something on its own connection alone, so it is not sent again on another. ``sent``: the daemon may
    have got it.
    """

    id: int
    body: bytes
    streams: bool
    bound: bool = False
    sent: bool = False
    done: bool = False
    result: Any = None
    error: ShimyardError | None = None
    broken: bool = False
    stream: int | None = None
    chunks: deque[Any] = field(default_factory=deque)

    def outcome(self) -> Any:
        """The result, or its error raised. Only when ``done``."""
        if self.error is not None:
            raise self.error
        return self.result


class Session:
    """The requests of one client."""

    def __init__(self) -> None:
        self._last = 0
        self._pending: dict[int, Exchanged] = {}

    def request(self, method: str, namespace: str | None, params: Mapping[str, Any], timeout: float | None) -> Exchanged:
        """A new request, to be sent as it is in ``body``. What changes something gets a key of its own."""
        self._last += 1
        row = METHODS[method]
        message: dict[str, Any] = {"v": VERSION, "id": self._last, "method": method, "params": _plain(params)}
        if row.namespaced:
            message["namespace"] = namespace
        if timeout is not None:
            message["timeout"] = timeout
        if row.changes:
            message["key"] = os.urandom(16).hex()
        made = Exchanged(self._last, cbor2.dumps(message), row.streams, row.streams or method == _OF_A_STREAM)
        self._pending[self._last] = made
        return made

    def receive(self, body: bytes) -> Exchanged | None:
        """Take a reply in; returns the request that it moved on, None for one that nobody waits for."""
        reply = cbor2.loads(body)
        moved = self._pending.get(reply.get("id"))
        if moved is None:
            return None
        if reply.get("stream") is not None:
            moved.stream = reply["stream"]
        if not reply["ok"]:
            moved.error = from_map(reply["error"])
        elif reply.get("more"):
            if reply.get("chunk") is not None:
                moved.chunks.append(reply["chunk"])
            return moved
        else:
            moved.result = reply.get("result")
        moved.done = True
        del self._pending[moved.id]
        return moved

    def notice(self, method: str, params: Mapping[str, Any]) -> bytes:
        """A request whose answer nobody waits for."""
        self._last += 1
        return cbor2.dumps({"v": VERSION, "id": self._last, "method": method, "params": dict(params)})

    def forget(self, request: Exchanged) -> None:
        """Nobody waits for it any more."""
        self._pending.pop(request.id, None)

    def unanswered(self) -> Iterable[Exchanged]:
        """What is to be sent again on a new connection; streams are not: their reader begins anew where it was."""
        return [request for request in self._pending.values() if not request.bound]

    def cut_streams(self) -> list[Exchanged]:
        """Streams that a lost connection has cut, and what was written to them: they are ``broken`` now, and forgotten."""
        cut = [request for request in self._pending.values() if request.bound]
        for request in cut:
            request.broken = True
            self.forget(request)
        return cut


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Records to maps; what is None is left to its default."""
    return {name: dump(value) for name, value in params.items() if value is not None}
