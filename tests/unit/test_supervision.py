"""When a task is started again, and what probes make of its health: decided from facts alone."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from actors.records import Container, Health, Restart
from actors.store.database import open_database
from actors.store.supervision import DropSupervision, PutSupervision, load_supervision
from actors.supervision.health import Condition, Probe, judged
from actors.supervision.policy import delay, is_followed, policy_of

ARGS = ("/bin/true",)


@pytest.mark.parametrize(
    ("restart", "status", "restarts", "again"),
    [
        (Restart("always"), 0, 1000, True),
        (Restart("always"), 1, 0, True),
        (Restart("unless-stopped"), 0, 3, True),
        (Restart("on-failure"), 0, 0, False),
        (Restart("on-failure"), 1, 1000, True),
        (Restart("on-failure", max_retries=2), 137, 1, True),
        (Restart("on-failure", max_retries=2), 137, 2, False),
        (Restart("always", max_retries=1), 0, 1, False),
    ],
)
def test_a_policy_is_followed(restart: Restart, status: int, restarts: int, *, again: bool) -> None:
    assert is_followed(restart, status, restarts) is again


@pytest.mark.parametrize("restart", [None, Restart("no")])
def test_no_policy_is_none(restart: Restart | None) -> None:
    assert policy_of(Container("c", "space", {}, restart=restart)) is None


def test_each_delay_is_twice_the_one_before_up_to_a_minute() -> None:
    assert [delay(Restart("always"), streak) for streak in range(5)] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delay(Restart("always"), 10_000) == 60.0


def test_a_first_delay_above_a_minute_stays_as_it_is() -> None:
    assert [delay(Restart("always", backoff=300.0), streak) for streak in (0, 9)] == [300.0, 300.0]
    assert delay(Restart("always", backoff=0.0), 7) == 0.0


def through(*statuses: int | None, health: Health, starting: bool = False) -> list[str]:
    """The health after each of these probes."""
    condition, seen = Condition(), []
    for at, status in enumerate(statuses):
        condition = judged(condition, health, Probe(at, status), starting=starting)
        seen.append(condition.status)
    return seen


def test_health_comes_with_the_first_success_and_goes_with_so_many_failures_in_a_row() -> None:
    health = Health(ARGS, retries=2)
    seen = through(0, 1, 0, 1, None, 1, 0, health=health)
    assert seen == ["healthy", "healthy", "healthy", "healthy", "unhealthy", "unhealthy", "healthy"]


def test_a_task_that_never_was_healthy_is_starting_until_it_has_failed_so_often() -> None:
    assert through(1, 1, 1, health=Health(ARGS)) == ["starting", "starting", "unhealthy"]


def test_failures_of_the_start_period_do_not_count_until_it_was_healthy_once() -> None:
    health = Health(ARGS, retries=1)
    assert through(1, 1, 1, health=health, starting=True) == ["starting"] * 3
    assert through(1, 0, 1, health=health, starting=True) == ["starting", "healthy", "unhealthy"]


def test_what_is_resolved_comes_back_from_the_disk_until_it_is_dropped(tmp_path: Path) -> None:
    with contextlib.closing(open_database(tmp_path / "db")) as db:
        PutSupervision("space", "a", {"wanted": True}).apply(db)
        PutSupervision("space", "a", {"wanted": False}).apply(db)
        PutSupervision("space", "b", {"wanted": True}).apply(db)
        DropSupervision("space", "b").apply(db)
    with contextlib.closing(open_database(tmp_path / "db")) as db:
        assert load_supervision(db) == {("space", "a"): {"wanted": False}}
