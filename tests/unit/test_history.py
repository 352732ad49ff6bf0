"""Which of a task's past events still matter."""

from __future__ import annotations

from typing import Any

import pytest

from shimproc.messages import Created, Deleted, ExecAdded, Exited, Message, Oom, Paused, Resumed, Started, event_map
from shimproc.process.history import needed

CREATED, STARTED, EXITED = Created(1, 5), Started(2, 5), Exited(9, 5, 0)


def exec_events(name: str) -> list[Message]:
    """An exec's whole life."""
    return [ExecAdded(3, name, "/bin/true", {}, {}), Started(4, 6, name), Exited(5, 6, 0, name), Deleted(6, 6, 0, 5, name)]


@pytest.mark.parametrize(
    ("events", "numbers"),
    [
        ([CREATED, STARTED, EXITED], {1, 2, 3}),
        ([CREATED, STARTED, *exec_events("a")], {1, 2}),
        ([CREATED, STARTED, *exec_events("a")[:3], *exec_events("b")], {1, 2, 3, 4, 5}),
        ([CREATED, *exec_events("a"), *exec_events("a")[:2]], {1, 6, 7}),
        ([CREATED, STARTED, Paused(3), Resumed(4), Paused(5)], {1, 2, 5}),
        ([CREATED, STARTED, Oom(3, 1), Paused(4), Oom(5, 2)], {1, 2, 4, 5}),
        ([], set()),
    ],
    ids=["init", "an exec that is deleted", "one that is not", "its id again", "pauses", "kills", "nothing"],
)
def test_what_matters_is_init_and_the_execs_that_are_there(events: list[Message], numbers: set[int]) -> None:
    records: list[tuple[int, dict[str, Any]]] = [(n, event_map(event)) for n, event in enumerate(events, 1)]
    assert needed(records) == numbers
