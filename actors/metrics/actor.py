"""The metrics' actor: hears every event at the exchange, like any client outside, and gathers the rest when it is scraped.

One collection at a time: scrapes that come meanwhile get the same snapshot. What becomes of a snapshot (text, a socket) is the
business of the server's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pykka

from actors.dispatch import LoopActor, post
from actors.measures import ApiLoad, ExchangeLoad
from actors.messages import Delivered, HowBusy, Subscribe
from actors.metrics.ledger import Account, Key, Ledger
from actors.metrics.uses import Use, Uses
from actors.store.tasks import TaskRow
from actors.supervision.asking import ask
from shimproc import flow
from shimproc.flow import Pending
from shimproc.loop import LoopLike

USES_SECONDS: Final = 1.0
"""Single tasks are asked no more often than that."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is told in one scrape. ``left_out``: running tasks whose use is not among ``uses``, where that is wanted."""

    account: Account
    api: ApiLoad
    exchange: ExchangeLoad
    uses: Mapping[Key, Use]
    left_out: int | None


@dataclass(frozen=True, slots=True)
class Scrape:
    """To the metrics, from the server's thread."""

    receipt: Pending[Snapshot]


@dataclass(frozen=True, slots=True)
class Sources:
    """Who is heard and asked. ``tasks``: how many of them are asked what they use, at most."""

    exchange: pykka.ActorRef[Any]
    front_end: pykka.ActorRef[Any]
    runtime: pykka.ActorRef[Any]
    tasks: int


class MetricsActor(LoopActor):
    """``former``: the tasks of former daemons."""

    def __init__(self, loop: LoopLike, sources: Sources, former: Iterable[TaskRow]) -> None:
        super().__init__(loop)
        self._sources = sources
        self._ledger = Ledger(former)
        self._uses = Uses(loop, lambda key: ask(sources.runtime, "tasks.metrics", key[0], id=key[1]))
        self._collecting: Pending[Snapshot] | None = None
        self._known: Pending[Mapping[Key, Use]] | None = None

    def on_start(self) -> None:
        """Hear of everything from now on."""
        post(self._sources.exchange, Subscribe(self.actor_ref))

    def on_delivered(self, message: Delivered) -> None:
        """In order."""
        for event in message.events:
            self._ledger.take(event.envelope)

    def on_scrape(self, message: Scrape) -> None:
        """The snapshot that is being made, or a new one."""
        if self._collecting is None:
            self._collecting = collecting = flow.start(self._collect())
            collecting.then(self._on_collected)
        else:
            collecting = self._collecting
        collecting.then(lambda outcome: _hand_on(outcome, message.receipt))

    def _on_collected(self, _: Pending[Snapshot]) -> None:
        self._collecting = None

    async def _collect(self) -> Snapshot:
        exchange, api = self._ask(self._sources.exchange), self._ask(self._sources.front_end)
        uses, left_out = await self._collect_uses()
        return Snapshot(self._ledger.account(), await api, await exchange, uses, left_out)

    def _ask(self, who: pykka.ActorRef[Any]) -> Pending[Any]:
        receipt: Pending[Any] = Pending()
        post(who, HowBusy(receipt))
        return receipt

    async def _collect_uses(self) -> tuple[Mapping[Key, Use], int | None]:
        if not self._sources.tasks:
            return {}, None
        keys = self._ledger.keys()
        if self._known is None:
            self._known = self._uses.collect(keys[: self._sources.tasks])
            self.loop.call_later(USES_SECONDS, self._forget_uses)
        uses = await self._known
        return uses, sum(key not in uses for key in keys)

    def _forget_uses(self) -> None:
        self._known = None


def _hand_on(outcome: Pending[Snapshot], receipt: Pending[Snapshot]) -> None:
    if outcome.error is None:
        receipt.set(outcome.result())
    else:
        receipt.fail(outcome.error)
