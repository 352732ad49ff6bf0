"""Streams that survive a lost connection, sans-IO: where one stands, and how it is asked for again from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from actors.client.protocol import Exchanged
from actors.records import Envelope, LogChunk
from actors.shape import lenient
from shimproc.errors import NotFound, ShimyardError

CREDIT: Final = 512
"""Chunks that may be on their way."""
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
_read_envelope = lenient(Envelope)
_read_chunk = lenient(LogChunk)


class EventsLost(NotFound):
    """Events after ``since`` are no longer kept. ``oldest_seq`` is the oldest that still is: go on from there, or look anew."""

    def __init__(self, error: ShimyardError) -> None:
        super().__init__(error.message, error.details)
        self.oldest_seq: int = error.details["oldest_seq"]


class Cursor(Protocol[T_co]):
    """A place in a stream."""

    @property
    def method(self) -> str:
        """The streaming method."""
        ...

    def params(self) -> Mapping[str, Any]:
        """To ask for what comes next."""
        ...

    def take(self, chunk: Mapping[str, Any]) -> T_co | None:
        """A chunk in, and what the caller gets; None for one that only moves the place."""
        ...

    def goes_on(self, error: ShimyardError | None) -> bool:
        """The daemon has ended the stream: is it to be asked for again? Raises what the caller must know."""
        ...


class EventCursor:
    """The log of events after ``since``."""

    method = "events.watch"

    def __init__(self, since: int, filters: Sequence[str] | None) -> None:
        self._since = since
        self._filters = filters

    def params(self) -> Mapping[str, Any]:
        """From the last one seen on."""
        return {"since": self._since, "filters": self._filters}

    def take(self, chunk: Mapping[str, Any]) -> Envelope | None:
        """An event, or a bookmark."""
        if "seq" not in chunk:
            self._since = max(self._since, chunk["last_seq"])
            return None
        event = _read_envelope(chunk, "")
        if event.seq <= self._since:
            return None
        self._since = event.seq
        return event

    def goes_on(self, error: ShimyardError | None) -> bool:
        """The stream of events has no end of its own."""
        if error is None:
            return True
        if isinstance(error, NotFound) and "oldest_seq" in error.details:
            raise EventsLost(error)
        raise error


class LogCursor:
    """A task's output."""

    method = "tasks.logs"

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = dict(params)
        self._at = 0
        self._given = 0
        self._skip = 0

    def params(self) -> Mapping[str, Any]:
        """From the last time stamp seen on; the chunks of that very time that were given are left out."""
        if not self._at:
            return self._params
        self._skip = self._given
        return {**self._params, "since": self._at, "tail": None}

    def take(self, chunk: Mapping[str, Any]) -> LogChunk | None:
        """A piece of output."""
        read = _read_chunk(chunk, "")
        if self._skip and read.timestamp == self._at:
            self._skip -= 1
            return None
        self._skip = 0
        self._given = self._given + 1 if read.timestamp == self._at else 1
        self._at = read.timestamp
        return read

    def goes_on(self, error: ShimyardError | None) -> bool:
        """It has an end."""
        if error is not None:
            raise error
        return False


class Reading(Generic[T]):
    """One request of a cursor, and the chunks that it has brought."""

    def __init__(self, request: Exchanged, cursor: Cursor[T]) -> None:
        self.request = request
        self._cursor = cursor
        self._taken = 0

    @property
    def moved(self) -> bool:
        """Is there anything to do?"""
        return bool(self.request.chunks) or self.request.done or self.request.broken

    def take(self) -> list[T]:
        """What has come."""
        items = []
        while self.request.chunks:
            self._taken += 1
            item = self._cursor.take(self.request.chunks.popleft())
            if item is not None:
                items.append(item)
        return items

    def credit_due(self) -> Mapping[str, int] | None:
        """The params of ``stream.credit``, when it is time."""
        if self._taken < CREDIT // 2 or self.request.stream is None:
            return None
        due, self._taken = self._taken, 0
        return {"stream": self.request.stream, "n": due}

    @property
    def open_stream(self) -> Mapping[str, int] | None:
        """The params of ``stream.cancel``, while there is something to cancel."""
        if self.request.done or self.request.broken or self.request.stream is None:
            return None
        return {"stream": self.request.stream}
