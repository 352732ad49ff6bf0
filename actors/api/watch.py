"""``events.publish``, ``events.replay`` and ``events.watch``.

A watch is a cursor in the log: it reads pages while it is behind, and takes events as they are published once it has
caught up. So it has no hole and no duplicate, whatever the client's pace; without credit it may fall only so far behind.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
import pykka

from actors.dispatch import LoopActor, post
from actors.exchange import Bounds, ExchangeClient
from actors.filters import compile_filters
from actors.messages import Call, Delivered, NewEvent, Published, Read, Stream, Subscribe, Unsubscribe
from actors.shape import dump
from actors.spec import check_plain
from actors.store.events import Page, replay
from shimproc.errors import InvalidArgument, NotFound, ResourceExhausted
from shimproc.flow import Pending, spawn, start
from shimproc.loop import LoopLike

PAGE: Final = 500
MAX_LIMIT: Final = 10_000
MAX_EVENT: Final = 1 << 20
MAX_ANSWER: Final = 16 << 20
BOOKMARK_SECONDS: Final = 1.0
_QUEUE: Final = 10_000
_LAST: Final = 2**63 - 1
Matches = Callable[[Mapping[str, Any]], bool]


@dataclass(slots=True)
class Cursor:
    """One watch. ``at``: everything up to this seq was sent or did not match; ``live``: what comes next is in ``queue``."""

    at: int
    matches: Matches
    credited: bool
    stream: Stream | None = None
    queue: deque[Published] = field(default_factory=deque)
    live: bool = False
    reading: bool = False
    over: bool = False
    told: float = 0.0


class Watcher(LoopActor):
    """The events' side of the API. ``most_behind``: events that a watch without credit may lag; with credit any number."""

    def __init__(
        self,
        loop: LoopLike,
        exchange: pykka.ActorRef[Any],
        store: pykka.ActorRef[Any],
        bounds: Bounds,
        most_behind: int,
    ) -> None:
        super().__init__(loop)
        self._exchange_ref = exchange
        self._exchange = ExchangeClient(exchange)
        self._store = store
        self._bounds = bounds
        self._most_behind = most_behind
        self._cursors: list[Cursor] = []

    def on_call(self, call: Call) -> None:
        """One of the three."""
        if call.method == "events.watch":
            self._watch(call)
            return
        deed = self._publish(call) if call.method == "events.publish" else self._replay(call)
        start(deed).then(
            lambda outcome: call.reply.ok(outcome.result()) if outcome.error is None else call.reply.fail(outcome.error)
        )

    def on_delivered(self, message: Delivered) -> None:
        """New events, to every cursor that has caught up; one whose queue is full goes back to reading the log."""
        for cursor in list(self._cursors):
            if cursor.live:
                cursor.queue.extend(message.events)
                if len(cursor.queue) > _QUEUE:
                    cursor.queue.clear()
                    cursor.live = False
            self._go(cursor)

    # -- publish and replay

    async def _publish(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        check_plain(params.event, "event")
        if len(cbor2.dumps(params.event)) > MAX_EVENT:
            raise InvalidArgument(f"event: longer than {MAX_EVENT} bytes")
        event = NewEvent(call.namespace, params.topic, "UserEvent", params.event, time.time_ns())
        (published,) = await self._exchange.publish(event)
        return {"seq": published.envelope.seq}

    async def _replay(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        _check_since(params.since)
        if not 1 <= params.limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit: {params.limit} is not within 1 and {MAX_LIMIT}")
        matches = compile_filters(params.filters) if params.filters else None
        found: list[Published] = []
        size, at = 0, params.since
        while True:  # a page is bounded in the store; fewer than the limit shall mean that there are no more
            page = await self._page(at, params.limit - len(found), matches)
            found += page.events
            size += sum(len(event.frame) for event in page.events)
            at = page.scanned
            if at >= page.last_seq or len(found) >= params.limit or size >= MAX_ANSWER:
                break
        events = [dump(event.envelope) for event in found]
        return {"events": events, "last_seq": page.last_seq, "oldest_seq": page.oldest_seq}

    def _page(self, since: int, limit: int, matches: Matches | None) -> Pending[Page]:
        receipt: Pending[Page] = Pending()
        post(self._store, Read(lambda db: replay(db, since, limit, matches), receipt))
        return receipt

    # -- watch

    def _watch(self, call: Call) -> None:
        params = call.params
        matches = compile_filters(params.filters or ())
        since = self._bounds.last_seq if params.since is None else params.since
        _check_since(since)
        cursor = Cursor(since, matches, params.credit is not None, told=time.monotonic())
        if not self._cursors:
            post(self._exchange_ref, Subscribe(self.actor_ref))
            self._bookmarks = self.loop.call_later(BOOKMARK_SECONDS, self._bookmark)
        self._cursors.append(cursor)
        cursor.stream = call.reply.stream(params.credit, lambda: self._go(cursor), lambda: self._end(cursor))
        self._go(cursor)

    def _go(self, cursor: Cursor) -> None:
        """Send what is there while the client takes it; read on when there is nothing more to send."""
        stream = cursor.stream
        if cursor.over or stream is None:
            return
        while cursor.queue and stream.room() > 0:
            self._send(cursor, stream, cursor.queue.popleft())
        if cursor.queue or cursor.reading or cursor.live:
            return
        lag = self._bounds.last_seq - cursor.at
        if stream.room() > 0:
            cursor.reading = True
            spawn(self._catch_up(cursor), "reading of the log")
        elif not cursor.credited and lag > self._most_behind:
            behind = ResourceExhausted(f"this client is {lag} events behind; watch again from {cursor.at}, with credit")
            stream.end(behind)
            self._end(cursor)

    async def _catch_up(self, cursor: Cursor) -> None:
        """One page. A page that reaches the newest event makes the cursor live; what came meanwhile is read next."""
        try:
            page = await self._page(cursor.at, PAGE, None)
        finally:
            cursor.reading = False
        if cursor.over or cursor.stream is None:
            return
        oldest_seq = page.oldest_seq
        if oldest_seq > cursor.at + 1 and cursor.at < self._bounds.last_seq:
            lost = NotFound(f"events {cursor.at + 1} to {oldest_seq - 1} are no longer kept", {"oldest_seq": oldest_seq})
            cursor.stream.end(lost)
            self._end(cursor)
            return
        cursor.queue.extend(page.events)
        cursor.live = page.scanned >= self._bounds.last_seq
        self._go(cursor)

    def _send(self, cursor: Cursor, stream: Stream, event: Published) -> None:
        envelope = event.envelope
        if envelope.seq <= cursor.at:
            return
        cursor.at = envelope.seq
        chunk = {
            "seq": envelope.seq,
            "timestamp": envelope.timestamp,
            "namespace": envelope.namespace,
            "topic": envelope.topic,
            "type": envelope.type,
            "event": envelope.event,
        }
        if cursor.matches(chunk):
            cursor.told = time.monotonic()
            stream.send(chunk)

    def _bookmark(self) -> None:
        """Once a second, for those to whom nothing was sent: all up to here did not match."""
        if not self._cursors:
            return
        self._bookmarks = self.loop.call_later(BOOKMARK_SECONDS, self._bookmark)
        now = time.monotonic()
        for cursor in list(self._cursors):
            stream = cursor.stream
            if stream is not None and now - cursor.told >= BOOKMARK_SECONDS and not cursor.queue and stream.room() > 0:
                cursor.told = now
                stream.send({"last_seq": cursor.at})

    def _end(self, cursor: Cursor) -> None:
        if cursor.over:
            return
        cursor.over = True
        self._cursors.remove(cursor)
        if not self._cursors:
            post(self._exchange_ref, Unsubscribe(self.actor_ref))


def _check_since(since: int) -> None:
    if not 0 <= since <= _LAST:
        raise InvalidArgument("since: expected the last seq already seen, 0 for all")
