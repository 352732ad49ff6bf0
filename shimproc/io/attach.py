"""Clients at a process's streams: what it writes goes to each of them beside its destination, what they send to its stdin.

A client that is slow holds up neither the process nor another client: what it has no credit for waits here, bounded, and if
that is not enough its stream ends with ``resource_exhausted``; there is never a silent hole.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from shimproc.errors import FailedPrecondition, ResourceExhausted, ShimyardError, to_map
from shimproc.flow import Pending
from shimproc.loop import WRITE, LoopLike

MAX_WAITING: Final = 4 << 20
"""Bytes that wait for one client."""
Send = Callable[[Mapping[str, Any]], None]


class Attachment:
    """One client at a process's output; a sink of each of its streams.

    Parameters
    ----------
    number : by which the daemon knows it.
    """

    def __init__(self, number: int, send: Send) -> None:
        self.number = number
        self._credit = 0
        self._send = send
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._size = 0
        self._ending = False
        self.over = False

    def write(self, stream: str, data: bytes) -> None:
        """A piece of output."""
        if self.over or self._ending:
            return
        self._waiting.append((stream, time.time_ns(), data))
        self._size += len(data)
        self._flush()
        if self._size > MAX_WAITING:
            self._end(ResourceExhausted(f"the client is more than {MAX_WAITING} bytes behind; attach again, and read faster"))

    def add_credit(self, n: int) -> None:
        """The client takes n more."""
        self._credit += n
        self._flush()

    def fail(self, error: ShimyardError) -> None:
        """There is nothing to attach to, after all."""
        self._end(error)

    def finish(self) -> None:
        """The process has ended, and this was all of its output."""
        self._ending = True
        self._flush()

    def _flush(self) -> None:
        while self._waiting and self._credit > 0 and not self.over:
            stream, at, data = self._waiting.popleft()
            self._size -= len(data)
            self._credit -= 1
            self._send({"attached": self.number, "stream": stream, "at": at, "data": data})
        if self._ending and not self._waiting:
            self._end(None)

    def _end(self, error: ShimyardError | None) -> None:
        if not self.over:
            self.over = True
            self._waiting.clear()
            self._send({"attached": self.number, "end": None if error is None else to_map(error)})


class AttachSink:
    """One stream of an attachment (``shimproc.io.sinks.Sink``); it always has room."""

    def __init__(self, attachment: Attachment, stream: str) -> None:
        self.attachment = attachment
        self._stream = stream
        self.dropped = 0

    def write(self, data: bytes) -> bool:
        """Take it."""
        self.attachment.write(self._stream, data)
        return True

    def on_room(self, resume: Callable[[], None]) -> None:
        """It always has."""

    def finish(self, done: Callable[[], None]) -> None:
        """The attachment itself ends when all of its streams have."""
        done()

    def close(self) -> None:
        """Nothing is held."""


class Feed:
    """What clients write to a process's stdin, at its pace.

    Parameters
    ----------
    fd : a pipe's writing end or a terminal's master, non-blocking; this object's from now on.
    """

    def __init__(self, loop: LoopLike, fd: int) -> None:
        self._loop = loop
        self._fd: int | None = fd
        self._waiting: deque[tuple[bytes, Pending[None]]] = deque()
        self._size = 0
        self._ending = False

    def write(self, data: bytes) -> Pending[None]:
        """Done when the pipe has taken all of it; ``FailedPrecondition``: it is closed; ``ResourceExhausted``: nobody reads."""
        written: Pending[None] = Pending()
        if self._fd is None or self._ending:
            written.fail(_closed())
            return written
        if self._size + len(data) > MAX_WAITING:
            written.fail(ResourceExhausted("the process does not read its stdin; write again when what was sent is taken"))
            return written
        self._waiting.append((data, written))
        self._size += len(data)
        if len(self._waiting) == 1:
            self._flush()
        return written

    def end(self) -> None:
        """No more after what waits."""
        self._ending = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """No more; what waits is not written."""
        if self._fd is not None:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = None
        waiting, self._waiting = self._waiting, deque()
        for _, written in waiting:
            written.fail(_closed())

    def _flush(self) -> None:
        assert self._fd is not None
        try:
            while self._waiting:
                data, written = self._waiting[0]
                sent = os.write(self._fd, data) if data else 0
                self._size -= sent
                if sent < len(data):
                    self._waiting[0] = (data[sent:], written)
                    continue
                self._waiting.popleft()
                written.set(None)
        except BlockingIOError:
            self._loop.watch(self._fd, WRITE, lambda _: self._flush())
            return
        except OSError:  # EPIPE, or a terminal's EIO: the process has closed it
            self.close()
            return
        self._loop.unwatch(self._fd)
        if self._ending:
            self.close()


def _closed() -> FailedPrecondition:
    return FailedPrecondition("the process has no stdin any more: it has ended, or has closed it")
