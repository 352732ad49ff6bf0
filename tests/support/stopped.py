"""Processes that do not answer: stopped by SIGSTOP, and with no room for one more connection."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from shimproc.door import connect_in

MOST = 1000


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stopped until the end, unless it was killed meanwhile."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":  # the kernel is about to
            os.sched_yield()
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        os.close(pidfd)


@contextlib.contextmanager
def crowded(folder: Path, name: str) -> Iterator[None]:
    """Nobody more can connect to the path socket; whoever serves it must be stopped."""
    with contextlib.ExitStack() as waiting:
        with contextlib.suppress(BlockingIOError):
            for _ in range(MOST):
                sock: socket.socket = connect_in(str(folder), name)
                waiting.callback(sock.close)
            raise AssertionError(f"{folder / name} has room for {MOST}")
        yield
