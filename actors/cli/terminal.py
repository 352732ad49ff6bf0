"""The terminal that a command line was typed at: its size, and raw mode, which is left whatever happens (termios(3))."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from shimproc.errors import InvalidArgument


class Terminal:
    """In a ``with`` it is raw: what is typed comes key by key, and no key is a signal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before = termios.tcgetattr(fd)
        self._is_raw = False

    def enter(self) -> None:
        """Make it raw; in the background that stops this process, until it is in front (tty_ioctl(4))."""
        self._is_raw = True
        tty.setraw(self._fd, termios.TCSANOW)

    def leave(self) -> None:
        """As it was before. A terminal that is gone needs nothing."""
        if self._is_raw:
            self._is_raw = False
            try:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
            except (OSError, termios.error):
                return

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()


def size() -> tuple[int, int] | None:
    """Width and height in characters of the terminal that is stdin, stdout or stderr; None where none is, or it has none."""
    for fd in (0, 1, 2):
        try:
            width, height = os.get_terminal_size(fd)
        except OSError:
            continue
        if width > 0 and height > 0:
            return width, height
    return None


def require_terminal() -> None:
    """For ``-i`` with ``-t``: what is typed must come from one."""
    if not os.isatty(0):
        raise InvalidArgument("--tty: stdin is no terminal; leave out --tty, or leave out --interactive")


def with_terminal(process: Mapping[str, Any]) -> dict[str, Any]:
    """An OCI process on a terminal of our size, which is of our kind."""
    found = dict(process) | {"terminal": True}
    measured = size()
    if measured is not None:
        found["consoleSize"] = {"width": measured[0], "height": measured[1]}
    env = list(found.get("env") or ())
    if not any(entry.startswith("TERM=") for entry in env):
        found["env"] = [*env, f"TERM={os.environ.get('TERM') or 'xterm'}"]
    return found
