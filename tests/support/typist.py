"""A person at a terminal: a command in a pseudoterminal of its own, what it shows, and what is typed."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

SECONDS = 30
COOKED = termios.ICANON | termios.ECHO | termios.ISIG


class Typist:
    """Starts the command in a session of its own, with the terminal as its controlling one."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (80, 24)) -> None:
        self.fd, theirs = os.openpty()
        self._theirs = theirs  # kept open, so that the terminal's modes can be looked at after the command has ended
        self.resize(*size)
        self.shown = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=dict(environment)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.close(self.fd)  # SIGHUP
            self.fd = -1
            try:
                self.process.wait(SECONDS)
            finally:
                self.process.kill()
        self.process.wait()
        for fd in (self.fd, self._theirs):
            if fd >= 0:
                os.close(fd)

    def type(self, text: str) -> None:
        """Key by key or all at once; ``\\r`` is Return."""
        os.write(self.fd, text.encode())

    def resize(self, width: int, height: int) -> None:
        """The window; the command gets SIGWINCH."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def until(self, text: str) -> str:
        """What was shown up to this, which is not shown again."""
        wanted = text.encode()
        while wanted not in self.shown:
            ready, _, _ = select.select([self.fd], [], [], SECONDS)
            assert ready, f"only {self.shown!r}, not {text!r}"
            self.shown += os.read(self.fd, 4096)
        before, found, self.shown = self.shown.partition(wanted)
        return (before + found).decode(errors="replace")

    def status(self) -> int:
        """Its exit status, once it has ended; what it shows meanwhile is read."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while pidfd not in (ready := select.select([pidfd, self.fd], [], [], SECONDS)[0]):
                assert ready, f"it does not end: {self.shown!r}"
                self.shown += os.read(self.fd, 4096)
        finally:
            os.close(pidfd)
        while select.select([self.fd], [], [], 0)[0]:
            self.shown += os.read(self.fd, 4096)
        return self.process.wait()

    def is_cooked(self) -> bool:
        """Is the terminal as a shell wants it: lines, echo, and keys that are signals?"""
        return bool(termios.tcgetattr(self._theirs)[3] & COOKED == COOKED)

    def signal(self, number: signal.Signals) -> None:
        """To the command, which setsid(1) has become."""
        self.process.send_signal(number)


def children(pid: int) -> list[int]:
    """Of a process with one thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
