"""What both state machines share: a state refuses every request that it does not override.

A state is a class; a request is a method of it that returns the class of the next state, or raises. States hold nothing
and do nothing: the owner asks its state, keeps the answer, and then does the deed. So the whole table can be read off
the classes (``table``), by tests and by the README's diagram.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NoReturn

from shimproc.errors import FailedPrecondition, NotFound, ShimyardError


class State:
    """One state of a task or process."""

    name: ClassVar[str]
    noun: ClassVar[str] = "task"

    def refuse(self, verb: str, remedy: str = "") -> NoReturn:
        """``FailedPrecondition`` that says request and state, and what would help."""
        article = "an" if self.name[0] in "aeiou" else "a"
        what = f"cannot {verb} {article} {self.name} {self.noun}" + (f"; {remedy}" if remedy else "")
        raise FailedPrecondition(what, {"state": self.name, "request": verb})

    def over(self) -> NoReturn:
        """``NotFound``: there is no process any more."""
        raise NotFound(f"the {self.noun} has already exited", {"state": self.name})


def table(states: Iterable[type[State]], requests: Iterable[str]) -> dict[tuple[str, str], str]:
    """(state, request) -> the next state's name, or the code of the error that refuses."""
    result: dict[tuple[str, str], str] = {}
    for state in states:
        for request in requests:
            try:
                result[state.name, request] = getattr(state(), request)().name
            except ShimyardError as error:
                result[state.name, request] = error.code
    return result
