"""Maps <-> the frozen records of ``actors.records`` and ``actors.methods``, by their annotations.

A parser is compiled once for a class. The strict one refuses unknown keys, naming the nearest that exists; the lenient
one, for data of our own and for clients, ignores them. An error names the key by its path: ``rootfs[1].type``.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union

from actors.records import LEFT_OUT
from shimproc.errors import InvalidArgument, shown

T = TypeVar("T")
Parse = Callable[[Any, str], Any]
_LONGEST_KEY = 80
"""Of a key as errors tell it: what a client sends may be megabytes."""
_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false", bytes: "bytes"}


def strict(cls: Callable[..., T]) -> Callable[[Any, str], T]:
    """A parser of maps into ``cls``; ``InvalidArgument`` names what is unknown, missing or of the wrong type."""
    return _record(cls, True)


def lenient(cls: Callable[..., T]) -> Callable[[Any, str], T]:
    """The same, but unknown keys are ignored: they are of a later version."""
    return _record(cls, False)


def dump(value: Any) -> Any:
    """The wire's form of a record: a map with every field, tuples as lists, nested records as maps.

    A field that is ``left_out`` (``actors.records``) is not there while it is None.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names, omitted = _field_names(type(value))
        found = {name: dump(getattr(value, name)) for name in names}
        for name in omitted:
            if found[name] is None:
                del found[name]
        return found
    if isinstance(value, (tuple, list)):
        return [dump(item) for item in value]
    return value


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """A hint for a misspelt word: " (did you mean …?)", or nothing."""
    import difflib  # noqa: PLC0415 - a command line that is right needs none

    close = difflib.get_close_matches(word, list(known), 1) if len(word) <= _LONGEST_KEY else None
    return f" (did you mean {close[0]}?)" if close else ""


@functools.cache
def _field_names(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(all fields, those that are left out while None)."""
    known = fields(cls)
    return tuple(field.name for field in known), tuple(field.name for field in known if LEFT_OUT in field.metadata)


@functools.cache
def _record(cls: Any, refuse_unknown: bool) -> Parse:
    hints = typing.get_type_hints(cls, include_extras=True)
    parsers = {field.name: _of(hints[field.name], refuse_unknown) for field in fields(cls)}
    optional = {
        field.name for field in fields(cls) if field.default is not MISSING or field.default_factory is not MISSING
    }
    required = [name for name in parsers if name not in optional]

    def parse(value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(path or "params", "a map", value)
        given: dict[str, Any] = {}
        for key, item in value.items():
            parser = parsers.get(key) if isinstance(key, str) else None
            if parser is None:
                if refuse_unknown:
                    raise InvalidArgument(f"{_join(path, str(key))}: unknown key{nearest(str(key), parsers)}")
                continue
            if item is None and key in optional:
                continue
            given[key] = parser(item, _join(path, key))
        for name in required:
            if name not in given:
                raise InvalidArgument(f"{_join(path, name)}: it is required")
        return cls(**given)

    return parse


def _of(hint: Any, refuse_unknown: bool) -> Parse:  # noqa: PLR0911 - a table of kinds
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _checked(_of(arguments[0], refuse_unknown), arguments[1])
    if origin in (Union, types.UnionType):
        return _union([argument for argument in arguments if argument is not type(None)], hint, refuse_unknown)
    if origin is tuple:
        return _sequence(_of(arguments[0], refuse_unknown))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(arguments)
    if is_dataclass(hint):
        return _record(typing.cast("type", hint), refuse_unknown)
    if hint in _NAMES:
        return _scalar(hint)
    return lambda value, _: value


def _scalar(kind: type) -> Parse:
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)

    def parse(value: Any, path: str) -> Any:
        if isinstance(value, accepted) and (kind is bool or not isinstance(value, bool)):
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidArgument(f"{path}: {value} is no finite number")
            return value
        raise _wrong(path, _NAMES[kind], value)

    return parse


def _checked(parser: Parse, check: Callable[[Any, str], Any]) -> Parse:
    return lambda value, path: check(parser(value, path), path)


def _union(kinds: list[Any], hint: Any, refuse_unknown: bool) -> Parse:
    parsers = [_of(kind, refuse_unknown) for kind in kinds]
    nullable = type(None) in typing.get_args(hint)

    def parse(value: Any, path: str) -> Any:
        if value is None and nullable:
            return None
        if len(parsers) == 1:
            return parsers[0](value, path)
        for parser in parsers:
            try:
                return parser(value, path)
            except InvalidArgument:
                continue
        raise _wrong(path, " or ".join(_NAMES.get(kind, str(kind)) for kind in kinds), value)

    return parse


def _sequence(parser: Parse) -> Parse:
    def parse(value: Any, path: str) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _wrong(path, "a list", value)
        return tuple(parser(item, f"{path}[{index}]") for index, item in enumerate(value))

    return parse


def _mapping(arguments: tuple[Any, ...]) -> Parse:
    texts = arguments[1:] == (str,)

    def parse(value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _wrong(path, "a map", value)
        for key, item in value.items():
            if not isinstance(key, str):
                raise _wrong(f"{path}: its key {shown(key)}", "text", key)
            if texts and not isinstance(item, str):
                raise _wrong(_join(path, key), "text", item)
        return value

    return parse


def _join(path: str, key: str) -> str:
    return f"{path}.{key[:_LONGEST_KEY]}" if path else key[:_LONGEST_KEY]


def _wrong(path: str, expected: str, value: Any) -> InvalidArgument:
    return InvalidArgument(f"{path}: expected {expected}, got {_kind(value)}")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, (Mapping, list, tuple)):
        return shown(value)
    return _NAMES.get(type(value), type(value).__name__)
