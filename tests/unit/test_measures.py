"""What is counted where it arises: durations in buckets, answers by method and code."""

from __future__ import annotations

from typing import Any

import pytest

from actors.api.metered import MeteredReply
from actors.api.requests import Request
from actors.measures import Histogram, Meter
from actors.methods import METHODS
from actors.params import PARAMS
from shimproc.errors import NotFound


def test_each_bucket_counts_what_is_no_more_than_its_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    found = histogram.distribution()
    assert found.buckets == ((1.0, 2), (2.0, 4), (float("inf"), 5))
    assert found.total == 104.0


class Told:
    """A reply that remembers."""

    key = ""
    open = True

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def ok(self, result: Any) -> None:
        """Remember it."""
        self.answers.append(result)

    fail = ok

    def kept(self, result: Any) -> tuple[Any, ...]:
        """Something."""
        return ("kept", result)

    def stream(self, *_: Any, **__: Any) -> Any:
        """Something else."""
        return "stream"


def metered(meter: Meter, method: str, **params: Any) -> tuple[MeteredReply, Told]:
    """A reply to a request that came at 0, and what it hands on to."""
    told = Told()
    request = Request(1, method, METHODS[method], "n", PARAMS[method](**params), params, None, None)
    return MeteredReply(told, meter, request, 0.0), told


def test_an_answer_is_handed_on_and_counted_once() -> None:
    meter = Meter()
    reply, told = metered(meter, "tasks.start", id="a")
    assert list(reply.kept(3)) == ["kept", 3]
    assert reply.open
    reply.ok({"pid": 7})
    reply.fail(NotFound("late"))
    assert told.answers[0] == {"pid": 7}
    assert meter.answers() == {("tasks.start", "ok"): 1}
    assert meter.durations()["tasks.start"].buckets[-1][1] == 1
    assert meter.durations()["tasks.start"].total > 0


@pytest.mark.parametrize(("error", "code"), [(NotFound("gone"), "not_found"), (RuntimeError("bug"), "internal")])
def test_a_failure_is_counted_by_its_code(error: Exception, code: str) -> None:
    meter = Meter()
    reply, told = metered(meter, "tasks.kill", id="a", signal=9)
    reply.fail(error)
    assert told.answers == [error]
    assert meter.answers() == {("tasks.kill", code): 1}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tasks.wait", {"id": "a"}),
        ("tasks.stop", {"id": "a"}),
        ("tasks.run", {"id": "a", "spec": {}, "wait": True}),
        ("events.watch", {}),
    ],
)
def test_what_takes_as_long_as_a_task_or_client_wants_is_not_timed(method: str, params: dict[str, Any]) -> None:
    meter = Meter()
    reply, _ = metered(meter, method, **params)
    if METHODS[method].streams:
        assert str(reply.stream(None, lambda: None, lambda: None)) == "stream"
    else:
        reply.ok({})
    assert meter.answers() == {(method, "ok"): 1}
    assert meter.durations() == {}
