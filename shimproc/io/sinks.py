"""Where a process's output goes. A sink never blocks: it takes what it can and says when it can take more."""

from __future__ import annotations

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
        """Let go of everything now; what is not delivered is dropped."""


class LogSink:
    """A stream of the managed log. A failing disk costs bytes, which are counted, and never holds up the task."""

    def __init__(self, log: LogFile, stream: str) -> None:
        self._log = log
        self._stream = stream
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        try:
            self._log.write(self._stream, data)
        except OSError:
            self.dropped += len(data)
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        done()

    def close(self) -> None:
        """The log is closed by whoever opened it: two streams share it."""


class FileSink:
    """A file that is appended to, where the output is captured as well."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            self.dropped += len(data)
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        done()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class CaptureSink:
    """The first ``limit`` bytes, in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.dropped = 0
        self.truncated = False

    def write(self, data: bytes) -> bool:
        room = self._limit - len(self._kept)
        self._kept += data[:room]
        self.truncated = self.truncated or len(data) > room
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        done()

    def close(self) -> None:
        """What is kept stays."""

    def taken(self) -> bytes:
        """What was kept."""
        return bytes(self._kept)
