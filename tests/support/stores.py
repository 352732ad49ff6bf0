"""A real store with its database, and what its exchange hears; for tests of the store and of what stands on it."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pykka

from actors.messages import Change, Commit, Committed, NewEvent, Publish, Published, Read
from actors.store.actor import Store
from shimproc.flow import Pending

SECONDS = 20.0


class Collector(pykka.ThreadingActor):
    """In the exchange's place."""

    use_daemon_thread = True

    def __init__(self, heard: queue.SimpleQueue[Committed]) -> None:
        super().__init__()
        self._heard = heard

    def on_receive(self, message: Any) -> None:
        self._heard.put(message)


class Rig:
    """Commits pieces, collects outcomes, runs queries; the calls for the loop are run by whoever waits."""

    def __init__(self, path: Path, keep: int = 1_000_000) -> None:
        self.path = path
        self.heard: queue.SimpleQueue[Committed] = queue.SimpleQueue()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._exchange = Collector.start(self.heard)
        try:
            self.store = Store.start(path, keep, self._exchange, self._calls.put)
        except BaseException:
            self._exchange.stop()
            raise

    def stop(self) -> None:
        """Store first; it may still answer."""
        self.store.stop()
        self._exchange.stop()

    def send(self, *pieces: Publish) -> None:
        """Without waiting."""
        for piece in pieces:
            self.store.tell(Commit(piece))

    def outcomes(self, count: int) -> list[tuple[Publish, tuple[Published, ...] | BaseException]]:
        """The next ``count`` outcomes, however grouped."""
        found: list[tuple[Publish, tuple[Published, ...] | BaseException]] = []
        while len(found) < count:
            found += self.heard.get(timeout=SECONDS).outcomes
        return found

    def commit(self, *pieces: Publish) -> list[tuple[Published, ...] | BaseException]:
        """Commit each, and wait for what became of it."""
        self.send(*pieces)
        return [outcome for _, outcome in self.outcomes(len(pieces))]

    def seqs(self, *pieces: Publish) -> list[list[int] | type[BaseException]]:
        """Commit each; the numbers of its events, or the class of its error."""
        return [
            type(outcome) if isinstance(outcome, BaseException) else [event.envelope.seq for event in outcome]
            for outcome in self.commit(*pieces)
        ]

    def read(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        """The result of ``query``, or its error raised."""
        receipt: Pending[Any] = Pending()
        self.store.tell(Read(query, receipt))
        self.run_call()
        return receipt.result()

    def run_call(self) -> None:
        """Run the next call that was meant for the loop."""
        self._calls.get(timeout=SECONDS)()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, the store handles nothing; so what is sent waits together."""
        entered, go_on = threading.Event(), threading.Event()

        def wait(_: sqlite3.Connection) -> None:
            entered.set()
            go_on.wait(SECONDS)

        self.store.tell(Read(wait, Pending()))
        assert entered.wait(SECONDS)
        try:
            yield
        finally:
            go_on.set()
            self.run_call()


def event(number: int = 0, source: tuple[str, int] | None = None, **body: Any) -> NewEvent:
    """A user's event."""
    return NewEvent("default", "/tests/told", "Told", {"number": number, **body}, 1_000 + number, source)


def piece(*events: NewEvent, changes: tuple[Change, ...] = ()) -> Publish:
    """What an actor sends to the exchange."""
    return Publish(events, changes, Pending())
