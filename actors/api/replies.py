"""Answers: the only place where a result or an exception becomes a reply's bytes (API.md, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cbor2

from actors.api.outlet import Outlet
from actors.api.peers import STREAM_QUEUE, Peer
from actors.api.requests import Id
from actors.messages import Change, Reply
from actors.shape import dump
from shimproc.errors import FailedPrecondition, Internal, ResourceExhausted, to_map
from shimproc.loop import Timer


def ok_body(request_id: Id, result: Any) -> bytes:
    """``{id, ok: true, result}``."""
    return cbor2.dumps({"id": request_id, "ok": True, "result": dump(result)})


def error_body(request_id: Id, error: BaseException) -> bytes:
    """``{id, ok: false, error}``."""
    return cbor2.dumps({"id": request_id, "ok": False, "error": to_map(error)})


class ClientReply:
    """``actors.messages.Reply``: where one request's answer goes. Only the first answer counts.

    It counts as in flight until whoever serves it is done with it, also when its deadline has passed.
    """

    def __init__(self, outlet: Outlet, peer: Peer, request_id: Id, streams: Streams) -> None:
        self._outlet = outlet
        self._peer = peer
        self._id = request_id
        self._streams = streams
        self._over = False
        self._held = True
        self._stream: ClientStream | None = None
        self.timer: Timer | None = None
        peer.in_flight += 1

    @property
    def key(self) -> str:
        """None."""
        return ""

    @property
    def open(self) -> bool:
        """Does anybody still wait for it?"""
        return not (self._over or self._peer.gone)

    def ok(self, result: Any) -> None:
        """Answer with a map or a record."""
        try:
            body = ok_body(self._id, result)
        except (cbor2.CBOREncodeError, TypeError, ValueError) as error:
            self.fail(Internal(f"the answer cannot be encoded: {error}"))
            return
        self.body(body)

    def fail(self, error: BaseException) -> None:
        """Answer with an error; a stream that has begun ends with it."""
        if self._stream is not None:
            self._stream.end(error)
            return
        self.body(error_body(self._id, error))

    def kept(self, result: Any) -> tuple[Change, ...]:  # noqa: ARG002 - without a key nobody can ask for it again
        """Nothing."""
        return ()

    def body(self, body: bytes) -> None:
        """Send an encoded answer, unless one went before (a deadline)."""
        self._release()
        self._send(body)
        self._outlet.forget_if_idle(self._peer)

    def expire(self, error: BaseException) -> None:
        """Its deadline has passed: that is the answer, and what was begun goes on."""
        self._send(error_body(self._id, error))

    def stream(
        self,
        credit: int | None,
        on_room: Callable[[], None],
        on_gone: Callable[[], None],
        on_write: Callable[[bytes, Reply], None] | None = None,
    ) -> ClientStream:
        """Begin a streaming answer; its number is told at once."""
        made = ClientStream(self._outlet, self._peer, self._id, credit, (on_room, on_gone, on_write))
        self._release()
        if not self._over and self._streams.full(self._peer):
            many = f"this client has {self._streams.limit} open streams; cancel some, or raise api.streams_per_client"
            self._send(error_body(self._id, ResourceExhausted(many)))
        if self._over:  # also when its deadline has passed: nobody reads it
            made.cancel()
            return made
        self._finish()
        self._stream = made
        made.open(self._streams)
        return made

    def _send(self, body: bytes) -> None:
        if not self._over:
            self._finish()
            self._outlet.send(self._peer, body)

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._peer.in_flight -= 1

    def _finish(self) -> None:
        self._over = True
        if self.timer is not None:
            self.timer.cancel()


class ClientStream:
    """``actors.messages.Stream``: chunks to one client, as fast as it takes them.

    With credit, that many; without, up to a bounded queue, and then at the pace of the client's reading.
    """

    def __init__(
        self,
        outlet: Outlet,
        peer: Peer,
        request_id: Id,
        credit: int | None,
        callbacks: tuple[Callable[[], None], Callable[[], None], Callable[[bytes, Reply], None] | None],
    ) -> None:
        self._outlet = outlet
        self._peer = peer
        self._id = request_id
        self._credit = credit
        self._on_room, self._on_gone, self._on_write = callbacks
        self._streams: Streams | None = None
        self._over = False
        self.cancelled = False
        self.number = 0

    def open(self, streams: Streams) -> None:
        """Take a number and tell it, before the first chunk."""
        self._streams = streams
        self.number = streams.add(self._peer, self)
        self._peer.streams[self.number] = self.cancel
        self._peer.room[self.number] = self._on_room
        self._send({"more": True, "stream": self.number, "chunk": None})

    def room(self) -> int:
        """How many chunks may be sent now."""
        if self._over:
            return 0
        free = STREAM_QUEUE - len(self._peer.backlog)
        return max(0, free if self._credit is None else min(free, self._credit))

    @property
    def has_credit(self) -> bool:
        """Does the client pace the stream?"""
        return self._credit is not None

    def send(self, chunk: Mapping[str, Any]) -> None:
        """One chunk."""
        if self._over:
            return
        if self._credit is not None:
            self._credit -= 1
        self._send({"more": True, "stream": self.number, "chunk": dump(chunk)})

    def write(self, data: bytes, reply: Reply) -> None:
        """What the client sends. ``FailedPrecondition``: nobody takes it."""
        if self._on_write is None:
            raise FailedPrecondition("stream: it takes no input; only that of tasks.attach does")
        self._on_write(data, reply)

    def add_credit(self, n: int) -> None:
        """The client takes n more."""
        had_room = self.room() > 0
        self._credit = (self._credit or 0) + n
        if not had_room and self.room() > 0:
            self._on_room()

    def end(self, error: BaseException | None = None) -> None:
        """The closing reply."""
        if self._over:
            return
        self._forget()
        if error is None:
            self._send({"more": False, "stream": self.number})
        else:
            body = {"id": self._id, "ok": False, "error": to_map(error), "more": False, "stream": self.number}
            self._outlet.send(self._peer, cbor2.dumps(body))
        self._outlet.forget_if_idle(self._peer)

    def cancel(self) -> None:
        """The client does not want it any more, or is gone."""
        if not self._over:
            self._forget()
            self._on_gone()

    def close(self) -> None:
        """The client wants no more: the stream ends, and is told so."""
        self.cancelled = True
        self.end()
        self._on_gone()

    def _forget(self) -> None:
        self._over = True
        self._peer.streams.pop(self.number, None)
        self._peer.room.pop(self.number, None)
        if self._streams is not None:
            self._streams.remove(self._peer, self.number)

    def _send(self, fields: Mapping[str, Any]) -> None:
        self._outlet.send(self._peer, cbor2.dumps({"id": self._id, "ok": True, **fields}))


class Streams:
    """The open streams, by client and number: one client cannot touch another's. ``limit``: how many a client may have."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[tuple[bytes, int], ClientStream] = {}
        self._last = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def full(self, peer: Peer) -> bool:
        """Has the client all that it may have?"""
        return len(peer.streams) >= self.limit

    def add(self, peer: Peer, stream: ClientStream) -> int:
        """A new number."""
        self._last += 1
        self._open[peer.identity, self._last] = stream
        return self._last

    def find(self, peer: Peer, number: int) -> ClientStream | None:
        """The client's stream of that number, or None."""
        return self._open.get((peer.identity, number))

    def remove(self, peer: Peer, number: int) -> None:
        """It has ended."""
        self._open.pop((peer.identity, number), None)
