"""containerd's filter language (its ``filters`` package): ``labels.app==web,status==running``, ``topic~=/tasks/.*``.

    filters  = several strings, any of which must match        selector = fieldpath [operator value]
    string   = selector *("," selector), all of which must     operator = "==" | "!=" | "~="
    fieldpath = field *("." field)                             field    = a bare word, or "quoted" as in Go
    value    = anything without comma, quote and space, or "quoted"; after ~= also |quoted|, or /quoted/ as a whole

A fieldpath alone asks whether the field is there. A regular expression (``~=``) is searched for anywhere, in linear
time (``actors.patterns``), so that no filter can hold the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from actors.patterns import compile_pattern
from shimproc.errors import InvalidArgument

MAX_LENGTH: Final = 1024
MAX_FILTERS: Final = 64
MAX_STATES: Final = 1000
_SPACE: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"[A-Za-z0-9_/:-]+")
_BARE_VALUE: Final = re.compile(r"[^,\"\s]+")
_QUOTED: Final = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_PATTERNS: Final = (re.compile(r"\|((?:[^|\\]|\\.)*)\|"), re.compile(r"/((?:[^/\\]|\\.)*)/(?=\s*(?:,|$))"))
_ESCAPE: Final = re.compile(r"\\(?:([abfnrtv\\\"'/])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")
_LETTERS: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_OPERATORS: Final = ("==", "!=", "~=")
Test = Callable[[str | None], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """One condition on one field."""

    path: tuple[str, ...]
    test: Test


def compile_filters(texts: Sequence[str], field: str = "filters") -> Callable[[Mapping[str, Any]], bool]:
    """A predicate on the wire's maps, for one thread; no filters match everything.

    ``InvalidArgument`` names ``filters[i]`` and the position where the text stops making sense.
    """
    if len(texts) > MAX_FILTERS:
        raise InvalidArgument(f"{field}: {len(texts)} are more than {MAX_FILTERS}; join them with regular expressions")
    budget = _Budget()
    alternatives = [_Parser(text, f"{field}[{index}]", budget).parse() for index, text in enumerate(texts)]

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
        rest = ".".join(path[place:])
        if rest in thing and (name not in thing or path[place - 1] == "labels"):
            thing = thing[rest]
            break
        if name not in thing:
            return None
        thing = thing[name]
    return _text(thing)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, tuple, bytes)):
        return ""
    return str(value)


class _Budget:
    """What the regular expressions of one request may cost: each is searched for in every thing that is looked at."""

    def __init__(self) -> None:
        self._left = MAX_STATES

    def take(self, states: int, field: str) -> None:
        """``InvalidArgument`` when it is used up."""
        self._left -= states
        if self._left < 0:
            raise InvalidArgument(f"{field}: the regular expressions have more than {MAX_STATES} states in all; simplify them")


class _Parser:
    """A recursive descent over one string."""

    def __init__(self, text: str, field: str, budget: _Budget) -> None:
        self._budget = budget
        self._text = text
        self._field = field
        self._at = 0

    def parse(self) -> list[Selector]:
        if len(self._text) > MAX_LENGTH:
            raise InvalidArgument(f"{self._field}: a filter has at most {MAX_LENGTH} characters")
        if not self._text:
            return []
        selectors = [self._selector()]
        while self._next() == ",":
            self._at += 1
            selectors.append(self._selector())
        if self._at < len(self._text):
            raise self._unexpected("a comma or the end")
        return selectors

    def _next(self, length: int = 1) -> str:
        """What comes after any space."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + length]

    def _selector(self) -> Selector:
        path = [self._field_name()]
        while self._next() == ".":
            self._at += 1
            path.append(self._field_name())
        operator = self._next(2)
        if operator not in _OPERATORS:
            if operator and operator[0] != ",":
                raise self._unexpected("==, !=, ~=, a comma or the end")
            labelled = path[0] == "labels" and len(path) > 1
            return Selector(tuple(path), lambda value: value is not None and (labelled or value != ""))
        self._at += 2
        return Selector(tuple(path), self._test(operator))

    def _field_name(self) -> str:
        quoted = self._quoted() if self._next() == '"' else None
        return self._take(_WORD, "a field's name").group() if quoted is None else quoted

    def _test(self, operator: str) -> Test:
        if operator == "~=":
            pattern = compile_pattern(self._pattern(), self._field)
            self._budget.take(pattern.size, self._field)
            return lambda value: pattern.search(value or "")
        expected = self._plain_value()
        if operator == "==":
            return lambda value: value == expected
        return lambda value: (value or "") != expected

    def _plain_value(self) -> str:
        first = self._next()
        if first in ("", ","):
            return ""
        return self._quoted() if first == '"' else self._take(_BARE_VALUE, "a value").group()

    def _pattern(self) -> str:
        self._next()
        for delimited in _PATTERNS:
            found = delimited.match(self._text, self._at)
            if found is not None:
                self._at = found.end()
                mark = found.group()[0]
                return found.group(1).replace("\\" + mark, mark)
        return self._plain_value()

    def _quoted(self) -> str:
        quoted = self._take(_QUOTED, "a closing quote")
        return _ESCAPE.sub(lambda found: self._unescaped(found, quoted.start(1)), quoted.group(1))

    def _unescaped(self, found: re.Match[str], begin: int) -> str:
        letter, *numbers, octal, unknown = found.groups()
        number = int(octal, 8) if octal else int(next(filter(None, numbers), "0"), 16)
        if unknown or number > 0x10FFFF or 0xD800 <= number < 0xE000:
            place = f"at position {begin + found.start()} of {self._text!r}"
            raise InvalidArgument(f"{self._field}: {found.group()} is no escape of a quoted text, as in Go, {place}")
        return _LETTERS.get(letter, letter) if letter else chr(number)

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._unexpected(what)
        self._at = found.end()
        return found

    def _unexpected(self, what: str) -> InvalidArgument:
        return InvalidArgument(f"{self._field}: expected {what} at position {self._at} of {self._text!r}")
