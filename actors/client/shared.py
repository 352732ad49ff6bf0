"""A blocking connection that several threads may use at once: one waits at the sockets, the others for what it takes in.

A ZeroMQ socket is nobody's in particular as long as its users follow one another with a lock between them (zmq_socket(3),
"Thread safety"). So all that touches one is done under the lock; only the waiting, at their descriptors, is not. Those tell of
an edge: who has taken something in wakes the one that waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from actors.client.line import EVENTS, GRACE, Curve, Line, dial
from actors.client.protocol import Exchanged, Session
from shimproc.errors import Unavailable


class SharedConnection:
    """See the module. ``patience``: seconds to wait for a daemon that is away."""

    def __init__(self, context: zmq.Context[Any], address: str, patience: float, curve: Curve | None) -> None:
        self._session = Session()
        self._line = Line(address, patience)
        self._changed = threading.Condition(threading.Lock())
        self._is_waited_at = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._socket = context.socket(zmq.DEALER)
        self._monitor = self._socket.get_monitor_socket(EVENTS)
        self._poll = select.poll()
        for fd in (self._socket.getsockopt(zmq.FD), self._monitor.getsockopt(zmq.FD), self._wake):
            self._poll.register(fd, select.POLLIN)
        self._finalizer = weakref.finalize(self, _close, self._socket, self._monitor, self._wake)
        try:
            dial(self._socket, address, curve)
        except BaseException:
            self._finalizer()
            raise

    def close(self) -> None:
        """Let go of the sockets; who waits gets ``Unavailable``. Harmless when it is done already."""
        with self._changed:
            if not self._socket.closed:
                self._socket.disable_monitor()
                self._monitor.close(linger=0)
                self._socket.close(linger=0)
                self._stir()
            if not self._is_waited_at:
                self._finalizer()

    def request(self, method: str, namespace: str | None, params: Mapping[str, Any]) -> Exchanged:
        """Send one, now or once the line is up."""
        with self._changed:
            self._check_open()
            request = self._session.request(method, namespace, params, None)
            self._take_in()
            if request.broken:  # it was for a connection that is no more
                return request
            if self._line.up:
                self._socket.send_multipart((b"", request.body))
                request.sent = True
                self._take_in()  # a send may have used up the edge of an arrival
            else:
                self._line.hope()
            self._stir()
            return request

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Send one whose answer nobody waits for, if the line is up."""
        with self._changed:
            if self._socket.closed or not self._line.up:
                return
            self._socket.send_multipart((b"", self._session.notice(method, params)))
            self._take_in()
            self._stir()

    def forget(self, request: Exchanged) -> None:
        """Nobody waits for it any more."""
        with self._changed:
            self._session.forget(request)

    def until(self, reached: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait. ``DeadlineExceeded`` after so many seconds, ``Unavailable`` for a daemon that stays away."""
        deadline = None if timeout is None else time.monotonic() + timeout + GRACE
        with self._changed:
            while True:
                self._check_open()
                self._take_in()
                if reached():
                    return
                left = self._line.left(deadline)
                if self._is_waited_at:
                    self._changed.wait(left)
                else:
                    self._wait(left)

    def _wait(self, left: float | None) -> None:
        """At the descriptors, without the lock."""
        self._is_waited_at = True
        self._changed.release()
        try:
            self._poll.poll(None if left is None else int(left * 1000) + 1)
        finally:
            self._changed.acquire()
            self._is_waited_at = False
            if self._socket.closed:
                self._finalizer()
            else:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            self._changed.notify_all()

    def _take_in(self) -> None:
        """All that is there. What came over the line is before what happened to it."""
        while self._monitor.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            if self._line.observe(self._monitor.recv_multipart()):
                self._drain()
                self._session.cut_streams()
                for request in self._session.unanswered():
                    self._socket.send_multipart((b"", request.body))
            self._stir()
        self._drain()

    def _drain(self) -> None:
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._session.receive(self._socket.recv_multipart()[-1])
            self._stir()

    def _stir(self) -> None:
        """Something has changed for the others."""
        self._changed.notify_all()
        if self._is_waited_at:
            os.eventfd_write(self._wake, 1)

    def _check_open(self) -> None:
        if self._socket.closed:
            raise Unavailable("this client was closed")


def _close(socket: zmq.Socket[Any], monitor: zmq.Socket[Any], wake: int) -> None:
    """Let go of all; the daemon ends what streamed."""
    if not socket.closed:
        socket.disable_monitor()
        monitor.close(linger=0)
        socket.close(linger=0)
    os.close(wake)
