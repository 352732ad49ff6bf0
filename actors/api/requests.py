"""A request's bytes -> a checked ``Request`` (API.md, section 2). Sans-IO.

Only plain CBOR is taken: no tags (dates, shared references, …), no duplicate keys, text or bytes as keys, bounded
depth and number of values, and nothing after the one map.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import cbor2

from actors.identifiers import check_namespace
from actors.methods import METHODS, Method
from actors.params import PARAMS
from actors.shape import nearest, strict
from shimproc.errors import FailedPrecondition, InvalidArgument, ShimyardError, Unimplemented, shown

VERSION: Final = 1
MAX_DEPTH: Final = 72
MAX_KEY: Final = 256
MAX_ITEMS: Final = 100_000
"""Values in one message, at every depth: each costs its time, and a megabyte holds a million of them."""
_FEW: Final = 64 << 10
"""Bytes that cannot hold many."""
_EARLY: Final = 1024
_UNREADABLE: Final = (cbor2.CBORError, ValueError, RecursionError, MemoryError, OverflowError)
_FIELDS: Final = ("v", "id", "method", "namespace", "params", "timeout", "key")
Id = int | str | bytes | None


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose every field is of the right kind. ``raw`` are the params as they came."""

    id: Id
    method: str
    row: Method
    namespace: str
    params: Any
    raw: Mapping[str, Any]
    timeout: float | None
    key: str | None


class BadRequest(Exception):  # noqa: N818 - carries an error, is none of the eleven
    """What is wrong with a request, and the id that the answer goes to, if it could be read."""

    def __init__(self, request_id: Id, error: ShimyardError) -> None:
        super().__init__(str(error))
        self.id = request_id
        self.error = error


def parse_request(body: bytes) -> Request:
    """The request in a frame's body; ``BadRequest`` for anything else."""
    if len(body) > _FEW and _holds_too_many(body):
        many = InvalidArgument(f"the message has more than {MAX_ITEMS} values; say it in several messages, or in longer texts")
        raise BadRequest(_early_id(body), many)
    message = _decode(body)
    request_id = message.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, (int, str, bytes)):
        raise BadRequest(None, InvalidArgument("id: expected an integer, text or bytes"))
    try:
        return _request(request_id, message)
    except ShimyardError as error:
        raise BadRequest(request_id, error) from error


def _holds_too_many(body: bytes) -> bool:
    """Count the heads (RFC 8949, section 3), before anything is made of them; what is malformed is found by the decoder."""
    at = items = 0
    while at < len(body):
        items += 1
        if items > MAX_ITEMS:
            return True
        kind, length = body[at] >> 5, body[at] & 31
        at += 1
        if 24 <= length < 28:
            width = 1 << (length - 24)
            length = int.from_bytes(body[at : at + width], "big")
            at += width
        if kind in (2, 3):  # bytes, text
            at += length if length < len(body) else 0
    return False


def _early_id(body: bytes) -> Id:
    """The id of a message that is not read, if it stands at its beginning."""
    decoder = _decoder(io.BytesIO(body[1:_EARLY]))
    try:
        for _ in _FIELDS:
            name, value = decoder.decode(), decoder.decode()
            if name == "id":
                return value if isinstance(value, (int, str, bytes)) and not isinstance(value, bool) else None
    except _UNREADABLE:
        pass
    return None


def _decoder(source: io.BytesIO) -> cbor2.CBORDecoder:
    return cbor2.CBORDecoder(
        source,
        tag_hook=_refuse_tag,
        semantic_decoders=_TAGS,
        max_depth=MAX_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )


def _decode(body: bytes) -> dict[Any, Any]:
    source = io.BytesIO(body)
    try:
        message = _decoder(source).decode()
    except _UNREADABLE as error:
        raise BadRequest(None, InvalidArgument(f"the message is not one CBOR map: {error}")) from error
    if not isinstance(message, dict):
        raise BadRequest(None, InvalidArgument("the message is not one CBOR map"))
    if source.tell() != len(body):
        raise BadRequest(None, InvalidArgument("the message is not one CBOR map: something follows it"))
    return message


def _request(request_id: Id, message: Mapping[Any, Any]) -> Request:
    for key in message:
        if key not in _FIELDS:
            raise InvalidArgument(f"{shown(key)}: unknown field of a request{nearest(str(key[:MAX_KEY]), _FIELDS)}")
    _check_version(message)
    name, row = _method(message.get("method"))
    raw = message.get("params")
    if raw is None:
        raw = {}
    elif not isinstance(raw, Mapping):
        raise InvalidArgument("params: expected a map")
    return Request(
        id=request_id,
        method=name,
        row=row,
        namespace=_namespace(message.get("namespace"), row),
        params=strict(PARAMS[name])(raw, ""),
        raw=raw,
        timeout=_timeout(message.get("timeout")),
        key=_key(message.get("key")),
    )


def _check_version(message: Mapping[Any, Any]) -> None:
    version = message.get("v")
    if version is None:
        raise InvalidArgument(f"v: it is required; this daemon serves [{VERSION}]")
    if isinstance(version, bool) or not isinstance(version, int):
        raise InvalidArgument(f"v: expected an integer; this daemon serves [{VERSION}]")
    if version != VERSION:
        raise Unimplemented(f"v: version {version} is not served; this daemon serves [{VERSION}]", {"served": [VERSION]})


def _method(name: Any) -> tuple[str, Method]:
    if not isinstance(name, str):
        raise InvalidArgument("method: expected the name of a method, as text")
    row = METHODS.get(name)
    if row is None:
        raise Unimplemented(f"method: {name[:80]!r} is unknown{nearest(name[:80], METHODS)}")
    return name, row


def _namespace(name: Any, row: Method) -> str:
    if name is None:
        if row.namespaced:
            raise FailedPrecondition("namespace is required")
        return ""
    if not isinstance(name, str):
        raise InvalidArgument("namespace: expected text")
    return check_namespace(name)


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise InvalidArgument("timeout: expected seconds above 0")
    return float(value)


def _key(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_KEY:
        raise InvalidArgument(f"key: expected text of 1 to {MAX_KEY} characters")
    return value


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("tags are not taken")


_TAGS: Final = dict.fromkeys((*range(38), 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag)
