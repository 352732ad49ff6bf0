"""A task's row: it goes with its shim's events, and never back."""

from __future__ import annotations

import itertools

import pytest

from actors.store.tasks import TaskRow
from actors.task.events import advanced
from shimproc.messages import Created, Deleted, Exited, Message, Started, StartFailed

ROW = TaskRow("n", "t", "i", "/b", "creating", {}, {}, 1)
LIVES: list[list[Message]] = [
    [Created(1, 7), Started(2, 7), Exited(3, 7, 4), Deleted(5, 7, 4, 3)],
    [Created(1, 7), StartFailed(2, 7, 127), Deleted(5, 7, 127, 2)],
]


def told(row: TaskRow, events: list[Message]) -> TaskRow:
    """The row after these."""
    for event in events:
        row = advanced(row, event, 9)
    return row


@pytest.mark.parametrize("life", LIVES)
def test_each_event_takes_it_one_phase_on(life: list[Message]) -> None:
    phases = [told(ROW, life[:count]).phase for count in range(len(life) + 1)]
    assert len(set(phases)) == len(phases)


@pytest.mark.parametrize("life", LIVES)
def test_what_is_told_again_from_the_beginning_takes_it_nowhere_back(life: list[Message]) -> None:
    for known, again in itertools.product(range(1, len(life) + 1), range(1, len(life) + 1)):
        if again <= known:
            row = told(ROW, life[:known])
            assert told(row, life[:again]) == row
