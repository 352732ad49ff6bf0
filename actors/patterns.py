"""Regular expressions in linear time, for patterns that strangers write.

Python's ``re`` backtracks: a pattern of thirty characters can hold a thread for ever. containerd's filters are matched
by Go's ``regexp``, which cannot; so this follows it (https://github.com/google/re2/wiki/Syntax): no look-around, no
back-references, ``$`` is the very end, and a text costs its length times the pattern's size at most.
``re``'s own parser reads the pattern; it becomes a nondeterministic automaton, run on all its states at once
(Thompson, 1968). What was once computed is kept, bounded, as a step of the equivalent deterministic one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final

from shimproc.errors import InvalidArgument

MAX_STATES: Final = 500
MAX_TEXT: Final = 4096
"""What comes after so many characters of a text is not looked at."""
_MAX_KEPT: Final = 4096
_MAX_STEPS: Final = 20_000
_MATCHED: Final = frozenset({-1})
_MULTILINE: Final = int(re.MULTILINE)
Test = Callable[[str], bool]
States = frozenset[int]


@dataclass(frozen=True, slots=True)
class Node:
    """A state: takes a character that passes ``test``; or goes on without one, where ``place`` allows it."""

    following: tuple[int, ...]
    test: Test | None = None
    place: tuple[str, bool] | None = None


class Pattern:
    """A compiled pattern. Not for several threads at once."""

    def __init__(self, nodes: list[Node], start: int) -> None:
        self._nodes = nodes
        self._start = start
        self._kept: dict[tuple[States, int, str], States] = {}

    @property
    def size(self) -> int:
        """Its states: a search takes so many steps a character, at most."""
        return len(self._nodes)

    def search(self, text: str) -> bool:
        """Does the pattern match anywhere in ``text``?"""
        states: States = frozenset()
        before = ""
        for char in (*text[:MAX_TEXT], ""):
            key = (states, _kind(before), char)
            after = self._kept.get(key)
            if after is None:
                after = self._step(states, before, char)
                if len(self._kept) >= _MAX_KEPT:
                    self._kept.clear()
                self._kept[key] = after
            if after is _MATCHED:
                return True
            states, before = after, char
        return False

    def _step(self, states: States, before: str, char: str) -> States:
        """From what holds before ``char`` ("": the end) to what holds after it."""
        reached = self._without_a_character((*states, self._start), before, char)
        if 0 in reached:
            return _MATCHED
        found: set[int] = set()
        for number in reached:
            node = self._nodes[number]
            if node.test is not None and char and node.test(char):
                found.update(node.following)
        return frozenset(found)

    def _without_a_character(self, states: Iterable[int], before: str, after: str) -> set[int]:
        waiting, seen = list(states), set(states)
        while waiting:
            node = self._nodes[waiting.pop()]
            if node.test is None and (node.place is None or _holds(*node.place, before, after)):
                fresh = [number for number in node.following if number not in seen]
                seen.update(fresh)
                waiting += fresh
        return seen


def compile_pattern(text: str, field: str) -> Pattern:
    """The pattern in ``text``; ``InvalidArgument`` naming ``field`` and what is not served."""
    try:
        with warnings.catch_warnings():  # a set within a set means what it says, and warns nobody
            warnings.simplefilter("ignore", FutureWarning)
            parsed = parser.parse(text)
        return _Builder(field).build(parsed)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise InvalidArgument(f"{field}: {text[:80]!r} is no regular expression: {error}") from error


class _Builder:
    """From ``re``'s parse to states, from the end to the beginning; state 0 is the match."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._nodes = [Node(())]
        self._steps = 0

    def build(self, parsed: Any) -> Pattern:
        start = self._sequence(parsed, 0, int(parsed.state.flags))
        return Pattern(self._nodes, start)

    def _add(self, node: Node) -> int:
        if len(self._nodes) >= MAX_STATES:
            raise self._refused(f"it has more than {MAX_STATES} states; simplify it")
        self._nodes.append(node)
        return len(self._nodes) - 1

    def _sequence(self, items: Any, then: int, flags: int) -> int:
        for operation, argument in reversed(list(items)):
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise self._refused("it is too long when its repetitions are written out; simplify it")
            then = self._item(operation, argument, then, flags)
        return then

    def _item(self, operation: Any, argument: Any, then: int, flags: int) -> int:
        if operation in (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN):
            return self._add(Node((then,), test=_test(operation, argument, flags)))
        if operation in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            return self._repeated(argument, then, flags)
        if operation is codes.BRANCH:
            return self._add(Node(tuple(self._sequence(part, then, flags) for part in argument[1])))
        if operation is codes.SUBPATTERN:
            _, added, removed, inner = argument
            return self._sequence(inner, then, (flags | added) & ~removed)
        if operation is codes.AT:
            return self._add(Node((then,), place=(str(argument), bool(flags & _MULTILINE))))
        raise self._refused(f"{str(operation).lower().replace('_', ' ')} is not served, as in Go's regexp")

    def _repeated(self, argument: Any, then: int, flags: int) -> int:
        least, most, inner = int(argument[0]), argument[1], argument[2]
        if most == codes.MAXREPEAT:
            again = self._add(Node(()))
            self._nodes[again] = Node((self._sequence(inner, again, flags), then))
            then = again
        else:
            after = then
            for _ in range(int(most) - least):
                self._steps += 1
                then = self._add(Node((self._sequence(inner, then, flags), after)))
        for _ in range(least):
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise self._refused("it repeats too often; simplify it")
            then = self._sequence(inner, then, flags)
        return then

    def _refused(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"{self._field}: the regular expression cannot be taken: {why}")


