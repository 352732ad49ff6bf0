"""In place of ZeroMQ: a ROUTER that clients of the simulation reach, and an XPUB that keeps what is published."""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from tests.simulation.kernel import File, Kernel
from tests.simulation.stage import STAGE

_GONE = struct.Struct("=HI")


class Frame:
    """Of a message: what ``zmq.Frame`` is asked here."""

    def __init__(self, data: bytes, fd: int = 0) -> None:
        self.bytes = data
        self.buffer = memoryview(data)
        self._fd = fd

    def get(self, name: Any) -> Any:
        """The peer is root, on a connection of its own."""
        if name == zmq.SRCFD:
            return self._fd
        if name == "Peer-Address":

            return f"sim:{os.getuid()}:0:1"
        raise zmq.ZMQError(zmq.EINVAL)


class Inbox(File):
    """What waits at a socket."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self.messages: deque[list[Frame]] = deque()

    def events(self) -> int:
        return 1 if self.messages else 0


class SimZmq:
    """A socket of the daemon's."""

    def __init__(self, kind: int) -> None:
        self.kernel = STAGE.kernel
        self.kind = kind
        self.inbox = Inbox(self.kernel)
        self.fd = self.kernel.open(self.inbox)
        self.linger = 0
        self.monitor: SimZmq | None = None

    def getsockopt(self, option: int) -> int:
        if option == zmq.FD:
            return self.fd
        return zmq.POLLIN if self.inbox.messages else 0

    def setsockopt(self, *_: Any) -> None:
        """Whatever it is."""

    def get_monitor_socket(self, _events: int = 0) -> SimZmq:
        self.monitor = SimZmq(zmq.PAIR)
        return self.monitor

    def disable_monitor(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
            self.monitor = None

    def close(self, linger: int = 0) -> None:
        if self.fd in self.kernel.fds:
            self.kernel.close(self.fd)

    def recv_multipart(self, _flags: int = 0, copy: bool = True) -> list[Any]:
        if not self.inbox.messages:
            raise zmq.Again
        message = self.inbox.messages.popleft()
        return [frame.bytes for frame in message] if copy else message

    def recv(self, flags: int = 0, copy: bool = True) -> Any:
        return self.recv_multipart(flags, copy)[0]

    def send_multipart(self, parts: Sequence[bytes], _flags: int = 0) -> None:
        self.kernel.enter()
        if self.kind == zmq.XPUB:
            STAGE.world.published.append((self.kernel.current.pid, bytes(parts[0]), bytes(parts[1])))
            return
        client = STAGE.world.clients.get(bytes(parts[0]))
        if client is None:
            raise zmq.ZMQError(zmq.EHOSTUNREACH)
        client.deliver(self, bytes(parts[2]))

    def put(self, frames: list[Frame]) -> None:
        """From outside."""
        if self.fd in self.kernel.fds:
            self.inbox.messages.append(frames)
            self.inbox.poke()

    def hang_up(self, fd: int) -> None:
        """A client's connection is closed."""
        if self.monitor is not None:
            self.monitor.put([Frame(_GONE.pack(zmq.EVENT_DISCONNECTED, fd))])


class SimContext:
    """In place of ``zmq.Context``."""

    def socket(self, kind: int) -> SimZmq:
        return SimZmq(kind)

    def destroy(self, linger: int = 0) -> None:
        """Nothing is left to send."""


class ZmqModule:
    """In place of ``zmq`` in the composition root."""

    Context = SimContext

    def __getattr__(self, name: str) -> Any:
        return getattr(zmq, name)


def bind_ipc(made: SimZmq, path: Any, _group: str) -> None:
    """In place of ``actors.sockets.bind_ipc``: clients find the daemon from now on."""
    with contextlib.suppress(AttributeError):
        if made.kind == zmq.ROUTER:
            STAGE.world.serve(made)
