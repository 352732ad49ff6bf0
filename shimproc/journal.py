"""What a shim has to tell, numbered 1, 2, 3 …, written before anyone is told.

A record is one ``write`` to an append-only file: length (4 bytes), crc32 (4 bytes), then CBOR of ``[n, values]`` for an event,
or ``[0, n]`` for an ack. Events that nobody needs any more are left out (``compact``), and their numbers with them. It
survives the death of any process; no fsync, since no task survives the machine's. A torn tail is cut off on open. What
is acked is not kept in memory.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

import cbor2

from shimproc.errors import Internal

BULKY: Final = 256 << 10
_HEAD: Final = struct.Struct(">II")
_MODE: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
Record = tuple[int, dict[str, Any]]


class Contents(NamedTuple):
    """What a journal's file says: the records that are kept, and the last one acked."""

    records: list[Record]
    acked: int


class Journal:
    """The journal of one shim, open for writing.

    Parameters
    ----------
    path : the file; made 0600 if it is not there. There must be one writer only.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, _MODE, 0o600)
        try:
            (records, self._acked), self._size = _parse(_read_all(self._fd))
            os.ftruncate(self._fd, self._size)
        except BaseException:
            os.close(self._fd)
            raise
        self._last = max(self._acked, records[-1][0] if records else 0)
        self._unacked = [record for record in records if record[0] > self._acked]
        self._bulk = BULKY

    @property
    def last(self) -> int:
        """The number of the newest record; 0 if there has been none."""
        return self._last

    @property
    def acked(self) -> int:
        """The number up to which all are safe elsewhere."""
        return self._acked

    @property
    def bulky(self) -> bool:
        """Is it worth a ``compact``: large, and nobody waits for what is in it?"""
        return self._size > self._bulk and not self._unacked

    def append(self, values: Mapping[str, Any]) -> int:
        """Write a record; returns its number. ``OSError`` or ``Internal``: it was not written, and is not there."""
        n = self._last + 1
        self._write(_framed([n, values]))
        self._last = n
        self._unacked.append((n, dict(values)))
        return n

    def ack(self, n: int) -> None:
        """All records up to ``n`` are safe elsewhere. On a full disk only this process knows; at worst one repeats."""
        n = min(n, self._last)
        if n <= self._acked:
            return
        self._acked = n
        self._unacked = [record for record in self._unacked if record[0] > n]
        with contextlib.suppress(OSError, Internal):
            self._write(_framed([0, n]))

    def unacked(self) -> list[Record]:
        """The records that are not safe elsewhere yet."""
        return list(self._unacked)

    def since(self, n: int) -> list[Record]:
        """The records after number ``n``, as far as they are kept; those that are acked come from the file."""
        if n >= self._acked:
            return [record for record in self._unacked if record[0] > n]
        return [record for record in _parse(_read_all(self._fd))[0].records if record[0] > n]

    def compact(self, needed: Callable[[list[Record]], Collection[int]]) -> None:
        """Keep of what is acked only what is ``needed``, by number, and the last; atomic, the numbers go on.

        ``OSError`` or ``Internal``: nothing changed. It is worth it again when the file has doubled.
        """
        records = self.since(0)
        numbers = {*needed(records), self._last}
        kept = [_framed([n, values]) for n, values in records if n in numbers or n > self._acked]
        data = b"".join([*kept, _framed([0, self._acked])])
        fresh = f"{self._path}.new"
        fd = os.open(fresh, _MODE | os.O_TRUNC, 0o600)
        try:
            if os.write(fd, data) != len(data):
                raise Internal("the journal was not written whole: is the disk full?")
            os.rename(fresh, self._path)  # noqa: PTH104 - pathlib costs the shim memory
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, len(data)
        self._bulk = max(BULKY, 2 * len(data))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            written = os.write(self._fd, data)
        finally:
            if written != len(data):
                os.ftruncate(self._fd, self._size)
        if written != len(data):
            raise Internal("the journal was not written whole: is the disk full?")
        self._size += written


def read_journal(path: str) -> Contents:
    """A journal that another process writes or wrote; nothing is changed, a torn tail is passed over."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _parse(_read_all(fd))[0]
    finally:
        os.close(fd)


def _framed(item: list[Any]) -> bytes:
    body = cbor2.dumps(item)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0) if size else b""


def _parse(data: bytes) -> tuple[Contents, int]:
    """The contents of the valid prefix, and its length. Zeros, which a machine's crash may leave, are no record."""
    records: list[Record] = []
    acked = start = 0
    while len(data) - start >= _HEAD.size:
        length, crc = _HEAD.unpack_from(data, start)
        body = data[start + _HEAD.size : start + _HEAD.size + length]
        if not length or len(body) < length or zlib.crc32(body) != crc:
            break
        match _item(body):
            case [int(n), dict(values)] if n > 0:
                records.append((n, values))
            case [0, int(n)]:
                acked = max(acked, n)
            case _:
                break
        start += _HEAD.size + length
    return Contents(records, acked), start


def _item(body: bytes) -> Any:
    """What a record says; None for what was never written by a journal, whatever its checksum."""
    try:
        return cbor2.loads(body)
    except (cbor2.CBORError, ValueError, RecursionError):
        return None
