"""What a shim has to tell, numbered 1, 2, 3 …, written before anyone is told.

A record is one ``write`` to an append-only file: length (4 bytes), crc32 (4 bytes), then CBOR of ``[n, values]`` for an
event or ``[0, n]`` for an ack. It survives the death of any process; no fsync, since no task survives the machine's.
A torn tail is cut off on open.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

import cbor2

from shimproc.errors import Internal

_HEAD: Final = struct.Struct(">II")
Record = tuple[int, dict[str, Any]]


class Journal:
    """The journal of one shim, open for writing."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._records, self.acked, whole = _parse(_read_all(self._fd))
        os.ftruncate(self._fd, whole)

    @property
    def last(self) -> int:
        """The number of the newest record; 0 if there is none."""
        return self._records[-1][0] if self._records else 0

    def append(self, values: Mapping[str, Any]) -> int:
        """Write a record; returns its number. ``OSError`` when it could not be written whole: then it is not there."""
        n = self.last + 1
        self._write([n, values])
        self._records.append((n, dict(values)))
        return n

    def ack(self, n: int) -> None:
        """All records up to ``n`` are safe elsewhere."""
        if n > self.acked:
            self.acked = n
            self._write([0, n])

    def since(self, n: int) -> list[Record]:
        """The records after number ``n``."""
        return [record for record in self._records if record[0] > n]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _write(self, item: list[Any]) -> None:
        body = cbor2.dumps(item)
        data = _HEAD.pack(len(body), zlib.crc32(body)) + body
        before = os.fstat(self._fd).st_size
        written = 0
        try:
            written = os.write(self._fd, data)
        finally:
            if written != len(data):
                os.ftruncate(self._fd, before)
        if written != len(data):
            raise Internal("the journal was not written whole: is the disk full?")


def read_journal(path: str) -> tuple[list[Record], int]:
    """(records, acked) of a journal that another process writes or wrote; a torn tail is left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        records, acked, _ = _parse(_read_all(fd))
    finally:
        os.close(fd)
    return records, acked


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0) if size else b""


def _parse(data: bytes) -> tuple[list[Record], int, int]:
    """(records, acked, length of the valid prefix)."""
    records: list[Record] = []
    acked = start = 0
    while len(data) - start >= _HEAD.size:
        length, crc = _HEAD.unpack_from(data, start)
        body = data[start + _HEAD.size : start + _HEAD.size + length]
        if len(body) < length or zlib.crc32(body) != crc:
            break
        n, values = cbor2.loads(body)
        if n:
            records.append((n, values))
        else:
            acked = max(acked, values)
        start += _HEAD.size + length
    return records, acked, start
