"""The durable log of events: numbered, appended, read again, trimmed. Plain functions on the store's connection.

A row is the frame of API.md section 5, encoded once: the CBOR map ``{seq, timestamp, namespace, topic, type, event}``.
``seq`` is one unbroken run; SQLite's AUTOINCREMENT keeps the last one, also when no row is left
(https://sqlite.org/autoinc.html). An event with a source ``(incarnation, n)`` is recorded once: ``sources`` knows the
last ``MEMORY`` numbers of each incarnation exactly, and takes what is older for told.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import cbor2

from actors.messages import NewEvent, Published
from actors.records import Envelope
from actors.store.statements import Row, RowChange, Statement, split
from shimproc.errors import InvalidArgument

MEMORY = 1024
SCAN_ROWS = 1000
PAGE_BYTES = 4 << 20
_FORGET_EVERY = 256

_INSERT_EVENTS = Statement("events", "INSERT INTO events (seq, frame) VALUES ", "(?,?)")
_INSERT_SOURCES = Statement("sources", "INSERT INTO sources (incarnation, n, seq) VALUES ", "(?,?,?)")
_FORGET_OLD = "DELETE FROM sources WHERE incarnation = ? AND n <= ?"
_SELECT_FRAME = "SELECT frame FROM events WHERE seq = ?"
_SELECT_BOUNDS = """SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'events'), (SELECT min(seq) FROM events)"""
_SELECT_TOLD = f"""WITH asked (incarnation, n) AS (VALUES %s)
    SELECT a.incarnation, a.n, CASE WHEN s.n = a.n THEN s.seq ELSE 0 END
    FROM asked a CROSS JOIN sources s ON s.incarnation = a.incarnation AND s.n >= a.n
    WHERE s.n = a.n OR s.n >= a.n + {MEMORY}"""  # noqa: S608 - a number of ours, and placeholders
_SELECT_TOLD_BY = """SELECT s.n, e.frame FROM sources s LEFT JOIN events e ON e.seq = s.seq
    WHERE s.incarnation = ? ORDER BY s.n"""
_SELECT_PAGE = """SELECT group_concat(hex(frame)) FROM events WHERE seq > :since AND seq <= (
    SELECT max(seq) FROM (
        SELECT seq, sum(size) OVER (ORDER BY seq) - size AS before FROM (
            SELECT seq, length(frame) AS size FROM events WHERE seq > :since ORDER BY seq LIMIT :rows))
    WHERE before < :bytes)"""

Source = tuple[str, int]
Matches = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of the log.

    Parameters
    ----------
    events : those that match, in order.
    scanned : the last number looked at, matching or not: where the next page begins.
    last_seq, oldest_seq : the log's bounds; there is more to read while ``scanned < last_seq``.
    """

    events: tuple[Published, ...]
    scanned: int
    last_seq: int
    oldest_seq: int


@dataclass(frozen=True, slots=True)
class ForgetSource(RowChange):
    """An incarnation is gone and will tell nothing any more."""

    incarnation: str
    statement: ClassVar[Statement] = Statement(
        "sources", "DELETE FROM sources WHERE incarnation IN (VALUES ", "(?)", ")"
    )

    def columns(self) -> Row:
        """Its columns."""
        return (self.incarnation,)


def bounds(db: sqlite3.Connection) -> tuple[int, int]:
    """``(last_seq, oldest_seq)``: the last number ever given, and the oldest event that is kept.

    Without any event kept, ``oldest_seq`` is ``last_seq + 1``.
    """
    last, oldest = db.execute(_SELECT_BOUNDS).fetchone()
    last = last or 0
    return last, last + 1 if oldest is None else oldest


def append(db: sqlite3.Connection, last_seq: int, events: Sequence[NewEvent]) -> list[Published]:
    """Record ``events`` in the caller's transaction, numbered from ``last_seq + 1``; what was told before is not again.

    A repeated event comes back as it was recorded. If its row was trimmed since, it comes back as it was told now, with
    the number it had, or 0 where that is forgotten, too. ``InvalidArgument`` for an event that CBOR cannot hold.
    """
    told = _told(db, [event.source for event in events if event.source is not None])
    published: list[Published] = []
    rows: list[Row] = []
    sources: list[Row] = []
    fresh: dict[int, Published] = {}
    for event in events:
        seq = None if event.source is None else told.get(event.source)
        if seq is not None:
            published.append(_again(db, seq, event, fresh))
            continue
        last_seq += 1
        if event.source is not None:
            told[event.source] = last_seq
            sources.append((*event.source, last_seq))
        made = fresh[last_seq] = _encode(last_seq, event)
        rows.append((last_seq, made.frame))
        published.append(made)
    _INSERT_EVENTS.run(db, rows)
    _INSERT_SOURCES.run(db, sources)
    for incarnation, n, _ in sources:
        if n % _FORGET_EVERY == 0 and n > MEMORY:
            db.execute(_FORGET_OLD, (incarnation, n - MEMORY))
    return published


