"""Where a process's output goes. A sink never blocks: it takes what it can and says when it can take more.

A sink that fails (a full disk, a reader that is gone) counts the bytes in ``dropped`` and goes on taking: it costs
output, and never holds up the task.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Protocol

from shimproc.io.logfile import LogFile


class Sink(Protocol):
    """One destination of one stream."""

    dropped: int

    def write(self, data: bytes) -> bool:
        """Take all of ``data``; False: hold the stream until ``resume`` is called."""

    def on_room(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` whenever there is room again after a False."""

    def finish(self, done: Callable[[], None]) -> None:
        """No more will come: call ``done`` once everything is delivered, or cannot be."""

    def close(self) -> None:
        """Let go of everything now; what is not delivered is dropped. Harmless when closed."""


class LogSink:
    """A stream of the managed log."""

    def __init__(self, log: LogFile, stream: str) -> None:
        self._log = log
        self._stream = stream
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        self.dropped += self._log.write(self._stream, data)
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        done()

    def close(self) -> None:
        """The log is closed by whoever opened it: two streams share it."""


class FileSink:
    """A file that is appended to, where the output is captured as well. The descriptor is this object's from now on."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        with contextlib.suppress(OSError):
            while data and self._fd is not None:
                data = data[os.write(self._fd, data) :]
        self.dropped += len(data)
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        self.close()
        done()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class LostSink:
    """What could not be opened again: everything that would go there is counted, and dropped."""

    def __init__(self) -> None:
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        self.dropped += len(data)
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        done()

    def close(self) -> None:
        """There is nothing."""


class CaptureSink:
    """The first ``limit`` bytes, in a file, so that a shim that comes after this one has them, too.

    One byte more than the limit says that there was more. The file is made when there is something to keep. Once there is no
    room for some, no later ones are kept: they would seem to follow.
    """

    def __init__(self, limit: int, path: str) -> None:
        self._limit = limit
        self._path = path
        self._size = 0
        with contextlib.suppress(FileNotFoundError):
            self._size = os.stat(path).st_size  # noqa: PTH116 - pathlib costs the shim memory
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        kept = data[: self._limit + 1 - self._size]
        if self.dropped:
            self.dropped += len(kept)
        elif kept:
            written = self._append(kept)
            self._size += written
            self.dropped += len(kept) - written
        return True

    def _append(self, data: bytes) -> int:
        """How much there was room for: a full disk costs output, and never the task."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return 0
        try:
            return os.write(fd, data)
        except OSError:
            return 0
        finally:
            os.close(fd)

    @property
    def truncated(self) -> bool:
        """Was there more?"""
        return self._size > self._limit or self.dropped > 0

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        done()

    def close(self) -> None:
        """What is kept stays."""

    def taken(self) -> bytes:
        """What was kept."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        with os.fdopen(fd, "rb") as file:
            return file.read(self._limit)
