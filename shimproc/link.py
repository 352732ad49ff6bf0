"""One stream socket that carries frames both ways, never blocking; descriptors may ride along (unix(7), SCM_RIGHTS).

What cannot be sent at once is kept and sent when the socket is writable. A peer that does not read is bounded:
beyond ``MAX_BACKLOG`` bytes the link closes itself, since frames are never dropped in silence.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shimproc.errors import ShimyardError
from shimproc.loop import READ, WRITE, LoopLike
from shimproc.wire import FrameReader, encode

log = logging.getLogger(__name__)
MAX_BACKLOG = 128 << 20
_CHUNK = 256 << 10
_MAX_FDS = 16


class Link:
    """A connected stream socket on a loop.

    Parameters
    ----------
    on_message : called with each whole message and the descriptors that came with its last bytes (now the callee's).
    on_close : called once, with nothing left to read, when the peer is gone or the link was broken; not after ``close``.
    """

    def __init__(
        self,
        loop: LoopLike,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any], list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._on_message = on_message
        self._on_close = on_close
        self._reader = FrameReader()
        self._waiting: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._backlog = 0
        self._blocked = False
        self.closed = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._on_ready)

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send, or queue, one message; descriptors stay the caller's (those of a message that waits are duplicated)."""
        if self.closed:
            return
        data = memoryview(encode(message))
        if not self._waiting and (sent := self._put(data, fds)):
            data, fds = data[sent:], ()
        if data:
            self._waiting.append((data, _duplicates(fds)))
            self._backlog += len(data)
            self._await_room()
        if self._backlog > MAX_BACKLOG:
            self._broken()

    def close(self) -> None:
        """Let go of the socket; ``on_close`` is not called."""
        if self.closed:
            return
        self.closed = True
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()

    def hand_over(
        self, on_message: Callable[[dict[str, Any], list[int]], None], on_close: Callable[[], None]
    ) -> None:
        """Messages go elsewhere from now on."""
        self._on_message, self._on_close = on_message, on_close

    def read(self) -> None:
        """Take in all that has come already."""
        while not self.closed and self._receive():
            pass

    def _broken(self) -> None:
        if not self.closed:
            self.close()
            self._on_close()

    def _on_ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and not self.closed:
            self._receive()

    def _receive(self) -> bool:
        """Was there something?"""
        try:
            data, fds = _receive_with_fds(self._socket)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._broken()
            return False
        messages: list[dict[str, Any]] = []
        try:
            messages = self._reader.feed(data)
        except ShimyardError:
            data = b""
        if not data:
            _close_all(fds)
            self._broken()
            return False
        for position, message in enumerate(messages):
            last = position == len(messages) - 1
            try:
                self._on_message(message, fds if last else [])
            except Exception:  # a fault with one message must not cost the others that came with it
                log.exception("a message of a link failed")
            if self.closed:
                return False
        return True

    def _flush(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            sent = self._put(data, fds)
            if not sent:
                return
            _close_all(fds)
            self._backlog -= sent
            if sent == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = (data[sent:], ())
        self._blocked = False
        self._loop.watch(self._socket.fileno(), READ, self._on_ready)

    def _await_room(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._loop.watch(self._socket.fileno(), READ | WRITE, self._on_ready)

    def _put(self, data: memoryview, fds: Sequence[int]) -> int:
        """How many bytes could be sent; descriptors go with the first."""
        try:
            return socket.send_fds(self._socket, [data], list(fds)) if fds else self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._loop.call_soon(self._broken)
            return 0


def _duplicates(fds: Sequence[int]) -> Sequence[int]:
    """For a message that waits. Without room for them it goes without, and the peer sees that."""
    made: list[int] = []
    try:
        for fd in fds:
            made.append(os.dup(fd))  # noqa: PERF401 - what was made is closed
    except OSError:
        _close_all(made)
        return ()
    return made


def _receive_with_fds(sock: socket.socket) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = sock.recvmsg(_CHUNK, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
