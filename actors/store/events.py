"""The durable log of events: appended with an unbroken ``seq``, read back in order, trimmed at its old end.

An event with a source counts once: ``sources`` remembers the seq of each (incarnation, n) until the task is forgotten.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from actors.messages import NewEvent, Published
from actors.records import Envelope

_PAGE: Final = 512
_PAGES: Final = 64
Matches = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class ForgetSource:
    """The task's incarnation is over; nothing of it will be told again."""

    incarnation: str

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM sources WHERE incarnation = ?", (self.incarnation,))


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of the log. ``scanned``: the last seq looked at, matching or not."""

    events: tuple[Published, ...]
    scanned: int
    last_seq: int
    oldest_seq: int


def last_seq(db: sqlite3.Connection) -> int:
    """The number of the newest event that ever was."""
    (value,) = db.execute("SELECT value FROM numbers WHERE name = 'last_seq'").fetchone()
    return int(value)


def oldest_seq(db: sqlite3.Connection) -> int:
    """The number of the oldest event kept; one more than the last if none is."""
    (value,) = db.execute("SELECT min(seq) FROM events").fetchone()
    return last_seq(db) + 1 if value is None else int(value)


def append(db: sqlite3.Connection, events: Sequence[NewEvent], last: int) -> list[Published]:
    """Number the events from ``last`` + 1 on and write them; those that were told before come back as ``repeated``."""
    published = []
    rows = []
    sources = []
    for event in events:
        known = _known(db, event.source)
        if known is not None:
            published.append(known)
            continue
        last += 1
        fresh = _published(last, event)
        rows.append((last, fresh.frame))
        if event.source is not None:
            sources.append((*event.source, last))
        published.append(fresh)
    if rows:
        db.executemany("INSERT INTO events VALUES (?, ?)", rows)
    if sources:
        db.executemany("INSERT INTO sources VALUES (?, ?, ?)", sources)
    return published


def replay(db: sqlite3.Connection, since: int, limit: int, matches: Matches | None = None) -> Page:
    """Up to ``limit`` events after ``since`` that match. With a filter, a bounded piece of the log is looked at."""
    found: list[Published] = []
    scanned = since
    for _ in range(_PAGES):
        rows = db.execute("SELECT seq, frame FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (scanned, _PAGE)).fetchall()
        for seq, frame in rows:
            body = cbor2.loads(frame)
            scanned = seq
            if matches is None or matches(body):
                found.append(Published(Envelope(**body), frame))
                if len(found) >= limit:
                    return Page(tuple(found), scanned, last_seq(db), oldest_seq(db))
        if len(rows) < _PAGE:
            break
    return Page(tuple(found), scanned, last_seq(db), oldest_seq(db))


def trim(db: sqlite3.Connection, keep: int, last: int, most: int) -> int:
    """Remove up to ``most`` of the events beyond the newest ``keep``; returns how many."""
    bound = last - keep
    if bound <= 0:
        return 0
    doomed = "SELECT seq FROM events WHERE seq <= ? ORDER BY seq LIMIT ?"
    return db.execute(f"DELETE FROM events WHERE seq IN ({doomed})", (bound, most)).rowcount  # noqa: S608 - no input


def _known(db: sqlite3.Connection, source: tuple[str, int] | None) -> Published | None:
    if source is None:
        return None
    row = db.execute("SELECT seq FROM sources WHERE incarnation = ? AND n = ?", source).fetchone()
    if row is None:
        return None
    kept = db.execute("SELECT frame FROM events WHERE seq = ?", row).fetchone()
    if kept is None:  # trimmed since: that it was told is all that matters
        return Published(Envelope(row[0], 0, "", "", "", {}), b"", repeated=True)
    return Published(Envelope(**cbor2.loads(kept[0])), kept[0], repeated=True)


def _published(seq: int, event: NewEvent) -> Published:
    envelope = Envelope(seq, event.timestamp, event.namespace, event.topic, event.type, event.event)
    body = {
        "seq": seq,
        "timestamp": event.timestamp,
        "namespace": event.namespace,
        "topic": event.topic,
        "type": event.type,
        "event": event.event,
    }
    return Published(envelope, cbor2.dumps(body))
