"""Where the metrics are served: from the config's address to a page for whoever asks."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import stat
from pathlib import Path

import pykka

from actors.dispatch import post
from actors.metrics.actor import MetricsActor, Scrape, Snapshot
from actors.metrics.exposition import Exposition
from actors.metrics.server import Done, Server
from actors.sockets import listening
from shimproc.errors import FailedPrecondition, InvalidArgument
from shimproc.flow import Pending

log = logging.getLogger(__name__)
_BACKLOG = 64
_EXPECTED = "expected HOST:PORT, such as 127.0.0.1:9187 or [::1]:9187, or the absolute path of a unix socket"


class Endpoint:
    """Bound at once, so that a daemon whose metrics cannot be served says so at its start; served later.

    Parameters
    ----------
    path : of a unix socket, to be removed at the end.
    """

    def __init__(self, exposition: Exposition, listener: socket.socket, path: Path | None) -> None:
        self._exposition = exposition
        self._listener = listener
        self._path = path
        self._server: Server | None = None

    @classmethod
    def open(cls, address: str, group: str, database: Path) -> Endpoint | None:
        """None without an address. ``InvalidArgument`` or ``FailedPrecondition`` names what hinders it, and the remedy."""
        if not address:
            return None
        exposition = Exposition(database)
        path = Path(address) if address.startswith("/") else None
        listener = _bound(address) if path is None else _bound_at(path, group)
        listener.setblocking(False)
        return cls(exposition, listener, path)

    def serve(self, metrics: pykka.ActorRef[MetricsActor]) -> None:
        """From now on, what this actor knows."""

        def ask(accept: str, done: Done) -> None:
            receipt: Pending[Snapshot] = Pending()
            receipt.then(lambda outcome: done(None if outcome.error else lambda: self._exposition.text(outcome.result(), accept)))
            post(metrics, Scrape(receipt))

        self._server = Server(self._listener, ask)
        log.info("metrics at %s", self._path or f"http://{_shown(self._listener)}/metrics")

    def close(self) -> None:
        """No more."""
        if self._server is None:
            self._listener.close()
        else:
            self._server.stop()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise InvalidArgument(f"metrics.address: {address!r}: {_EXPECTED}")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
    except OSError as error:
        taken = "; another program listens there, name another port" if error.errno == errno.EADDRINUSE else ""
        raise FailedPrecondition(f"metrics.address: {address} cannot be served: {error.strerror}{taken}") from error


def _bound_at(path: Path, group: str) -> socket.socket:
    """One that a killed daemon has left is replaced; what is no socket, or is somebody's, stays."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FailedPrecondition(f"metrics.address: {path} is there and is no socket; name another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise FailedPrecondition(f"metrics.address: another program listens at {path}; name another path")
    return listening(path, group)


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
