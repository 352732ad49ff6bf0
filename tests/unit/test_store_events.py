from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cbor2
import pytest

from actors.messages import NewEvent, Published
from actors.records import Envelope
from actors.store import events
from actors.store.database import open_database
from actors.store.events import MEMORY, PAGE_BYTES, SCAN_ROWS, ForgetSource, Page, append, bounds, replay, trim
from shimproc.errors import InvalidArgument
from tests.support.stores import event


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "db")
    yield connection
    connection.close()


def add(db: sqlite3.Connection, *new: NewEvent) -> list[Published]:
    return append(db, bounds(db)[0], new)


def seqs(page: Page) -> list[int]:
    return [published.envelope.seq for published in page.events]


def is_tenth(body: Mapping[str, Any]) -> bool:
    return bool(body["event"]["number"] % 10 == 0)


def test_an_empty_log_begins_before_the_first_number(db: sqlite3.Connection) -> None:
    assert bounds(db) == (0, 1)
    assert replay(db, 0, 10) == Page((), 0, 0, 1)


def test_the_frame_is_the_envelope_of_the_wire(db: sqlite3.Connection) -> None:
    (published,) = add(db, NewEvent("space", "/builds/done", "UserEvent", {"a": [1, None, b"x"]}, 5))
    assert published.envelope == Envelope(1, 5, "space", "/builds/done", "UserEvent", {"a": [1, None, b"x"]})
    body = cbor2.loads(published.frame)
    assert list(body) == ["seq", "timestamp", "namespace", "topic", "type", "event"]
    assert Envelope(**body) == published.envelope


def test_replay_gives_back_what_was_published(db: sqlite3.Connection) -> None:
    published = add(db, *(event(n, text="é", data=bytes(range(256))) for n in range(7)))
    assert replay(db, 0, 100).events == tuple(published)
    assert replay(db, 2, 3) == Page(tuple(published[2:5]), 5, 7, 1)


def test_pages_read_one_after_the_other_miss_nothing_and_repeat_nothing(db: sqlite3.Connection) -> None:
    total = 2 * SCAN_ROWS + 345
    add(db, *(event(n) for n in range(total)))
    found: list[int] = []
    page = replay(db, 0, 10_000)
    while page.events:
        found += seqs(page)
        page = replay(db, page.scanned, 10_000)
    assert found == list(range(1, total + 1))
    assert page.scanned == page.last_seq == total


