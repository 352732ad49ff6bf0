"""Turning a loop by hand: one round after another until something is so, or until that takes too long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from shimproc.loop import Loop

SECONDS = 20.0


def until(loop: Loop, so: Callable[[], bool]) -> None:
    """Turn ``loop`` until ``so()``; a round waits for events, and looks again ten times a second."""
    deadline = time.monotonic() + SECONDS
    while not so():
        assert time.monotonic() < deadline, f"not so after {SECONDS} seconds"
        loop.round(0.1)


def read_all(loop: Loop, fd: int, size: int, block: int = 1 << 20) -> bytes:
    """``size`` bytes, as they come, ``block`` at most a turn."""
    found = bytearray()

    def enough() -> bool:
        try:
            found.extend(os.read(fd, block))
        except BlockingIOError:
            return False
        return len(found) >= size

    until(loop, enough)
    return bytes(found)


def descriptors() -> list[str]:
    """What this process has open, without the descriptor that looked."""
    listed = os.listdir("/proc/self/fd")  # noqa: PTH208 - names, not paths
    return sorted(name for name in listed if _is_open(int(name)))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