def _test(operation: Any, argument: Any, flags: int) -> Test:
    if operation is codes.ANY:
        return (lambda _: True) if flags & re.DOTALL else (lambda char: char != "\n")
    items = list(argument) if operation is codes.IN else [(codes.LITERAL, argument)]
    negated = operation is codes.NOT_LITERAL or items[0][0] is codes.NEGATE
    tests = [_member(kind, value, flags) for kind, value in items if kind is not codes.NEGATE]
    folded = bool(flags & re.IGNORECASE)

    def test(char: str) -> bool:
        forms = (char, char.lower(), char.upper()) if folded else (char,)
        return any(one(form) for one in tests for form in forms) is not negated

    return test


def _member(kind: Any, value: Any, flags: int) -> Test:
    if kind is codes.LITERAL:
        return lambda char: char == chr(value)
    if kind is codes.RANGE:
        first, last = chr(value[0]), chr(value[1])
        return lambda char: len(char) == 1 and first <= char <= last
    name = str(value).removeprefix("CATEGORY_")
    wanted = not name.startswith("NOT_")
    found = _CATEGORIES[name.removeprefix("NOT_")]
    ascii_only = bool(flags & re.ASCII)
    return lambda char: (found(char) and not (ascii_only and not char.isascii())) is wanted


_CATEGORIES: Final[dict[str, Test]] = {
    "DIGIT": str.isdecimal,
    "SPACE": str.isspace,
    "WORD": lambda char: char.isalnum() or char == "_",
}


def _kind(char: str) -> int:
    """All that a place needs to know of the character before it."""
    if not char:
        return 0
    if char == "\n":
        return 1
    return 2 if _CATEGORIES["WORD"](char) else 3


def _holds(name: str, multiline: bool, before: str, after: str) -> bool:
    """Is this place (``re``'s AT_… codes) between these two characters? "" is the text's begin, or its end."""
    if name in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        return not before or (multiline and name == "AT_BEGINNING" and before == "\n")
    if name in ("AT_END", "AT_END_STRING"):
        return not after or (multiline and name == "AT_END" and after == "\n")
    boundary = (_kind(before) == 2) is not (_kind(after) == 2)
    return boundary is (name == "AT_BOUNDARY")
