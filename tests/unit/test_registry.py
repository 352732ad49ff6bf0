from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from actors.records import Runtime, Stdio, Task
from actors.registry import Registry
from shimproc.errors import AlreadyExists, NotFound


class Idle(pykka.ThreadingActor):
    """Answers with what it is told."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


@pytest.fixture
def refs() -> Iterator[list[pykka.ActorRef[Any]]]:
    started: list[pykka.ActorRef[Any]] = [Idle.start(), Idle.start()]
    yield started
    for ref in started:
        ref.stop()


@pytest.fixture
def registry() -> Registry:
    return Registry()


def task(name: str = "web", namespace: str = "space", status: str = "created") -> Task:
    return Task(name, namespace, status, 5, None, None, 1, None, Stdio(), "/bundle", Runtime("process"), 6)


def shown(registry: Registry, *tasks: Task) -> None:
    """Each with a place in which it shows itself."""
    for one in tasks:
        registry.reserve(one.namespace, one.id).task = one


def test_a_new_registry_has_nothing(registry: Registry) -> None:
    assert (len(registry), registry.refs(), registry.all("space")) == (0, [], [])
    assert registry.find("space", "web") is None


def test_a_reserved_place_is_taken_but_shows_nothing_yet(registry: Registry) -> None:
    entry = registry.reserve("space", "web")
    assert registry.has("space", "web")
    assert registry.find("space", "web") is entry
    assert (len(registry), registry.refs(), registry.all("space")) == (1, [], [])
    for ask in (registry.ref, registry.get):
        with pytest.raises(NotFound, match="no task web in namespace space"):
            ask("space", "web")


def test_a_second_task_of_one_id_is_refused_and_the_first_untouched(registry: Registry) -> None:
    entry = registry.reserve("space", "web")
    entry.task = task()
    with pytest.raises(AlreadyExists, match="the task web exists already in namespace space"):
        registry.reserve("space", "web")
    assert registry.find("space", "web") is entry
    assert registry.get("space", "web") == task()


def test_what_a_task_last_showed_is_what_is_seen(registry: Registry) -> None:
    entry = registry.reserve("space", "web")
    entry.task = task()
    entry.task = task(status="running")
    assert registry.get("space", "web").status == "running"
    assert registry.all("space") == [task(status="running")]


def test_tasks_of_one_id_in_two_namespaces_are_two(registry: Registry) -> None:
    shown(registry, task(), task("web", "other"), task("db"))
    assert len(registry) == 3
    assert registry.get("other", "web").namespace == "other"
    assert [one.id for one in registry.all("space")] == ["web", "db"]
    registry.remove("space", "web")
    assert registry.all("space") == [task("db")]
    assert registry.get("other", "web") == task("web", "other")


def test_what_is_not_there_is_not_found(registry: Registry) -> None:
    shown(registry, task())
    assert not registry.has("other", "web")
    for ask in (registry.ref, registry.get):
        with pytest.raises(NotFound, match="no task web in namespace other"):
            ask("other", "web")


def test_a_removed_place_is_free_again(registry: Registry) -> None:
    shown(registry, task())
    registry.remove("space", "web")
    registry.remove("space", "web")
    assert not registry.has("space", "web")
    assert registry.reserve("space", "web").task is None


def test_every_actor_is_found_by_its_place_and_with_all_others(registry: Registry, refs: list[pykka.ActorRef[Any]]) -> None:
    registry.reserve("space", "web").ref = refs[0]
    registry.reserve("other", "web").ref = refs[1]
    registry.reserve("space", "on-its-way")
    assert registry.ref("space", "web") is refs[0]
    assert registry.ref("other", "web") is refs[1]
    assert registry.refs() == refs


def test_an_actor_that_has_shown_nothing_can_be_told_something_all_the_same(
    registry: Registry, refs: list[pykka.ActorRef[Any]]
) -> None:
    registry.reserve("space", "web").ref = refs[0]
    assert registry.ref("space", "web").ask("hello", timeout=20) == "hello"
    with pytest.raises(NotFound):
        registry.get("space", "web")
