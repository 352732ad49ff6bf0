"""A managed log in the CRI log format, rotated by size and count.

    2026-11-23T22:53:01.123456789Z stdout F a whole line
    2026-11-23T22:53:01.123456789Z stderr P the beginning of a line over 16 kB, or a last line without its newline

Lossless for any bytes: a chunk marked ``F`` ended with a newline, one marked ``P`` did not. Both streams share the file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

MAX_LINE: Final = 16 << 10
_SECOND: Final = 1_000_000_000


class LogFile:
    """The writing side.

    Parameters
    ----------
    max_size : bytes after which the file is rotated to ``.1``, that one to ``.2``, and so on.
    max_files : how many there are at most, this one included.
    """

    def __init__(self, path: str, max_size: int, max_files: int) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: str, data: bytes) -> None:
        """Append ``data`` as chunks with the time of now. ``OSError`` if it cannot be written."""
        if self._size >= self._max_size:
            self._rotate()
        head = f"{_stamp(time.time_ns())} {stream} ".encode()
        text = b"".join(_chunks(head, data))
        while text:
            written = os.write(self._fd, text)
            self._size += written
            text = text[written:]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        for number in range(self._max_files - 1, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}.{number - 1}", f"{self._path}.{number}")
        if self._max_files > 1:
            os.rename(self._path, f"{self._path}.1")
        else:
            os.unlink(self._path)
        fresh = self._open()
        os.close(self._fd)
        self._fd, self._size = fresh, 0


def parse_lines(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(stream, ns since the epoch, bytes) of each chunk in whole lines of a log; what is no line of ours is skipped."""
    for line in data.split(b"\n"):
        fields = line.split(b" ", 3)
        if len(fields) == 4 and fields[2] in (b"F", b"P"):
            with contextlib.suppress(ValueError):
                yield fields[1].decode(), _time(fields[0].decode()), fields[3] + (b"\n" if fields[2] == b"F" else b"")


def _chunks(head: bytes, data: bytes) -> Iterator[bytes]:
    full, partial = head + b"F ", head + b"P "
    *lines, rest = data.split(b"\n")
    for line in lines:
        while len(line) > MAX_LINE:
            yield partial + line[:MAX_LINE] + b"\n"
            line = line[MAX_LINE:]
        yield full + line + b"\n"
    for start in range(0, len(rest), MAX_LINE):
        yield partial + rest[start : start + MAX_LINE] + b"\n"


def _stamp(now: int) -> str:
    seconds, rest = divmod(now, _SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def _time(stamp: str) -> int:
    """The inverse of ``_stamp``, without calendar libraries: days from the civil date (Hinnant's algorithm)."""
    year, month, day = int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10])
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    seconds = days * 86400 + int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + int(stamp[17:19])
    return seconds * _SECOND + int(stamp[20:29])
