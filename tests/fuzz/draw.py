"""Structures out of bytes: what a fuzzer mutates becomes maps of our own words with strange values. Deterministic."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any, Final

from actors.params import PARAMS
from actors.records import Mount, Restart, Runtime, RuntimeOptions, Stdio, Stop
from shimproc.messages import EVENTS, REQUESTS

MAX_DEPTH: Final = 6
MAX_ITEMS: Final = 6
TEXTS: Final = (
    *("", "x", "default", "a.b-c_d", "a..b", "../../etc", "\0", "ümlaut", "SIGTERM", "15", "999999999999", "process", "crun"),
    *("log:", "fifo:///nowhere", "file:///", "binary:x", "/", "1.0.2", "2.0", "PATH=/bin", "=", "labels.a==b", "topic~=/x/"),
    *("on-failure", "always", "bind", "tmpfs", "overlay", "rbind", "ro", "lowerdir=/", "0"),
)
NUMBERS: Final = (0, 1, -1, 2, 9, 15, 64, 65, 255, 4096, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**64))
FLOATS: Final = (0.0, -0.0, 0.5, 1e-9, 1e9, 1e308, -1.0, float("inf"), float("-inf"), float("nan"))
SPEC_WORDS: Final = (
    *("ociVersion", "process", "args", "cwd", "env", "user", "uid", "gid", "additionalGids", "umask", "terminal", "root"),
    *("path", "readonly", "mounts", "destination", "type", "source", "options", "linux", "namespaces", "resources", "memory"),
    *("limit", "cpu", "pids", "seccomp", "hostname", "rlimits", "soft", "hard", "capabilities", "bounding", "oomScoreAdj"),
    *("noNewPrivileges", "annotations", "hooks", "cgroupsPath", "consoleSize", "width", "height", "apparmorProfile"),
)


def _fields(*records: Any) -> tuple[str, ...]:
    return tuple(sorted({field.name for record in records for field in dataclasses.fields(record)}))


WORDS: Final = (
    *_fields(*PARAMS.values(), Mount, Restart, Runtime, RuntimeOptions, Stdio, Stop),
    *_fields(*REQUESTS.values(), *EVENTS.values()),
    *("q", "ack", "verb", "kind"),
    *SPEC_WORDS,
)


class Draw:
    """Takes decisions from ``data``; when that is used up, always the first choice."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def choice(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return options[(self.byte() << 8 | self.byte()) % len(options)]

    def some(self, limit: int = 255) -> bytes:
        """A few of the next bytes."""
        length = self.byte() % (limit + 1)
        found = self._data[self._at : self._at + length]
        self._at += length
        return found

    def text(self) -> str:
        """A word that means something somewhere, or any text."""
        if self.byte() % 4:
            return str(self.choice(TEXTS))
        return self.some().decode("utf-8", "replace")

    def key(self) -> Any:
        """Mostly a name that some map has."""
        kind = self.byte() % 16
        return self.some(8) if kind == 0 else self.text() if kind == 1 else self.choice(WORDS)

    def value(self, depth: int = 0) -> Any:
        """Anything that CBOR has without tags."""
        kind = self.byte() % (8 if depth < MAX_DEPTH else 6)
        if kind == 0:
            return self.text()
        if kind == 1:
            return self.choice(NUMBERS)
        if kind == 2:
            return self.choice(FLOATS)
        if kind == 3:
            return self.choice((None, True, False))
        if kind == 4:
            return self.some(16)
        if kind == 5:
            return self.byte()
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.byte() % MAX_ITEMS)]
        return self.map(depth)

    def map(self, depth: int = 0) -> dict[Any, Any]:
        """A map of such."""
        return {self.key(): self.value(depth + 1) for _ in range(self.byte() % MAX_ITEMS)}

    def mutated(self, value: Any, chance: int = 24) -> Any:
        """``value`` with a part exchanged, left out or added here and there; each part with 1 : ``chance``."""
        if self.byte() % chance == 1:
            return self.value()
        if isinstance(value, dict):
            kept = {key: self.mutated(item, chance) for key, item in value.items() if self.byte() % chance != 1}
            return kept | (self.map(1) if self.byte() % chance == 1 else {})
        if isinstance(value, (list, tuple)):
            return [self.mutated(item, chance) for item in value]
        return value


def fitting(draw: Draw, hint: Any) -> Any:
    """A value for a field of this type, mostly; records become maps."""
    if draw.byte() % 16 == 1:
        return draw.value()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return draw.choice(("x", "a.b", draw.text()))
    if origin is tuple:
        return [fitting(draw, arguments[0]) for _ in range(draw.byte() % MAX_ITEMS)]
    if dataclasses.is_dataclass(hint):
        return record(draw, typing.cast("type", hint))
    if origin is not None and arguments and not hasattr(origin, "keys"):
        return fitting(draw, draw.choice(arguments))
    kinds: dict[Any, Any] = {str: draw.text, int: lambda: draw.choice(NUMBERS), float: lambda: draw.choice(FLOATS)}
    kinds |= {bool: lambda: draw.choice((True, False)), bytes: draw.some, type(None): lambda: None}
    return kinds[hint]() if hint in kinds else draw.map()


def record(draw: Draw, cls: type) -> dict[str, Any]:
    """A map for a record, with most of its fields."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: fitting(draw, hint) for name, hint in hints.items() if draw.byte() % 4 or name in ("id", "spec")}
