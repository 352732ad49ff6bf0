"""Bound ZeroMQ sockets. For ipc we bind the unix socket ourselves, under a umask, and hand it to libzmq (ZMQ_USE_FD).

The caller holds the daemon's lock: a second bind on an ipc path would silently steal it.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from pathlib import Path
from typing import Final

import zmq

from shimproc.errors import FailedPrecondition, InvalidArgument

MAX_PATH: Final = 107
_BACKLOG: Final = 1024


def bind_ipc(made: zmq.Socket[bytes], path: Path, group: str) -> None:
    """Bind ``made`` to a unix socket: 0600, or 0660 for ``group``.

    The listening descriptor is libzmq's from now on, and is closed with the socket.
    """
    made.setsockopt(zmq.USE_FD, listening(path, group).detach())
    made.bind(f"ipc://{path}")
    made.setsockopt(zmq.USE_FD, -1)


def listening(path: Path, group: str) -> socket.socket:
    """A unix socket that listens at ``path``, 0600, or 0660 for ``group``; one that was there is replaced."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise FailedPrecondition(f"{path} is longer than the {MAX_PATH} bytes of a unix socket's path; name a shorter --state")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117 if group else 0o177)
    try:
        listener.bind(str(path))
        if group:
            os.chown(path, -1, _gid(group))
    except OSError as error:
        listener.close()
        raise FailedPrecondition(f"cannot bind {path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    listener.listen(_BACKLOG)
    return listener


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise InvalidArgument(f"api.group: there is no group {group!r} on this host") from error


def source_fd(frame: zmq.Frame) -> int | None:
    """The descriptor of the connection that it came over, this client's while it is open; None for what libzmq says itself."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return None
