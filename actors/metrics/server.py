"""HTTP for scrapes, in one thread with a loop of its own: however slow or silent a client is, it holds up nobody.

One request a connection (RFC 9112; ``Connection: close``), GET or HEAD. A connection has so many seconds for all of it. When
there are as many as may be, the one that has waited longest without a whole request goes; where each has one, the new one.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from actors.metrics.exposition import Text
from shimproc.loop import READ, WRITE, Loop

log = logging.getLogger(__name__)
CONNECTIONS: Final = 32
SECONDS: Final = 15.0
MAX_HEAD: Final = 8192
_SHUT_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 5.0
_PLAIN: Final = "text/plain; charset=utf-8"
Done = Callable[[Callable[[], Text] | None], None]
"""Takes, from any thread, what makes the page: it is called in the server's thread. None: there can be none now."""


class Server:
    """Of one page.

    Parameters
    ----------
    listener : listening, non-blocking; this object's from now on.
    ask : called in the server's thread with an Accept header, and with where its answer goes.
    """

    def __init__(self, listener: socket.socket, ask: Callable[[str, Done], None]) -> None:
        self._listener = listener
        self._ask = ask
        self._loop = Loop()
        self._open: dict[int, Connection] = {}
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more answers; connections are closed."""
        self._loop.stop()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        self._accept()
        self._loop.run()
        for connection in list(self._open.values()):
            connection.close()
        self._listener.close()
        self._loop.close()

    def _accept(self) -> None:
        self._loop.watch(self._listener.fileno(), READ, lambda _: self._on_connection())

    def _on_connection(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptors: it stays in the queue, and epoll would tell of it again at once
            log.warning("a scrape waits: %s", error)
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(_SHUT_SECONDS, self._accept)
            return
        sock.setblocking(False)
        if len(self._open) >= CONNECTIONS and not self._make_room():
            log.warning("a scrape was turned away: %d are being answered", CONNECTIONS)
            sock.close()
            return
        connection = Connection(self._loop, sock, self._serve, self._open.pop)
        self._open[sock.fileno()] = connection

    def _make_room(self) -> bool:
        idle = next((one for one in self._open.values() if not one.asked), None)
        if idle is not None:
            idle.close()
        return idle is not None

    def _serve(self, connection: Connection, head: str) -> None:
        line, _, fields = head.partition("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            connection.answer(HTTPStatus.BAD_REQUEST, Text(_PLAIN, b"expected an HTTP/1.1 request\n"))
        elif words[0] not in ("GET", "HEAD"):
            connection.answer(HTTPStatus.METHOD_NOT_ALLOWED, Text(_PLAIN, b"only GET and HEAD are served\n"))
        elif words[1].partition("?")[0] != "/metrics":
            connection.answer(HTTPStatus.NOT_FOUND, Text(_PLAIN, b"only /metrics is here\n"))
        else:
            connection.without_body = words[0] == "HEAD"
            self._ask(_field(fields, "accept"), lambda make: self._loop.call_from_thread(lambda: _give(connection, make)))


class Connection:
    """One request, one answer.

    Parameters
    ----------
    serve : gets the whole head of the request.
    on_close : called with its descriptor, before that is closed.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        serve: Callable[[Connection, str], None],
        on_close: Callable[[int], object],
    ) -> None:
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._serve = serve
        self._on_close = on_close
        self._head = bytearray()
        self._left = memoryview(b"")
        self.asked = False
        self.without_body = False
        self._timer = loop.call_later(SECONDS, self.close)
        loop.watch(sock.fileno(), READ, lambda _: self._on_readable())

    def answer(self, status: HTTPStatus, text: Text) -> None:
        """Send it, at the client's pace."""
        if self._sock is None:
            return
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {text.type}\r\n"
            f"Content-Length: {len(text.body)}\r\nConnection: close\r\n\r\n"
        )
        self._left = memoryview(head.encode() + (b"" if self.without_body else text.body))
        self._loop.watch(self._sock.fileno(), WRITE, lambda _: self._on_writable())

    def close(self) -> None:
        """Whatever is still to be sent."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._timer.cancel()
            self._loop.unwatch(sock.fileno())
            self._on_close(sock.fileno())
            sock.close()

    def _on_readable(self) -> None:
        assert self._sock is not None
        try:
            piece = self._sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.close()
            return
        self._head += piece
        if b"\r\n\r\n" in self._head:
            self._loop.watch(self._sock.fileno(), 0, lambda _: self.close())  # it hung up
            self.asked = True
            self._serve(self, self._head.partition(b"\r\n\r\n")[0].decode("latin-1"))
        elif len(self._head) > MAX_HEAD:
            self.asked = True
            self.answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, Text(_PLAIN, b"the request's head is too long\n"))

    def _on_writable(self) -> None:
        assert self._sock is not None
        try:
            self._left = self._left[self._sock.send(self._left) :]
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("a scrape was not read to its end: %s", error)
            self._left = memoryview(b"")
        if not self._left:
            self.close()


def _give(connection: Connection, make: Callable[[], Text] | None) -> None:
    try:
        if make is not None:
            connection.answer(HTTPStatus.OK, make())
            return
    except Exception:
        log.exception("the metrics cannot be told")
    connection.answer(HTTPStatus.SERVICE_UNAVAILABLE, Text(_PLAIN, b"the metrics cannot be told now\n"))


def _field(fields: str, name: str) -> str:
    """A header field's value; "" if there is none."""
    for line in fields.split("\r\n"):
        found, _, value = line.partition(":")
        if found.strip().lower() == name:
            return value.strip()
    return ""
