"""Streams that survive a lost connection: nothing twice, nothing left out, and an end where there is one."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from actors.client.cursors import CREDIT, EventCursor, EventsLost, LogCursor, Reading
from actors.client.protocol import Session
from shimproc.errors import NotFound, ResourceExhausted


def event(seq: int) -> dict[str, Any]:
    return {"seq": seq, "timestamp": 1, "namespace": "a", "topic": "/t", "type": "T", "event": {}}


def piece(timestamp: int, data: bytes) -> dict[str, Any]:
    return {"stream": "stdout", "timestamp": timestamp, "data": data}


def test_events_go_on_after_the_last_one_that_was_given() -> None:
    cursor = EventCursor(4, ["topic==/t"])
    assert cursor.params() == {"since": 4, "filters": ["topic==/t"]}
    assert [taken.seq for taken in map(cursor.take, map(event, (5, 7))) if taken] == [5, 7]
    assert cursor.params()["since"] == 7


def test_an_event_that_comes_again_is_not_given_again() -> None:
    cursor = EventCursor(4, None)
    assert [cursor.take(event(seq)) is not None for seq in (5, 5, 4, 6)] == [True, False, False, True]


def test_a_bookmark_moves_the_place_and_never_back() -> None:
    cursor = EventCursor(4, None)
    assert cursor.take({"last_seq": 100}) is None
    assert cursor.take({"last_seq": 50}) is None
    assert cursor.params()["since"] == 100


def test_events_that_are_gone_are_an_error_of_their_own_and_others_are_raised_as_they_are() -> None:
    cursor = EventCursor(4, None)
    assert cursor.goes_on(None)
    with pytest.raises(EventsLost) as caught:
        cursor.goes_on(NotFound("gone", {"oldest_seq": 9}))
    assert caught.value.oldest_seq == 9
    with pytest.raises(ResourceExhausted):
        cursor.goes_on(ResourceExhausted("too slow"))


def test_a_log_goes_on_within_one_time_stamp() -> None:
    cursor = LogCursor({"id": "a", "tail": 5})
    assert cursor.params() == {"id": "a", "tail": 5}
    first = [cursor.take(piece(at, data)) for at, data in ((1, b"a"), (2, b"b"), (2, b"c"))]
    assert all(first)
    assert cursor.params() == {"id": "a", "tail": None, "since": 2}
    again = [cursor.take(piece(at, data)) for at, data in ((2, b"b"), (2, b"c"), (2, b"d"), (3, b"e"))]
    assert [taken.data for taken in again if taken] == [b"d", b"e"]
    assert not cursor.goes_on(None)


def test_credit_is_given_back_by_halves() -> None:
    session = Session()
    request = session.request("events.watch", None, {"credit": CREDIT}, None)
    reading = Reading(request, EventCursor(0, None))
    for seq in range(1, CREDIT // 2 + 1):
        assert reading.credit_due() is None
        session.receive(cbor2.dumps({"id": request.id, "ok": True, "more": True, "stream": 3, "chunk": event(seq)}))
        assert [taken.seq for taken in reading.take()] == [seq]
    assert reading.credit_due() == {"stream": 3, "n": CREDIT // 2}
    assert reading.credit_due() is None


def test_what_is_unanswered_is_sent_again_with_its_key_and_streams_are_cut() -> None:
    session = Session()
    asked = session.request("tasks.kill", "a", {"id": "x", "signal": 9}, None)
    streams = session.request("events.watch", None, {}, None)
    assert list(session.unanswered()) == [asked]
    assert cbor2.loads(asked.body)["key"] == cbor2.loads(asked.body)["key"] != ""
    assert session.cut_streams() == [streams]
    assert streams.broken
    session.receive(cbor2.dumps({"id": asked.id, "ok": True, "result": {}}))
    assert asked.outcome() == {}
    assert not list(session.unanswered())


def test_each_request_that_changes_something_has_a_key_of_its_own_and_the_others_have_none() -> None:
    session = Session()
    keys = [cbor2.loads(session.request("tasks.start", "a", {"id": "x"}, None).body)["key"] for _ in range(2)]
    assert keys[0] != keys[1]
    assert "key" not in cbor2.loads(session.request("tasks.get", "a", {"id": "x"}, None).body)


def test_an_answer_that_nobody_waits_for_is_passed_over() -> None:
    assert Session().receive(cbor2.dumps({"id": 99, "ok": True, "result": {}})) is None
