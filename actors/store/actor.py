"""The store: the one thread that waits for the disk, and the only user of the database.

    Exchange ─Commit─▶ Store ─Committed─▶ Exchange        any actor ─Read─▶ Store ─receipt, in the loop's thread─▶

All commits that wait, up to ``GROUP``, are one transaction: cost falls as load grows. If anything in it fails, it is
rolled back and each piece is tried alone, so that a piece fails by its own fault only; an event's ``seq`` is given in
the transaction that succeeds, so the run has no hole. Nothing ends the store but its stop; every piece and every query
is answered, also those that came too late.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pykka

from actors.dispatch import post
from actors.messages import Commit, Committed, Publish, Published, Read
from actors.store.database import close_database, is_common, is_full, open_database, roll_back, translate
from actors.store.events import append, bounds, trim
from actors.store.statements import apply_all
from shimproc.errors import InvalidArgument, ShimyardError, Unavailable

log = logging.getLogger(__name__)
GROUP: Final = 256
TRIM_SLACK: Final = 500
TRIM_ROWS: Final = 1000
Outcome = tuple[Published, ...] | ShimyardError
CallFromThread = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Trim:
    """To itself: remove some more of the oldest events, behind what waits."""


class Store(pykka.ThreadingActor):
    """Commits and reads.

    Parameters
    ----------
    path : the database; opened here, in the caller's thread, so ``Store.start`` raises what ``open_database`` does.
    keep : at least so many of the last events are kept; older ones go by and by.
    exchange : gets one ``Committed`` for each group.
    call_from_thread : the loop's; receipts of ``Read`` are set through it.
    """

    use_daemon_thread = True  # a kill is survived anyway; a hung disk must not hold up the process's end

    def __init__(self, path: Path, keep: int, exchange: pykka.ActorRef[Any], call_from_thread: CallFromThread) -> None:
        super().__init__()
        if keep < 1:
            raise InvalidArgument(f"events.keep: {keep} is too few; keep 1 or more")
        self._path = path
        self._keep = keep
        self._exchange = exchange
        self._call = call_from_thread
        self._group: list[Publish] = []
        self._trimming = False
        self._db = open_database(path)
        try:
            self._last, self._oldest = bounds(self._db)
        except sqlite3.Error as error:
            close_database(self._db)
            raise translate(error, path) from error

    def on_start(self) -> None:
        """``keep`` may have been lowered since the last run."""
        self._trim_soon()

    def on_stop(self) -> None:
        """What came before the stop is committed; one whole file is left."""
        self._flush()
        close_database(self._db)

    def on_receive(self, message: Any) -> None:
        """A commit waits for those behind it, as long as there are any; anything else comes after it."""
        if isinstance(message, Commit):
            self._group.append(message.token)
            if self.actor_inbox.empty() or len(self._group) >= GROUP:
                self._flush()
            return
        self._flush()
        match message:
            case Read():
                self._read(message)
            case Trim():
                self._trim()
            case _:
                log.error("the store has no use for %s", type(message).__name__)

    # -- commits

    def _flush(self) -> None:
        group, self._group = self._group, []
        if group:
            post(self._exchange, Committed(tuple(zip(group, self._outcomes(group), strict=True))))
            self._trim_soon()

    def _outcomes(self, group: Sequence[Publish]) -> Sequence[Outcome]:
        try:
            return self._transact(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, each piece gets its own answer
            if is_full(error):
                self._make_room()
            elif is_common(error) or len(group) == 1:
                return [self._failure(error)] * len(group)
        return [self._alone(piece) for piece in group]

    def _alone(self, piece: Publish) -> Outcome:
        try:
            return self._transact([piece])[0]
        except Exception as error:  # noqa: BLE001 - it is handed on
            return self._failure(error)

    def _transact(self, pieces: Sequence[Publish]) -> list[tuple[Published, ...]]:
        """One transaction. Events first: an incarnation's last event comes with the order to forget it."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            published = append(self._db, self._last, [event for piece in pieces for event in piece.events])
            apply_all(self._db, [change for piece in pieces for change in piece.changes])
            self._db.execute("COMMIT")
        except BaseException:
            self._recover()
            raise
        self._last += sum(not event.repeated for event in published)
        remaining = iter(published)
        return [tuple(next(remaining) for _ in piece.events) for piece in pieces]

    def _recover(self) -> None:
        """Back to what is on disk. Its numbers are read again: a COMMIT that failed may have been one all the same."""
        roll_back(self._db)
        try:
            self._last, self._oldest = bounds(self._db)
        except sqlite3.Error as error:
            log.warning("after a failed commit: %s", translate(error, self._path))

    def _make_room(self) -> None:
        """On a full disk: give back what the write-ahead log holds, for the same commits to be tried once more."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            log.debug("no room was made: %s", error)

    def _failure(self, error: Exception) -> ShimyardError:
        meaning = translate(error, self._path)
        log.error("a commit failed: %s", meaning, exc_info=None if _is_expected(error) else error)
        return meaning

    # -- the rest

    def _read(self, message: Read) -> None:
        receipt = message.receipt
        try:
            result = message.query(self._db)
        except Exception as error:  # noqa: BLE001 - it is handed on
            self._fail(message, translate(error, self._path))
        else:
            self._call(lambda: receipt.set(result))
        finally:
            roll_back(self._db)

    def _fail(self, message: Read, error: ShimyardError) -> None:
        self._call(lambda: message.receipt.fail(error))

    def _trim_soon(self) -> None:
        if not self._trimming and self._last - self._oldest + 1 > self._keep + TRIM_SLACK:
            self._trimming = True
            self.actor_ref.tell(Trim())

    def _trim(self) -> None:
        self._trimming = False
        before = max(self._oldest, min(self._last - self._keep + 1, self._oldest + TRIM_ROWS))
        try:
            trim(self._db, before)
        except sqlite3.Error as error:  # tried again after the next commit
            log.warning("old events stay: %s", translate(error, self._path))
            self._recover()
            return
        self._oldest = before
        self._trim_soon()

    def _actor_loop_teardown(self) -> None:
        """Answer what came behind the stop; pykka answers those who asked."""
        asked = []
        error = Unavailable("the daemon is stopping; try again when it is back")
        while not self.actor_inbox.empty():
            envelope = self.actor_inbox.get()
            if envelope.reply_to is not None:
                asked.append(envelope)
            elif isinstance(envelope.message, Commit):
                post(self._exchange, Committed(((envelope.message.token, error),)))
            elif isinstance(envelope.message, Read):
                self._fail(envelope.message, error)
        for envelope in asked:
            self.actor_inbox.put(envelope)
        super()._actor_loop_teardown()

    @staticmethod
    def _create_actor_inbox() -> Any:
        """One in C: a sender never waits for a lock that this thread holds."""
        return queue.SimpleQueue()


def _is_expected(error: Exception) -> bool:
    """A refusal or a full disk: worth a line in the daemon's log, not a traceback."""
    return isinstance(error, ShimyardError) or is_full(error)
