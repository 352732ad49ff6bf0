"""Coroutines on results that come once."""

from __future__ import annotations

import pytest

from shimproc.flow import Pending, done, spawn, start


def test_a_flow_goes_on_as_soon_as_what_it_awaits_is_there() -> None:
    first: Pending[int] = Pending()
    second: Pending[int] = Pending()

    async def add() -> int:
        return await first + await second

    outcome = start(add())
    first.set(1)
    assert not outcome.done
    second.set(2)
    assert outcome.result() == 3


def test_a_result_that_is_there_already_does_not_suspend() -> None:
    async def flow() -> str:
        return await done("now")

    assert start(flow()).result() == "now"


def test_a_failure_is_raised_where_it_is_awaited() -> None:
    pending: Pending[int] = Pending()

    async def flow() -> str:
        try:
            await pending
        except ValueError as error:
            return f"caught {error}"
        return "not raised"

    outcome = start(flow())
    pending.fail(ValueError("it"))
    assert outcome.result() == "caught it"


def test_an_exception_of_the_flow_is_its_outcome() -> None:
    async def flow() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        start(flow()).result()


def test_only_the_first_outcome_counts() -> None:
    pending: Pending[int] = Pending()
    pending.set(1)
    pending.fail(ValueError())
    pending.set(2)
    assert pending.result() == 1


def test_a_waiter_that_fails_does_not_cost_the_others_their_result(caplog: pytest.LogCaptureFixture) -> None:
    pending: Pending[int] = Pending()
    got: list[int] = []
    pending.then(lambda _: 1 / 0)  # type: ignore[arg-type]
    pending.then(lambda outcome: got.append(outcome.result()))
    pending.set(7)
    assert got == [7]
    assert "ZeroDivisionError" in caplog.text


def test_a_spawned_flow_that_fails_is_logged_with_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    async def flow() -> None:
        raise RuntimeError("no")

    spawn(flow(), "the deed")
    assert "the deed failed" in caplog.text
