"""Processes as /proc tells them: whose they are, what they hold open, and their end (by pidfd, so never another's)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

END_SECONDS = 15.0


@dataclass(frozen=True)
class Process:
    """One process at one moment."""

    pid: int
    parent: int
    state: str
    name: str
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name}: {self.command})"


def belonging_to(folder: Path, mark: str) -> list[Process]:
    """Every process that names ``folder`` in its command line or as ``mark`` in its environment, and all below."""
    everyone = {process.pid: process for process in _all()}
    ours = {pid for pid in everyone if pid != os.getpid() and _names(pid, str(folder), mark)}
    while children := {pid for pid, process in everyone.items() if process.parent in ours} - ours:
        ours |= children
    return [everyone[pid] for pid in sorted(ours)]


def kill_and_wait(processes: Iterable[Process]) -> None:
    """SIGKILL each, and wait for its end."""
    fds = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            fds.append(os.pidfd_open(process.pid))
    try:
        for fd in fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert all_ended(fds), "a process survived SIGKILL"
    finally:
        for fd in fds:
            os.close(fd)


def all_ended(pidfds: Iterable[int], seconds: float = END_SECONDS) -> bool:
    """Wait until the processes of these pidfds have ended; False if one has not in time."""
    deadline = time.monotonic() + seconds
    for fd in pidfds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0, (deadline - time.monotonic()) * 1000)):
            return False
    return True


@contextlib.contextmanager
def pidfds_of(pids: Iterable[int]) -> Iterator[list[int]]:
    """A pidfd each, closed at the end."""
    fds = [os.pidfd_open(pid) for pid in pids]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def descriptors(pid: int) -> Counter[str]:
    """What a process holds open: kinds and paths, without the numbers that differ each time."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[re.sub(r":\[\d+\]", "", str(entry.readlink()))] += 1
    return found


def threads(pid: int) -> Counter[str]:
    """The names of a process's threads."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found[(entry / "comm").read_text().strip()] += 1
    return found


def mounts_below(folder: Path, pid: int | str = "self") -> list[str]:
    """Mount points below ``folder`` in the mount namespace of ``pid``, in the order of mounting."""
    lines = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    return [point for point in (line.split()[1] for line in lines) if point.startswith(f"{folder}/")]


def _all() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield _read(entry)


def _read(entry: Path) -> Process:
    # proc(5), stat: "pid (comm) state ppid ..."; comm may hold spaces and parentheses.
    head, _, tail = (entry / "stat").read_text(errors="replace").rpartition(")")
    state, parent = tail.split()[:2]
    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(int(entry.name), int(parent), state, head.partition("(")[2], command)


def _names(pid: int, folder: str, mark: str) -> bool:
    with contextlib.suppress(OSError):
        if folder.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return True
        return f"{mark}={folder}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
