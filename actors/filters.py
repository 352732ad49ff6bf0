"""containerd's filter language (its ``filters`` package): ``labels.app==web,status==running``, ``topic~=/tasks/.*``.

    filters  = several strings, any of which must match        selector = fieldpath [operator value]
    string   = selector *("," selector), all of which must     operator = "==" | "!=" | "~="
    fieldpath = field *("." field)                             field, value = a bare word, or "quoted" as in JSON

A fieldpath alone asks whether the field is there. A regular expression (``~=``) is searched for anywhere; patterns in
which a repetition repeats another are refused, since they may take for ever on a short text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from re import _parser as regex_parser  # type: ignore[attr-defined]
from typing import Any, Final

from shimproc.errors import InvalidArgument

MAX_LENGTH: Final = 1024
_WORD: Final = re.compile(r"[A-Za-z0-9_/:-]+")
_BARE_VALUE: Final = re.compile(r"[^,\"\s]+")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_OPERATORS: Final = ("==", "!=", "~=")
Test = Callable[[str | None], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """One condition on one field."""

    path: tuple[str, ...]
    test: Test


def compile_filters(texts: Sequence[str], field: str = "filters") -> Callable[[Mapping[str, Any]], bool]:
    """A predicate on the wire's maps; no filters match everything.

    ``InvalidArgument`` names ``filters[i]`` and the position where the text stops making sense.
    """
    alternatives = [_Parser(text, f"{field}[{index}]").parse() for index, text in enumerate(texts)]

    def matches(thing: Mapping[str, Any]) -> bool:
        return not alternatives or any(
            all(selector.test(_value(thing, selector.path)) for selector in selectors) for selectors in alternatives
        )

    return matches


def _value(thing: Any, path: tuple[str, ...]) -> str | None:
    """The field's text, or None where it is not there. A label's name may itself have dots: ``labels.a.b``."""
    for place, name in enumerate(path):
        if not isinstance(thing, Mapping):
            return None
        if name not in thing:
            rest = ".".join(path[place:])
            thing = thing.get(rest)
            break
        thing = thing[name]
    if thing is None or isinstance(thing, (Mapping, list)):
        return None if thing is None else ""
    if isinstance(thing, bool):
        return "true" if thing else "false"
    return str(thing)


class _Parser:
    """A recursive descent over one string."""

    def __init__(self, text: str, field: str) -> None:
        self._text = text
        self._field = field
        self._at = 0

    def parse(self) -> list[Selector]:
        if len(self._text) > MAX_LENGTH:
            raise InvalidArgument(f"{self._field}: a filter has at most {MAX_LENGTH} characters")
        if not self._text:
            return []
        selectors = [self._selector()]
        while self._at < len(self._text):
            if self._text[self._at] != ",":
                raise self._unexpected("a comma or the end")
            self._at += 1
            selectors.append(self._selector())
        return selectors

    def _selector(self) -> Selector:
        path = [self._field_name()]
        while self._text[self._at : self._at + 1] == ".":
            self._at += 1
            path.append(self._field_name())
        operator = self._text[self._at : self._at + 2]
        if operator not in _OPERATORS:
            return Selector(tuple(path), lambda value: value is not None and value != "")
        self._at += 2
        return Selector(tuple(path), self._test(operator, self._read_value()))

    def _field_name(self) -> str:
        return self._quoted() or self._take(_WORD, "a field's name")

    def _read_value(self) -> str:
        if self._text[self._at : self._at + 1] in ("", ","):
            return ""
        return self._quoted() or self._take(_BARE_VALUE, "a value")

    def _quoted(self) -> str:
        if self._text[self._at : self._at + 1] != '"':
            return ""
        try:
            return str(json.loads(self._take(_QUOTED, "a closing quote")))
        except ValueError as error:
            raise self._unexpected("a quoted text as in JSON") from error

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._unexpected(what)
        self._at = found.end()
        return found.group()

    def _test(self, operator: str, expected: str) -> Test:
        if operator == "==":
            return lambda value: value == expected
        if operator == "!=":
            return lambda value: value != expected
        pattern = self._pattern(expected)
        return lambda value: value is not None and pattern.search(value) is not None

    def _pattern(self, text: str) -> re.Pattern[str]:
        try:
            if _nests(regex_parser.parse(text)):
                raise InvalidArgument(f"{self._field}: {text!r} repeats a repetition; that may never end: simplify it")
            return re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise InvalidArgument(f"{self._field}: {text!r} is no regular expression: {error}") from error

    def _unexpected(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"{self._field}: expected {what} at position {self._at} of {self._text!r}")


_REPEATS: Final = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}


def _nests(parsed: Any, inside: bool = False) -> bool:
    """Is there a repetition within one, or a back-reference? Without them backtracking stays polynomial."""
    for operation, argument in parsed:
        name = str(operation)
        if name in ("GROUPREF", "GROUPREF_EXISTS"):
            return True
        repeats = name in _REPEATS and argument[1] > 1
        if repeats and inside:
            return True
        if any(_nests(part, inside or repeats) for part in _parts(name, argument)):
            return True
    return False


def _parts(name: str, argument: Any) -> list[Any]:
    if name in _REPEATS:
        return [argument[2]]
    if name == "SUBPATTERN":
        return [argument[-1]]
    if name == "BRANCH":
        return list(argument[1])
    if name in ("ASSERT", "ASSERT_NOT"):
        return [argument[1]]
    if name == "ATOMIC_GROUP":
        return [argument]
    return []
