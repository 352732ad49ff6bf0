"""What single tasks use: asked of them as a client asks, a bounded number of them, a few at once, for a bounded time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from actors.metrics.ledger import Key
from shimproc.flow import Pending
from shimproc.loop import LoopLike

AT_ONCE: Final = 32
SECONDS: Final = 5.0
"""After that, who has not answered is left out."""
Use = Mapping[str, Any]


@dataclass(slots=True)
class _Round:
    waiting: deque[Key]
    asked: int = 0
    found: dict[Key, Use] = field(default_factory=dict)
    over: Pending[Mapping[Key, Use]] = field(default_factory=Pending)


class Uses:
    """Collects them.

    Parameters
    ----------
    ask : ``tasks.metrics`` of one task.
    """

    def __init__(self, loop: LoopLike, ask: Callable[[Key], Pending[Use]]) -> None:
        self._loop = loop
        self._ask = ask
        self._owing: set[Key] = set()

    def collect(self, keys: Iterable[Key]) -> Pending[Mapping[Key, Use]]:
        """Of those tasks that answer; one that still owes an answer to an earlier collection is not asked again."""
        collection = _Round(deque(key for key in keys if key not in self._owing))
        timer = self._loop.call_later(SECONDS, lambda: collection.over.set(collection.found))
        collection.over.then(lambda _: timer.cancel())
        self._go_on(collection)
        return collection.over

    def _go_on(self, collection: _Round) -> None:
        while collection.waiting and collection.asked < AT_ONCE and not collection.over.done:
            key = collection.waiting.popleft()
            collection.asked += 1
            self._owing.add(key)
            self._ask(key).then(partial(self._on_answer, collection, key))
        if not collection.waiting and not collection.asked:
            collection.over.set(collection.found)

    def _on_answer(self, collection: _Round, key: Key, outcome: Pending[Use]) -> None:
        """One that has stopped meanwhile refuses."""
        self._owing.discard(key)
        collection.asked -= 1
        if outcome.error is None and not collection.over.done:
            collection.found[key] = outcome.result()
        self._go_on(collection)
