"""A shim's events on their way to being durable: in order, one commit at a time, each acked and applied after it.

A commit that fails (a full disk) is tried again; the shim keeps what is not acked, so nothing is lost meanwhile.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from actors.exchange import ExchangeClient
from actors.messages import Change, NewEvent, Published
from shimproc.flow import Pending
from shimproc.loop import LoopLike
from shimproc.messages import Message

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
Told = tuple[tuple[NewEvent, ...], tuple[Change, ...]]


class Progress:
    """The events of one incarnation.

    Parameters
    ----------
    tell : what an event says to the world.
    apply : called with each event once it is durable.
    """

    def __init__(
        self,
        loop: LoopLike,
        exchange: ExchangeClient,
        tell: Callable[[int, Message], Told],
        apply: Callable[[int, Message], None],
    ) -> None:
        self.loop = loop
        self._exchange = exchange
        self._tell = tell
        self._apply = apply
        self._queue: deque[tuple[int, Message]] = deque()
        self._in_flight = 0
        self._waiting: list[tuple[int, Pending[None]]] = []
        self._seen = 0
        self._muted = False
        self.durable = 0

    def take(self, n: int, event: Message, after: int) -> None:
        """An event from the shim, in order: what is told again is known by its number, and what comes before the hello of
        a new link has been answered is told again by it. Between ``after`` and ``n`` there is nothing that matters any more."""
        if not after <= self._seen < n:
            return
        self._seen = n
        self._queue.append((n, event))
        self._push()

    def begin_after(self, n: int) -> None:
        """The events up to ``n`` are durable, and known otherwise."""
        self._seen = self.durable = n

    def settled(self) -> Pending[None]:
        """Done when all is durable that was taken so far."""
        return self.until(self._seen)

    def until(self, n: int) -> Pending[None]:
        """Done when event ``n`` is durable."""
        pending: Pending[None] = Pending()
        if n <= self.durable:
            pending.set(None)
        else:
            self._waiting.append((n, pending))
        return pending

    def mute(self) -> None:
        """Tell nobody any more: the task is being undone as if it had never been."""
        self._muted = True

    def _push(self) -> None:
        if self._in_flight or not self._queue:
            return
        batch = list(self._queue)
        self._in_flight = len(batch)
        events: tuple[NewEvent, ...] = ()
        changes: tuple[Change, ...] = ()
        for n, event in batch:
            more_events, more_changes = ((), ()) if self._muted else self._tell(n, event)
            events, changes = events + more_events, changes + more_changes
        if events or changes:
            self._exchange.publish(*events, changes=changes).then(self._on_committed)
        else:
            self._settle()

    def _on_committed(self, outcome: Pending[tuple[Published, ...]]) -> None:
        if outcome.error is None:
            self._settle()
            return
        log.error("events wait for a commit: %s", outcome.error)
        self._in_flight = 0
        self.loop.call_later(RETRY_SECONDS, self._push)

    def _settle(self) -> None:
        for _ in range(self._in_flight):
            n, event = self._queue.popleft()
            self.durable = n
            self._apply(n, event)
        self._in_flight = 0
        ready = [pending for n, pending in self._waiting if n <= self.durable]
        self._waiting = [(n, pending) for n, pending in self._waiting if n > self.durable]
        for pending in ready:
            pending.set(None)
        self._push()
