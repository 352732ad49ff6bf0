"""Terminals: where a runtime hands over the master of a container's pseudoterminal (runc's docs/terminals.md), and what is
done with it (pty(7), ioctl_tty(2)).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Final

from shimproc.errors import InvalidArgument, Unavailable

_NAME: Final = "console.sock"
_SIZE: Final = struct.Struct("4H")
_LARGEST: Final = 0xFFFF
END_OF_INPUT: Final = b"\x04"
"""What the terminal's line discipline takes for the end of the input (VEOF, termios(3)), unless the process has changed it."""


class Console:
    """The master of one process's terminal, on its way from whoever makes the process.

    An OCI runtime connects to ``path`` and sends it; what makes it itself ``give``s it.

    Parameters
    ----------
    folder : where the socket may be; its path may be longer than the 107 bytes of sun_path (unix(7)).
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listener: socket.socket | None = None
        self._master: int | None = None

    @property
    def path(self) -> str:
        """Of a socket that listens; valid for other processes, too, as long as this one lives."""
        path = f"/proc/{os.getpid()}/fd/{self._folder}/{_NAME}"
        if self._listener is None:
            self._unlink()
            listener = self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mask = os.umask(0o177)
            try:
                listener.bind(path)
            finally:
                os.umask(mask)
            listener.listen(1)
            listener.setblocking(False)
        return path

    def give(self, master: int) -> None:
        """The callee's from now on."""
        self._master = master

    def take(self) -> int:
        """The master, the caller's from now on. ``Unavailable`` if none was sent."""
        if self._master is None and self._listener is not None:
            self._master = _received(self._listener)
        if self._master is None:
            raise Unavailable("the runtime has handed over no terminal")
        master, self._master = self._master, None
        return master

    def close(self) -> None:
        """Let go of what was not taken."""
        if self._listener is not None:
            self._listener.close()
            self._unlink()
        for fd in (self._master, self._folder):
            if fd is not None:
                os.close(fd)
        self._listener = self._master = None

    def _unlink(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_NAME, dir_fd=self._folder)


def make_terminal(console: Console, size: tuple[int, int] | None, owner: tuple[int, int]) -> int:
    """A pseudoterminal for a plain process: the console gets its master, the caller its slave.

    Parameters
    ----------
    size : width and height in characters.
    owner : uid and gid of the process; the terminal is theirs, as a login has it.
    """
    master, slave = os.openpty()
    try:
        os.fchown(slave, *owner)
        os.fchmod(slave, 0o620)
        if size is not None:
            resize(master, *size)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    console.give(master)
    return slave


def resize(master: int, width: int, height: int) -> None:
    """In characters; the process in the foreground gets SIGWINCH (TIOCSWINSZ). ``InvalidArgument`` names the side."""
    for name, value in (("width", width), ("height", height)):
        if not 0 < value <= _LARGEST:
            raise InvalidArgument(f"{name}: {value} is not within 1 and {_LARGEST}")
    fcntl.ioctl(master, termios.TIOCSWINSZ, _SIZE.pack(height, width, 0, 0))


def _received(listener: socket.socket) -> int | None:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    with connection:
        connection.settimeout(1.0)  # it is connected, and it has been sent: the runtime has ended by now
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return fds[0] if fds else None
