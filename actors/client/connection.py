"""A blocking connection: one DEALER socket, for one thread. It waits in poll(2), for an answer or for the line to come back."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import zmq

from actors.client.cursors import CREDIT, Cursor, Reading
from actors.client.line import EVENTS, GRACE, Curve, Line, dial
from actors.client.protocol import Exchanged, Session
from shimproc.errors import Unavailable

T = TypeVar("T")


class Connection:
    """See the module. ``patience``: seconds to wait for a daemon that is away."""

    def __init__(self, context: zmq.Context[Any], address: str, patience: float, curve: Curve | None) -> None:
        self._session = Session()
        self._line = Line(address, patience)
        self._socket = context.socket(zmq.DEALER)
        self._monitor = self._socket.get_monitor_socket(EVENTS)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self.close = weakref.finalize(self, _close, self._socket, self._monitor)  # also when its thread has ended
        try:
            dial(self._socket, address, curve)
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, namespace: str | None, params: Mapping[str, Any], timeout: float | None) -> Any:
        """A request and its result, or its error raised."""
        request = self._session.request(method, namespace, params, timeout)
        self._send(request)
        try:
            self._until(lambda: request.done, None if timeout is None else time.monotonic() + timeout + GRACE)
        finally:
            self._session.forget(request)
        return request.outcome()

    def ask_all(
        self, asked: Sequence[tuple[str, Mapping[str, Any]]], namespace: str | None, timeout: float | None
    ) -> list[Exchanged]:
        """Requests, ``(method, params)`` each, all at once; done when every one is answered, and ``outcome`` says how."""
        requests = [self._session.request(method, namespace, params, timeout) for method, params in asked]
        try:
            for request in requests:
                self._send(request)
            deadline = None if timeout is None else time.monotonic() + timeout + GRACE
            self._until(lambda: all(request.done for request in requests), deadline)
        finally:
            for request in requests:
                self._session.forget(request)
        return requests

    def stream(self, namespace: str | None, cursor: Cursor[T], deadline: float | None = None) -> Iterator[T]:
        """What a streaming method sends, over any number of lost connections; until ``deadline``, of time.monotonic."""
        goes_on = True
        while goes_on:
            request = self._session.request(cursor.method, namespace, {**cursor.params(), "credit": CREDIT}, None)
            reading = Reading(request, cursor)
            self._send(request)
            try:
                yield from self._read(reading, deadline)
                goes_on = request.broken or cursor.goes_on(request.error)
            finally:
                self._session.forget(request)
                if (params := reading.open_stream) is not None:
                    self._tell("stream.cancel", params)

    def _read(self, reading: Reading[T], deadline: float | None) -> Iterator[T]:
        request = reading.request
        while not (request.done or request.broken) or request.chunks:
            self._until(lambda: reading.moved, deadline)
            yield from reading.take()
            if not request.done and (params := reading.credit_due()) is not None:
                self._tell("stream.credit", params)

    def _send(self, request: Exchanged) -> None:
        """Now, or once the line is up."""
        self._drain_monitor()
        if self._line.up:
            self._socket.send_multipart((b"", request.body))
        else:
            self._line.hope()

    def _tell(self, method: str, params: Mapping[str, Any]) -> None:
        if self._line.up and not self._socket.closed:
            self._socket.send_multipart((b"", self._session.notice(method, params)))

    def _until(self, reached: Callable[[], bool], deadline: float | None) -> None:
        while not reached():
            if self._socket.closed:
                raise Unavailable("this client was closed")
            left = self._line.left(deadline)
            ready = dict(self._poller.poll(None if left is None else int(left * 1000) + 1))
            if self._monitor in ready:
                self._drain_monitor()
            if self._socket in ready:
                self._drain_socket()

    def _drain_socket(self) -> None:
        """All that is there: an answer is not overtaken by what happened to the line after it."""
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            self._session.receive(self._socket.recv_multipart()[-1])

    def _drain_monitor(self) -> None:
        while self._monitor.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            if self._line.observe(self._monitor.recv_multipart()):
                self._drain_socket()
                self._session.cut_streams()
                for request in self._session.unanswered():
                    self._socket.send_multipart((b"", request.body))


def _close(socket: zmq.Socket[Any], monitor: zmq.Socket[Any]) -> None:
    """Let go of the sockets; the daemon ends what streamed."""
    socket.disable_monitor()
    monitor.close(linger=0)
    socket.close(linger=0)
