"""The line to the daemon: the socket's options, whether it is up, and why it is not.

Every request that has no answer is sent again once the line is up again (``Session.unanswered``), so a daemon that was
killed and started is not noticed but for the time it took.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq

from shimproc.errors import DeadlineExceeded, InvalidArgument, ShimyardError, Unavailable

PATIENCE: Final = 10.0
"""Seconds that a client waits for a daemon, at first or again."""
GRACE: Final = 2.0
"""Seconds that the daemon's own ``deadline_exceeded`` may be late."""
EVENTS: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_MONITORED: Final = struct.Struct("=HI")
"""Event and value (zmq_socket_monitor(3)); pyzmq's own parser imports asyncio with it, which takes longer than all else here."""
_IPC: Final = "ipc://"
_RECONNECT_MS: Final = (20, 500)
_HEARTBEAT_MS: Final = (5_000, 15_000)


@dataclass(frozen=True, slots=True)
class Curve:
    """Keys for a ``tcp://`` address (CurveZMQ, Z85): the daemon's public one, and this client's own pair."""

    server: bytes
    public: bytes
    secret: bytes

    @classmethod
    def load(cls, server: str | Path, own: str | Path) -> Curve:
        """From files of ``shimyard keys`` (zmq.auth's format): the daemon's ``.key`` and one's own ``.key_secret``."""
        import zmq.auth  # noqa: PLC0415 - only for those who have keys

        try:
            server_public, _ = zmq.auth.load_certificate(server)
            public, secret = zmq.auth.load_certificate(own)
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"curve: {error}") from error
        if secret is None:
            raise InvalidArgument(f"curve: {own} has no secret key; name the file that ends in .key_secret")
        return cls(server_public, public, secret)


def dial(socket_: zmq.Socket[Any], address: str, curve: Curve | None) -> None:
    """Connect a fresh DEALER, in the background. ``InvalidArgument`` for an address that cannot be one."""
    socket_.linger = 0
    socket_.sndhwm = socket_.rcvhwm = 0  # what is in flight is bounded by those who wait for it
    socket_.reconnect_ivl, socket_.reconnect_ivl_max = _RECONNECT_MS
    socket_.heartbeat_ivl, socket_.heartbeat_timeout = _HEARTBEAT_MS
    if curve is not None:
        socket_.curve_serverkey, socket_.curve_publickey, socket_.curve_secretkey = curve.server, curve.public, curve.secret
    try:
        socket_.connect(address)
    except zmq.ZMQError as error:
        raise InvalidArgument(f"address: {address!r} is none: {error.strerror}; such as ipc:///run/shimyard/api.sock") from error


class Line:
    """Is it up, and if not, for how long may one still hope?"""

    def __init__(self, address: str, patience: float) -> None:
        self._address = address
        self._patience = patience
        self._down_since: float | None = time.monotonic()
        self._refused = False

    @property
    def up(self) -> bool:
        """Is there somebody to send to?"""
        return self._down_since is None

    def observe(self, frames: list[bytes]) -> bool:
        """Take in what the socket's monitor says; True if the line has come up."""
        event, _ = _MONITORED.unpack(frames[0])
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._down_since, self._refused = None, False
            return True
        self._refused = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        if self._down_since is None:
            self._down_since = time.monotonic()
        return False

    def hope(self) -> None:
        """A new request begins: it has all the patience."""
        if self._down_since is not None:
            self._down_since = time.monotonic()

    def left(self, deadline: float | None) -> float | None:
        """Seconds that may still be waited, None for as long as it takes; raises once there is nothing to wait for."""
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            raise DeadlineExceeded("no answer within the timeout; what was begun goes on")
        ends = [] if deadline is None else [deadline]
        if self._down_since is not None:
            if now >= self._down_since + self._patience:
                raise self._away()
            ends.append(self._down_since + self._patience)
        return min(ends) - now if ends else None

    def _away(self) -> ShimyardError:
        if self._refused:
            return Unavailable(f"{self._address} refused this client's key; have it allowed there (api.clients)")
        return Unavailable(f"no daemon answers at {self._address}{why_silent(self._address)}")


def why_silent(address: str) -> str:
    """The reason, as far as this host can tell, with the remedy; begins with ": "."""
    if not address.startswith(_IPC):
        return ": check the address, and the keys of both sides"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.removeprefix(_IPC))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return ": its socket is another user's; ask as that user or as root"
            return f": {error.strerror}; start one: shimyard daemon"
    return ": it listens, but says nothing; see its log"
