"""Who descends from a process, by ``/proc/PID/task/TID/children`` (proc(5)); signals by pidfd."""

from __future__ import annotations

import contextlib
import os
import signal


def children(pid: int) -> list[int]:
    """The children of a process; none if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def of(pid: int) -> list[int]:
    """A process and all that descends from it; none if it is gone."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        if os.path.exists(f"/proc/{current}"):
            found.append(current)
            waiting += children(current)
    return found


def session(pid: int) -> int | None:
    """The session of a process, or None if it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def send(pid: int, number: int) -> None:
    """Signal a process that may have ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)
