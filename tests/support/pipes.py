"""The other ends of a task's named pipes. A reader waits on its descriptor, never on a clock, but fails in the end."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

READ_SECONDS = 20.0


class Fifo:
    """A named pipe that the test reads, or writes."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self.uri = f"fifo://{path}"
        self._path = path
        self._fd: int | None = None
        self.seen = b""

    def open_for_reading(self) -> Fifo:
        """Be there before the writer comes."""
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def open_for_writing(self) -> Fifo:
        """Once the reader is there: the task has been created."""
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        return self

    def read_until(self, text: bytes, times: int = 1) -> bytes:
        """Read until ``text`` has been seen this often; all that was seen."""
        while self.seen.count(text) < times:
            piece = self._read()
            assert piece, f"the writers have gone; seen: {self.seen!r}"
            self.seen += piece
        return self.seen

    def read_to_end(self) -> bytes:
        """Read until every writer has gone; all that was seen."""
        while piece := self._read():
            self.seen += piece
        return self.seen

    def write(self, data: bytes) -> None:
        """Write all."""
        assert self._fd is not None
        assert os.write(self._fd, data) == len(data)

    def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _read(self) -> bytes:
        assert self._fd is not None
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        deadline = time.monotonic() + READ_SECONDS
        while poll.poll(max(0, (deadline - time.monotonic()) * 1000)):
            try:
                return os.read(self._fd, 1 << 16)
            except BlockingIOError:
                continue
        raise AssertionError(f"nothing to read for {READ_SECONDS} seconds; seen: {self.seen!r}")
