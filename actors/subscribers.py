"""The subscribers of the XPUB: each is welcomed with ``_/hello``, and none may subscribe without end.

libzmq's own welcome message is a single frame, and an event has two; so the hello is sent to the one pipe that
subscribed (ZMQ_XPUB_MANUAL_LAST_VALUE, in every libzmq from 4.3.2 on). In that mode each message that is received names
a pipe, the oldest that has a subscription waiting: also a message that is no subscription, such as an XSUB may send. What is
received after that names the pipe of a later one, until all is received (xpub.cpp, ``xrecv``, in 4.3.5). So in such a
batch each pipe that is named gets everything; a SUB lets its own user see only what was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as sockets
import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import zmq

from actors.sockets import source_fd
from shimproc.loop import READ, LoopLike

log = logging.getLogger(__name__)
MAX_LENGTH: Final = 1024
"""Bytes of a subscription: a namespace and a topic are shorter, and libzmq keeps forty for each."""
_MANUAL_LAST_VALUE: Final = 98  # zmq.h: a draft's number, served by release builds
_MONITORED: Final = struct.Struct("=HI")
_DRAIN: Final = 256


class Subscribers:
    """What comes in at the events socket.

    Parameters
    ----------
    hello : (topic, body) for a new subscriber whose prefix lets it in.
    limit : subscriptions that one connection may have; one with more is closed.
    """

    def __init__(
        self, loop: LoopLike, socket: zmq.Socket[bytes], hello: Callable[[], tuple[bytes, bytes]], limit: int
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._hello = hello
        self._limit = limit
        self._prefixes: defaultdict[int | None, set[bytes]] = defaultdict(set)
        self._shifted = False

    def __len__(self) -> int:
        """How many connections have a subscription."""
        return sum(map(bool, self._prefixes.values()))

    def start(self) -> None:
        """Begin to serve them."""
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._fds = (int(self._socket.getsockopt(zmq.FD)), int(self._monitor.getsockopt(zmq.FD)))
        self._loop.watch(self._fds[0], READ, lambda _: self.drain())
        self._loop.watch(self._fds[1], READ, lambda _: self._on_disconnect())
        self._on_disconnect()  # a descriptor of libzmq tells nothing until EVENTS has been asked (zmq_getsockopt(3))
        self.drain()

    def stop(self) -> None:
        """Let go of the descriptors."""
        for fd in self._fds:
            self._loop.unwatch(fd)
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def drain(self) -> None:
        """A bounded number a turn. The descriptor is edge-triggered: ask EVENTS until it is dry, and after each send."""
        for _ in range(_DRAIN):
            if not self._more():
                self._shifted = False
                return
            self._take(self._socket.recv(zmq.DONTWAIT, copy=False))
        self._loop.call_soon(self.drain)

    def _more(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def _take(self, frame: zmq.Frame) -> None:
        body = frame.bytes
        if body[:1] not in (b"\0", b"\1"):
            self._shifted = self._shifted or self._more()
        welcome = body[:1] == b"\1" and self._allowed(frame, body[1:])
        if self._shifted:
            self._welcome(b"")
        elif welcome:
            self._welcome(body[1:])
        elif body[:1] == b"\0":
            self._socket.setsockopt(zmq.UNSUBSCRIBE, body[1:])
            if (fd := source_fd(frame)) in self._prefixes:
                self._prefixes[fd].discard(body[1:])

    def _welcome(self, prefix: bytes) -> None:
        """Subscribe the pipe that asked; if it will see ``_/hello``, it alone gets one now."""
        topic, body = self._hello()
        if not topic.startswith(prefix):
            self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
            return
        self._socket.setsockopt(_MANUAL_LAST_VALUE, 1)
        self._socket.setsockopt(zmq.SUBSCRIBE, prefix)
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart((topic, body), zmq.DONTWAIT)
        self._socket.setsockopt(_MANUAL_LAST_VALUE, 0)
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)

    def _allowed(self, frame: zmq.Frame, prefix: bytes) -> bool:
        """libzmq keeps each subscription, whatever we say to it: whoever has too many is disconnected."""
        fd = source_fd(frame)
        if fd is None:
            return True
        self._prefixes[fd].add(prefix)
        if len(self._prefixes[fd]) <= self._limit:
            return True
        self._on_disconnect()
        if fd in self._prefixes:
            log.warning(
                "a subscriber (%s) has more than %d subscriptions and is disconnected; subscribe to a shorter prefix, "
                "or raise events.subscriptions_per_client",
                frame.get("Peer-Address"),
                self._limit,
            )
            _hang_up(fd)
        return False

    def _on_disconnect(self) -> None:
        while int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            _event, fd = _MONITORED.unpack(self._monitor.recv_multipart(zmq.DONTWAIT)[0])
            self._prefixes.pop(fd, None)


def _hang_up(fd: int) -> None:
    """Shut a connection down: libzmq, whose descriptor it is, sees its end. Only what was accepted has a name of ours."""
    with contextlib.suppress(OSError), sockets.socket(fileno=os.dup(fd)) as connection:
        if connection.getsockname():
            connection.shutdown(sockets.SHUT_RDWR)
