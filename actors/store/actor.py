"""The store's thread: everything that waits is committed as one group, so the cost of a commit falls as load grows.

Numbers are given inside the transaction: a group that fails leaves no hole. A piece that fails is found by doing the
group again piece by piece; it fails alone.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pykka

from actors.messages import Commit, Committed, Publish, Published, Read
from actors.store import events
from actors.store.database import explained, open_database

log = logging.getLogger(__name__)
GROUP: Final = 256
TRIM: Final = 512
Outcome = tuple[Publish, tuple[Published, ...] | BaseException]
CallFromThread = Callable[[Callable[[], None]], None]


class Store(pykka.ThreadingActor):
    """The only writer of the database.

    Parameters
    ----------
    keep : how many events are kept, at least; what is more is trimmed a little with each group.
    exchange : told ``Committed``, once for each group.
    call_from_thread : runs a callback on the loop, for the receipts of ``Read``.
    """

    use_daemon_thread = True

    def __init__(self, path: Path, keep: int, exchange: pykka.ActorRef[Any], call_from_thread: CallFromThread) -> None:
        super().__init__()
        self._path = path
        self._keep = keep
        self._exchange = exchange
        self._call = call_from_thread
        self._group: list[Publish] = []
        self._db: sqlite3.Connection

    def on_start(self) -> None:
        """In the store's own thread, where the connection belongs."""
        self._db = open_database(self._path)
        self._last = events.last_seq(self._db)

    def on_stop(self) -> None:
        """What waits is committed, the write-ahead log folded in."""
        self._flush()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def on_receive(self, message: Any) -> None:
        """A piece to commit with all others that wait, or a query."""
        if isinstance(message, Commit):
            self._group.append(message.token)
            if self.actor_inbox.empty() or len(self._group) >= GROUP:
                self._flush()
        else:
            self._flush()
            self._read(message)

    def _read(self, message: Read) -> None:
        receipt = message.receipt
        try:
            result = message.query(self._db)
        except sqlite3.Error as error:
            failure: Exception = explained(error, self._path)
            self._call(lambda: receipt.fail(failure))
        except Exception as error:  # noqa: BLE001 - it is handed on
            failure = error
            self._call(lambda: receipt.fail(failure))
        else:
            self._call(lambda: receipt.set(result))

    def _flush(self) -> None:
        group, self._group = self._group, []
        if not group:
            return
        try:
            outcomes = self._commit(group)
        except Exception as failure:  # noqa: BLE001 - each piece gets its own outcome below
            outcomes = [self._alone(piece) for piece in group] if len(group) > 1 else [(group[0], self._told(failure))]
        self._exchange.tell(Committed(tuple(outcomes)))

    def _alone(self, piece: Publish) -> Outcome:
        try:
            return self._commit([piece])[0]
        except Exception as failure:  # noqa: BLE001 - it is the outcome
            return piece, self._told(failure)

    def _commit(self, group: Sequence[Publish]) -> list[Outcome]:
        db, last = self._db, self._last
        outcomes: list[Outcome] = []
        db.execute("BEGIN IMMEDIATE")
        try:
            for piece in group:
                published = events.append(db, piece.events, last)
                last += sum(not event.repeated for event in published)
                for change in piece.changes:
                    change.apply(db)
                outcomes.append((piece, tuple(published)))
            if last != self._last:
                db.execute("UPDATE numbers SET value = ? WHERE name = 'last_seq'", (last,))
                events.trim(db, self._keep, last, TRIM)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._last = last
        return outcomes

    def _told(self, failure: Exception) -> BaseException:
        log.error("a commit failed: %s", failure)
        return explained(failure, self._path) if isinstance(failure, sqlite3.Error) else failure
