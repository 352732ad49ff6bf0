from __future__ import annotations

from typing import Any

from actors.messages import Change
from actors.records import Exit
from actors.task.waits import Waits
from shimproc.errors import DeadlineExceeded
from shimproc.flow import Pending

EXIT = Exit("web", 5, 137, 1)


class Asked:
    """A reply whose client may stop waiting."""

    key = ""

    def __init__(self) -> None:
        self.open = True
        self.answers: list[Any] = []

    def ok(self, result: Any) -> None:
        self.answers.append(result)

    def fail(self, error: BaseException) -> None:
        self.answers.append(error)

    def kept(self, _: Any) -> tuple[Change, ...]:
        return ()

    def stream(self, *_: object) -> Any:
        raise NotImplementedError


def test_every_wait_is_answered_with_the_exit_and_one_that_comes_later_at_once() -> None:
    waits, ended = Waits(), Pending[Exit]()
    asked = [Asked() for _ in range(200)]
    for one in asked:
        waits.add(ended, one)
    assert len(waits) == 200
    ended.set(EXIT)
    late = Asked()
    waits.add(ended, late)
    assert [one.answers for one in [*asked, late]] == [[EXIT]] * 201
    assert len(waits) == 0


def test_waits_that_nobody_waits_for_any_more_do_not_add_up() -> None:
    waits, ended = Waits(), Pending[Exit]()
    patient = Asked()
    waits.add(ended, patient)
    most = 0
    for _ in range(10_000):
        asked = Asked()
        waits.add(ended, asked)
        asked.open = False
        most = max(most, len(waits))
    assert most < 100
    assert [type(answer) for answer in asked.answers] in ([], [DeadlineExceeded])
    ended.set(EXIT)
    assert patient.answers == [EXIT]
