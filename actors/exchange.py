"""All lifecycle events go through here: committed with their number, then published, then relied on.

``Publish`` comes from any actor; the store commits a group of them at once; ``Committed`` comes back, and in this order
the events go out on XPUB, to subscribers inside the daemon, and the receipts are set. XPUB drops for a subscriber that
is too slow (it sees the hole in ``seq`` and replays); nobody else is slowed.

A new subscriber of ``_/`` first gets ``_/hello``: libzmq's own welcome message is a single frame, and an event has two,
so the hello is sent to the one pipe that subscribed (ZMQ_XPUB_MANUAL_LAST_VALUE, in every libzmq from 4.3.2 on).
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any

import cbor2
import pykka
import zmq

from actors.dispatch import LoopActor, post
from actors.messages import Commit, Committed, Delivered, Publish, Published, Subscribe, Unsubscribe
from shimproc.flow import Pending
from shimproc.loop import READ, LoopLike

log = logging.getLogger(__name__)
HELLO = b"_/hello"
HEARTBEAT = b"_/heartbeat"
HEARTBEAT_SECONDS = 1.0
_MANUAL_LAST_VALUE = 98  # zmq.h: a draft's number, served by release builds
_DRAIN = 256


@dataclass(slots=True)
class Bounds:
    """Where the log stands; kept by the exchange, read by ``health`` and the hello."""

    last_seq: int = 0
    oldest_seq: int = 1
    daemon: dict[str, Any] = field(default_factory=dict)


class Exchange(LoopActor):
    """Numbers, commits, publishes.

    Parameters
    ----------
    socket : a bound XPUB; this actor's from now on.
    keep : how many events the store keeps, from which the oldest follows.
    """

    def __init__(self, loop: LoopLike, socket: zmq.Socket[bytes], bounds: Bounds, keep: int) -> None:
        super().__init__(loop)
        self._socket = socket
        self._bounds = bounds
        self._keep = keep
        self._store: pykka.ActorRef[Any] | None = None
        self._waiting: list[Publish] = []
        self._subscribers: dict[str, pykka.ActorRef[Any]] = {}

    def on_start(self) -> None:
        """Begin to serve subscribers."""
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self.loop.watch(self._fd, READ, lambda _: self._drain())
        self._beat()
        self._drain()

    def on_stop(self) -> None:
        """Let go of the socket."""
        self._heartbeat.cancel()
        self.loop.unwatch(self._fd)
        self._socket.close(linger=500)

    def on_use_store(self, message: UseStore) -> None:
        """The store is there: it was made after this actor, whose address it needs."""
        self._store = message.store
        waiting, self._waiting = self._waiting, []
        for publish in waiting:
            self.on_publish(publish)

    def on_publish(self, message: Publish) -> None:
        """To the store, in order."""
        if self._store is None:
            self._waiting.append(message)
        else:
            post(self._store, Commit(message))

    def on_committed(self, message: Committed) -> None:
        """Publish the group, then release those who wait for it."""
        fresh: list[Published] = []
        for _, outcome in message.outcomes:
            if isinstance(outcome, tuple):
                fresh += [event for event in outcome if not event.repeated]
        for event in fresh:
            self._publish(event)
        if fresh:
            delivered = Delivered(tuple(fresh))
            for subscriber in self._subscribers.values():
                post(subscriber, delivered)
        for publish, outcome in message.outcomes:
            _settle(publish.receipt, outcome)
        self._drain()

    def on_subscribe(self, message: Subscribe) -> None:
        """Every later event goes to this actor, too."""
        self._subscribers[message.subscriber.actor_urn] = message.subscriber

    def on_unsubscribe(self, message: Unsubscribe) -> None:
        """No more."""
        self._subscribers.pop(message.subscriber.actor_urn, None)

    def _publish(self, event: Published) -> None:
        envelope = event.envelope
        self._bounds.last_seq = envelope.seq
        self._bounds.oldest_seq = max(self._bounds.oldest_seq, envelope.seq - self._keep + 1)
        self._send((envelope.namespace + envelope.topic).encode(), event.frame)

    def _send(self, topic: bytes, body: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart((topic, body), zmq.DONTWAIT)

    def _beat(self) -> None:
        self._send(HEARTBEAT, cbor2.dumps({"last_seq": self._bounds.last_seq}))
        self._drain()
        self._heartbeat = self.loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def _drain(self) -> None:
        """Subscriptions, a bounded number a turn. The descriptor is edge-triggered: ask EVENTS until it is dry."""
        for _ in range(_DRAIN):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            frame = self._socket.recv(zmq.DONTWAIT)
            if not isinstance(frame, bytes) or frame[:1] not in (b"\0", b"\1"):
                continue  # a peer's own message on XPUB: nothing to us
            if frame[0]:
                self._welcome(frame[1:])
            else:
                self._socket.setsockopt(zmq.UNSUBSCRIBE, frame[1:])
        self.loop.call_soon(self._drain)

    def _welcome(self, prefix: bytes) -> None:
        """Subscribe the pipe that asked; if it will see ``_/hello``, it alone gets one now."""
        if not HELLO.startswith(prefix):
            self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
            return
        self._socket.setsockopt(_MANUAL_LAST_VALUE, 1)
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        bounds = self._bounds
        hello = {"last_seq": bounds.last_seq, "oldest_seq": bounds.oldest_seq, "daemon": bounds.daemon}
        self._send(HELLO, cbor2.dumps(hello))
        self._socket.setsockopt(_MANUAL_LAST_VALUE, 0)
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)


@dataclass(frozen=True, slots=True)
class UseStore:
    """To the exchange: commits go to ``store``."""

    store: pykka.ActorRef[Any]


def _settle(receipt: Pending[tuple[Published, ...]], outcome: tuple[Published, ...] | BaseException) -> None:
    if isinstance(outcome, BaseException):
        receipt.fail(outcome)
    else:
        receipt.set(outcome)


class ExchangeClient:
    """What other actors see of the exchange."""

    def __init__(self, ref: pykka.ActorRef[Any]) -> None:
        self._ref = ref

    def publish(self, *events: Any, changes: tuple[Any, ...] = ()) -> Pending[tuple[Published, ...]]:
        """Commit events and changes as one; done when they are durable and published, in the order asked."""
        receipt: Pending[tuple[Published, ...]] = Pending()
        post(self._ref, Publish(tuple(events), changes, receipt))
        return receipt
