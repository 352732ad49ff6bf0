"""A managed log in the CRI log format, rotated by size and count.

    2026-11-23T22:53:01.123456789Z stdout F a whole line
    2026-11-23T22:53:01.123456789Z stderr P the beginning of a line over 16 kB, or a last line without its newline

Lossless for any bytes: a chunk marked ``F`` ended with a newline, one marked ``P`` did not. Both streams share the
file. On a failing disk it keeps whole lines only, and tells how many bytes it could not keep.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

MAX_LINE: Final = 16 << 10
MAX_SIZE: Final = 64 << 20
MAX_FILES: Final = 4
_SECOND: Final = 1_000_000_000
_STREAMS: Final = {b"stdout": "stdout", b"stderr": "stderr"}


class LogFile:
    """The writing side.

    Parameters
    ----------
    path : made 0600 if it is not there; its folder must be. ``OSError`` otherwise.
    max_size : bytes after which the file is rotated to ``.1``, that one to ``.2``, and so on.
    max_files : how many there are at most, this one included.
    """

    def __init__(self, path: str, max_size: int = MAX_SIZE, max_files: int = MAX_FILES) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._torn = False
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._size = self._end_torn_line(os.fstat(self._fd).st_size)
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, stream: str, data: bytes) -> int:
        """Append ``data`` as chunks with the time of now. Returns how many of its bytes could not be kept; no error."""
        if self._size >= self._max_size:
            with contextlib.suppress(OSError):  # no room for another file: go on in this one
                self._rotate()
        head = f"{_stamp(time.time_ns())} {stream} ".encode()
        text = b"\n" + _chunks(head, data) if self._torn else _chunks(head, data)
        written = 0
        try:
            while written < len(text):
                written += os.write(self._fd, text[written:] if written else text)
        except OSError:
            return len(data) - self._keep_whole_lines(text[:written])
        self._size += written
        self._torn = False
        return 0

    def close(self) -> None:
        """Let go of the file; harmless when closed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _keep_whole_lines(self, text: bytes) -> int:
        """Half a line would spoil the next one: cut it off. Returns how many bytes of data are kept."""
        whole = text[: text.rfind(b"\n") + 1]
        self._size += len(whole)
        self._torn = self._torn and not whole
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)
        return sum(len(data) for _, _, data in parse_lines(whole))

    def _end_torn_line(self, size: int) -> int:
        """A writer that was killed left half a line: what came of it is kept as a line of its own, ended when there is room."""
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            try:
                size += os.write(self._fd, b"\n")
            except OSError:
                self._torn = True
        return size

    def _rotate(self) -> None:
        """The next file is there before anything moves: a failure leaves the log as it was."""
        fresh = f"{self._path}.new"
        fd = os.open(fresh, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for number in range(self._max_files - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    _rename(f"{self._path}.{number - 1}" if number > 1 else self._path, f"{self._path}.{number}")
            _rename(fresh, self._path)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size, self._torn = fd, 0, False


def parse_lines(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(stream, ns since the epoch, bytes) of each chunk in whole lines of a log; what is no line of ours is skipped."""
    last, timestamp = b"", 0
    for line in data.split(b"\n"):
        fields = line.split(b" ", 3)
        if len(fields) != 4 or fields[1] not in _STREAMS or fields[2] not in (b"F", b"P"):
            continue
        if fields[0] != last:  # chunks that were read together have one time
            try:
                timestamp = _time(fields[0].decode("ascii"))
            except ValueError:
                continue
            last = fields[0]
        yield _STREAMS[fields[1]], timestamp, fields[3] + b"\n" if fields[2] == b"F" else fields[3]


def _chunks(head: bytes, data: bytes) -> bytes:
    """The lines of the log for ``data``."""
    full, partial = head + b"F ", head + b"P "
    *lines, rest = data.split(b"\n")
    if any(len(line) > MAX_LINE for line in lines):
        lines = [piece for line in lines for piece in _pieces(line, full, partial)]
    elif lines:
        lines = [full + (b"\n" + full).join(lines)]
    if rest:
        lines += _pieces(rest, partial, partial)
    return b"\n".join(lines) + b"\n" if lines else b""


def _pieces(line: bytes, last: bytes, partial: bytes) -> Iterator[bytes]:
    start = 0
    while len(line) - start > MAX_LINE:
        yield partial + line[start : start + MAX_LINE]
        start += MAX_LINE
    yield last + line[start:]


def _rename(path: str, target: str) -> None:
    os.rename(path, target)  # noqa: PTH104 - pathlib costs the shim memory


def _stamp(now: int) -> str:
    seconds, rest = divmod(now, _SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def _time(stamp: str) -> int:
    """The inverse of ``_stamp``, without calendar libraries: days from the civil date (Hinnant's algorithm).

    ``ValueError`` if it is not of that form.
    """
    if len(stamp) != 30 or stamp[29] != "Z":
        raise ValueError(stamp)
    year, month, day = int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10])
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    seconds = days * 86400 + int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + int(stamp[17:19])
    return seconds * _SECOND + int(stamp[20:29])
