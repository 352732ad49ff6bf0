"""All lifecycle events go through here: committed with their number, then published, then relied on.

``Publish`` comes from any actor; the store commits a group of them at once; ``Committed`` comes back, and in this order
the events go out on XPUB, to subscribers inside the daemon, and the receipts are set. XPUB drops for a subscriber that
is too slow (it sees the hole in ``seq`` and replays); nobody else is slowed.
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
from actors.measures import ExchangeLoad
from actors.messages import Commit, Committed, Delivered, HowBusy, Publish, Published, Subscribe, Unsubscribe
from actors.subscribers import Subscribers
from shimproc.flow import Pending
from shimproc.loop import LoopLike

log = logging.getLogger(__name__)
HELLO = b"_/hello"
HEARTBEAT = b"_/heartbeat"
HEARTBEAT_SECONDS = 1.0


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
    subscriptions : that one subscriber may have.
    """

    def __init__(
        self, loop: LoopLike, socket: zmq.Socket[bytes], bounds: Bounds, keep: int, subscriptions: int
    ) -> None:
        super().__init__(loop)
        self._audience = Subscribers(loop, socket, self._hello, subscriptions)
        self._socket = socket
        self._bounds = bounds
        self._keep = keep
        self._store: pykka.ActorRef[Any] | None = None
        self._waiting: list[Publish] = []
        self._subscribers: dict[str, pykka.ActorRef[Any]] = {}
        self._pending = self._commits = 0

    def on_start(self) -> None:
        """Begin to serve subscribers."""
        self._audience.start()
        self._beat()

    def on_stop(self) -> None:
        """Let go of the socket."""
        self._heartbeat.cancel()
        self._audience.stop()
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
            self._pending += 1
            post(self._store, Commit(message))

    def on_committed(self, message: Committed) -> None:
        """Publish the group, then release those who wait for it."""
        self._pending -= len(message.outcomes)
        self._commits += 1
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
        self._audience.drain()

    def on_how_busy(self, message: HowBusy) -> None:
        """For the metrics."""
        bounds = self._bounds
        message.receipt.set(
            ExchangeLoad(bounds.last_seq, bounds.oldest_seq, self._pending, self._commits, len(self._audience))
        )

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
        self._audience.drain()
        self._heartbeat = self.loop.call_later(HEARTBEAT_SECONDS, self._beat)

    def _hello(self) -> tuple[bytes, bytes]:
        bounds = self._bounds
        hello = {"last_seq": bounds.last_seq, "oldest_seq": bounds.oldest_seq, "daemon": bounds.daemon}
        return HELLO, cbor2.dumps(hello)


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