def replay(db: sqlite3.Connection, since: int, limit: int, matches: Matches | None = None) -> Page:
    """The events after ``since`` that match; bounded, so that no scan of the whole log holds up the commits.

    A page ends after ``limit`` events, ``PAGE_BYTES`` of them, or ``SCAN_ROWS`` rows looked at; the next one begins at
    its ``scanned``. ``matches`` is given an envelope's map. ``InvalidArgument`` for a limit below 1.
    """
    if limit < 1:
        raise InvalidArgument(f"limit: {limit} is too few; ask for 1 or more")
    found: list[Published] = []
    last_seq, oldest_seq = bounds(db)
    scanned = max(since, oldest_seq - 1)
    for frame in _page(db, scanned, SCAN_ROWS if matches else min(SCAN_ROWS, limit)):
        body = cbor2.loads(frame)
        scanned = body["seq"]
        if matches is None or matches(body):
            found.append(Published(Envelope(**body), frame))
            if len(found) >= limit:
                break
    return Page(tuple(found), scanned, last_seq, oldest_seq)


def last_told(db: sqlite3.Connection, incarnation: str) -> int:
    """The number of the last event that an incarnation has told; 0 for none that is remembered."""
    (last,) = db.execute("SELECT max(n) FROM sources WHERE incarnation = ?", (incarnation,)).fetchone()
    return int(last or 0)


def told_by(db: sqlite3.Connection, incarnation: str) -> list[tuple[int, Mapping[str, Any]]]:
    """What an incarnation has told, as far as it is remembered: by its own numbers, the envelopes; empty where trimmed."""
    rows = db.execute(_SELECT_TOLD_BY, (incarnation,)).fetchall()
    return [(n, {} if frame is None else cbor2.loads(frame)) for n, frame in rows]


def trim(db: sqlite3.Connection, before: int) -> None:
    """Remove the events that are older than ``before``."""
    db.execute("DELETE FROM events WHERE seq < ?", (before,))


def _page(db: sqlite3.Connection, since: int, rows: int) -> Iterator[bytes]:
    """The frames after ``since``, bounded; in one step of one statement (``actors.store.statements`` says why)."""
    (joined,) = db.execute(_SELECT_PAGE, {"since": since, "rows": rows, "bytes": PAGE_BYTES}).fetchone()
    return map(bytes.fromhex, joined.split(",")) if joined else iter(())


def _told(db: sqlite3.Connection, sources: Sequence[Source]) -> dict[Source, int]:
    """Which of ``sources`` were recorded before, with their numbers."""
    told: dict[Source, int] = {}
    for part in split(sources):
        text = _told_text(len(part))
        for incarnation, n, seq in db.execute(text, tuple(chain.from_iterable(part))).fetchall():
            told[incarnation, n] = max(seq, told.get((incarnation, n), 0))
    return told


@functools.cache
def _told_text(count: int) -> str:
    return _SELECT_TOLD % ",".join(["(?,?)"] * count)


def _again(db: sqlite3.Connection, seq: int, event: NewEvent, fresh: Mapping[int, Published]) -> Published:
    if seq in fresh:  # told twice within one group: its row is not there yet
        return Published(fresh[seq].envelope, fresh[seq].frame, repeated=True)
    row = db.execute(_SELECT_FRAME, (seq,)).fetchone()
    if row is None:
        made = _encode(seq, event)
        return Published(made.envelope, made.frame, repeated=True)
    return Published(Envelope(**cbor2.loads(row[0])), row[0], repeated=True)


def _encode(seq: int, event: NewEvent) -> Published:
    body: dict[str, Any] = {
        "seq": seq,
        "timestamp": event.timestamp,
        "namespace": event.namespace,
        "topic": event.topic,
        "type": event.type,
        "event": event.event,
    }
    try:
        frame = cbor2.dumps(body)
    except (cbor2.CBOREncodeError, TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"event: {event.topic} is no plain data: {error}") from error
    return Published(Envelope(**body), frame)
