"""A path socket that lets in root and our own user, nobody else, and does not spin when descriptors run out.

A connection that cannot be accepted for want of descriptors stays in the listener's queue, and epoll would tell of it again at
once, for ever; so the door is shut for a moment then.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from shimproc import linux
from shimproc.loop import READ, LoopLike

log = logging.getLogger(__name__)
SHUT_SECONDS: Final = 0.5
_SCARCE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listening(path: str, backlog: int) -> socket.socket:
    """A listening socket at ``path``, 0600 whatever the umask; one that was there is replaced."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - pathlib costs the shim memory
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(backlog)
    listener.setblocking(False)
    return listener


def connect_in(folder: str, name: str) -> socket.socket:
    """A connection to the path socket ``name`` in ``folder``, without ever waiting; non-blocking, the caller's.

    By way of the folder's descriptor: the whole path may exceed sun_path (unix(7)). ``BlockingIOError``: somebody listens and
    has not taken in so many that there is no room for one more; any other ``OSError``: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{fd}/{name}")
        finally:
            os.close(fd)
    except BaseException:
        sock.close()
        raise
    return sock


class Door:
    """Hands each connection of a peer that may come in to ``on_peer``, whose it is from then on.

    Parameters
    ----------
    listener : of ``listening``; this object's from now on.
    """

    def __init__(self, loop: LoopLike, listener: socket.socket, on_peer: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._listener = listener
        self._on_peer = on_peer
        self._open()

    def forget(self) -> None:
        """In a forked child: Python's own holder must not close the descriptor, which may be somebody else's by then."""
        self._listener.detach()

    def _open(self) -> None:
        self._loop.watch(self._listener.fileno(), READ, self._on_connection)

    def _on_connection(self, _: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError as error:
            if error.errno in _SCARCE:
                log.warning("a connection waits: %s", error)
                self._loop.unwatch(self._listener.fileno())
                self._loop.call_later(SHUT_SECONDS, self._open)
            return
        _, uid, _ = linux.peer_credentials(sock)
        if uid not in (0, os.getuid()):
            log.warning("uid %d was refused", uid)
            sock.close()
            return
        self._on_peer(sock)
