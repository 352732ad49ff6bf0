"""Frames between daemon, forkserver and shims: a 4-byte big-endian length, then that many bytes of CBOR.

Sans-IO: ``encode`` makes the bytes of one frame, ``FrameReader`` turns received bytes into maps.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import cbor2

from shimproc.errors import InvalidArgument

MAX_FRAME = 64 << 20
_LENGTH = struct.Struct(">I")


def encode(message: Mapping[str, Any]) -> bytes:
    """One frame; ``InvalidArgument`` if it is longer than ``MAX_FRAME``."""
    body = cbor2.dumps(message)
    if len(body) > MAX_FRAME:
        raise InvalidArgument(f"a frame of {len(body)} bytes exceeds the bound of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Collects bytes in any pieces, gives whole messages in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages completed by ``data``; ``InvalidArgument`` for what is no frame of ours."""
        self._buffer += data
        messages: list[dict[str, Any]] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME:
                raise InvalidArgument(f"a frame of {length} bytes exceeds the bound of {MAX_FRAME}")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"a frame that is not CBOR: {error}") from error
    if not isinstance(message, dict):
        raise InvalidArgument("a frame that is not a map")
    return message