def test_a_filtered_page_looks_at_a_bounded_piece_and_says_how_far(db: sqlite3.Connection) -> None:
    add(db, *(event(n) for n in range(1, SCAN_ROWS + 501)))
    first = replay(db, 0, 10_000, is_tenth)
    assert (len(first.events), first.scanned) == (SCAN_ROWS // 10, SCAN_ROWS)
    second = replay(db, first.scanned, 10_000, is_tenth)
    assert (len(second.events), second.scanned) == (50, SCAN_ROWS + 500)
    none = replay(db, 0, 5, lambda _: False)
    assert (none.events, none.scanned) == ((), SCAN_ROWS)
    few = replay(db, 0, 3, is_tenth)
    assert (seqs(few), few.scanned) == ([10, 20, 30], 30)


def test_a_page_of_large_events_is_bounded_in_bytes_and_never_empty(db: sqlite3.Connection) -> None:
    add(db, *(event(n, filler=bytes(PAGE_BYTES // 3)) for n in range(6)), event(7, filler=bytes(PAGE_BYTES + 1)))
    assert seqs(replay(db, 0, 100)) == [1, 2, 3]
    assert seqs(replay(db, 3, 100)) == [4, 5, 6]
    assert seqs(replay(db, 6, 100)) == [7]


def test_replay_from_before_the_oldest_begins_at_the_oldest(db: sqlite3.Connection) -> None:
    add(db, *(event(n) for n in range(10)))
    trim(db, 6)
    page = replay(db, 0, 2)
    assert (seqs(page), page.oldest_seq, page.last_seq) == ([6, 7], 6, 10)
    trim(db, 11)
    assert replay(db, 0, 2) == Page((), 10, 10, 11)


@pytest.mark.parametrize("since", [10, 11, 10**15])
def test_replay_from_the_end_or_beyond_is_empty(db: sqlite3.Connection, since: int) -> None:
    add(db, *(event(n) for n in range(10)))
    assert replay(db, since, 5) == Page((), since, 10, 1)


def test_a_limit_below_one_is_refused(db: sqlite3.Connection) -> None:
    with pytest.raises(InvalidArgument, match="limit"):
        replay(db, 0, 0)


def test_an_event_told_twice_at_once_counts_once(db: sqlite3.Connection) -> None:
    first, again, other = add(db, event(1, ("i", 1)), event(1, ("i", 1)), event(1, ("j", 1)))
    assert (again.envelope, again.repeated) == (first.envelope, True)
    assert (other.envelope.seq, other.repeated) == (2, False)
    assert bounds(db) == (2, 1)


def test_events_of_many_sources_are_told_apart(db: sqlite3.Connection) -> None:
    new = [event(n, (f"i{n % 30}", n // 30)) for n in range(300)]
    assert [published.envelope.seq for published in add(db, *new)] == list(range(1, 301))
    again = add(db, *reversed(new), event(0, ("i0", 99)))
    assert [published.envelope.seq for published in again] == [*range(300, 0, -1), 301]
    assert [published.repeated for published in again] == [True] * 300 + [False]


def test_a_late_event_of_a_source_is_not_taken_for_a_repeated_one(db: sqlite3.Connection) -> None:
    add(db, event(1, ("i", 1)), event(3, ("i", 3)))
    (late,) = add(db, event(2, ("i", 2)))
    assert (late.envelope.seq, late.repeated) == (3, False)


def test_a_repeated_event_whose_row_was_trimmed_is_still_known(db: sqlite3.Connection) -> None:
    (first,) = add(db, event(1, ("i", 1)))
    trim(db, 2)
    (again,) = add(db, event(1, ("i", 1)))
    assert (again.envelope, again.frame, again.repeated) == (first.envelope, first.frame, True)
    assert bounds(db) == (1, 2)


def test_what_is_remembered_of_a_source_is_bounded_and_what_is_older_counts_as_told(db: sqlite3.Connection) -> None:
    total = 4 * MEMORY
    for n in range(1, total + 1):
        add(db, event(n, ("i", n)))
    (rows,) = db.execute("SELECT count(*) FROM sources").fetchone()
    assert MEMORY <= rows <= 2 * MEMORY
    (recent, ancient) = add(db, event(0, ("i", total - MEMORY + 1)), event(0, ("i", 1)))
    assert (recent.envelope.seq, recent.repeated) == (total - MEMORY + 1, True)
    assert (ancient.envelope.seq, ancient.repeated) == (0, True)
    assert bounds(db) == (total, 1)


def test_nothing_is_left_of_a_source_that_is_forgotten(db: sqlite3.Connection) -> None:
    add(db, event(1, ("i", 1)), event(2, ("i", 2)), event(1, ("j", 1)))
    ForgetSource("i").apply(db)
    assert db.execute("SELECT incarnation, n FROM sources").fetchall() == [("j", 1)]


def test_an_event_that_is_no_plain_data_is_refused_by_its_topic(db: sqlite3.Connection) -> None:
    with pytest.raises(InvalidArgument, match="/tests/told"):
        add(db, event(1, odd=object()))


def test_the_last_number_survives_its_rows(db: sqlite3.Connection) -> None:
    add(db, *(event(n) for n in range(5)))
    trim(db, 6)
    assert bounds(db) == (5, 6)


def test_a_page_is_read_in_one_step_and_found_by_its_key(db: sqlite3.Connection) -> None:
    plan = " ".join(
        str(row[3])
        for row in db.execute(f"EXPLAIN QUERY PLAN {events._SELECT_PAGE}", {"since": 1, "rows": 5, "bytes": 9})
    )
    assert "SCAN events" not in plan
    assert plan.count("SEARCH events USING INTEGER PRIMARY KEY") == 2
