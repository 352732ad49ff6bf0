"""Readiness and stopping, told to whoever started the daemon (sd_notify(3)): one datagram, if NOTIFY_SOCKET is set."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send e.g. ``READY=1``; a leading ``@`` in the socket's name stands for an abstract one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
