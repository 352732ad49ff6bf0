"""Named pipes that a client reads or writes (fifo(7)); never a blocking open, and no polling.

Output: until a reader first comes, data waits. When the reader has gone, data is dropped and counted, until another
opens the pipe. A reader that comes is noticed by inotify(7). Input: the end comes when all writers have gone after one
had come, as in a shell's pipe.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from shimproc import linux
from shimproc.errors import InvalidArgument
from shimproc.loop import READ, WRITE, LoopLike

_HELD: Final = 1 << 20


def ensure_fifo(path: str, field: str) -> None:
    """Make the pipe if it is not there; ``InvalidArgument`` if something else is."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InvalidArgument(f"{field}: cannot make the named pipe {path}: {error.strerror}") from error
    if not stat.S_ISFIFO(mode):
        raise InvalidArgument(f"{field}: {path} is no named pipe; write file://{path} to append to a file")


class FifoSink:
    """The writing side."""

    def __init__(self, loop: LoopLike, path: str) -> None:
        self._loop = loop
        self._path = path
        self._fd: int | None = None
        self._held = bytearray()
        self._had_reader = False
        self._resume: Callable[[], None] = _nothing
        self._done: Callable[[], None] | None = None
        self._closed = False
        self.dropped = 0
        self._inotify = linux.inotify_init()
        linux.inotify_add_watch(self._inotify, path, linux.IN_OPEN)  # before the first try: no reader slips between
        loop.watch(self._inotify, READ, self._on_opened)
        self._try_open()

    def write(self, data: bytes) -> bool:
        """Send now, or hold; False when enough is held."""
        if self._fd is None and self._had_reader:
            self.dropped += len(data)
            return True
        self._held += data
        self._flush()
        return len(self._held) < _HELD

    def on_room(self, resume: Callable[[], None]) -> None:
        """Called when the held bytes are gone."""
        self._resume = resume

    def finish(self, done: Callable[[], None]) -> None:
        """Done when the reader has taken all. Without a reader there is nobody to wait for."""
        self._done = done
        if not self._held or self._fd is None:
            self._finished()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.dropped += len(self._held)
        self._held.clear()
        self._loop.unwatch(self._inotify)
        os.close(self._inotify)
        self._shut()

    def _on_opened(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, 4096)
        if self._fd is None:
            self._try_open()
            self._flush()

    def _try_open(self) -> None:
        """O_NONBLOCK | O_WRONLY fails with ENXIO without a reader (open(2)). Our own open makes an event, too: harmless."""
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                self._had_reader = True  # removed or forbidden since: nobody will come this way
            return
        self._had_reader = True

    def _flush(self) -> None:
        if self._fd is None:
            return
        try:
            while self._held:
                del self._held[: os.write(self._fd, self._held[:65536])]
        except BlockingIOError:
            self._loop.watch(self._fd, WRITE, lambda _: self._flush())
            return
        except OSError:  # EPIPE: the reader has gone
            self.dropped += len(self._held)
            self._held.clear()
            self._shut()
        else:
            self._loop.unwatch(self._fd)
        if self._done is not None:
            self._finished()
        else:
            self._resume()

    def _finished(self) -> None:
        done, self._done = self._done, None
        self.close()
        if done is not None:
            done()

    def _shut(self) -> None:
        if self._fd is not None:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = None


class FifoSource:
    """stdin from a named pipe: copied to the process's own pipe, with its pace."""

    def __init__(self, loop: LoopLike, path: str, target: int) -> None:
        self._loop = loop
        self._target: int | None = target
        os.set_blocking(target, False)
        self._waiting = b""
        self._fd: int | None = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        loop.watch(self._fd, READ, lambda _: self._on_readable())

    def close(self) -> None:
        """The process's stdin ends here."""
        for fd in (self._fd, self._target):
            if fd is not None:
                self._loop.unwatch(fd)
                os.close(fd)
        self._fd = self._target = None

    @property
    def closed(self) -> bool:
        """Has stdin ended?"""
        return self._target is None

    def _on_readable(self) -> None:
        """epoll reports a pipe without writers only after there was one (pipe(7)): an empty read is the end."""
        assert self._fd is not None
        try:
            self._waiting = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if self._waiting:
            self._pass_on()
        else:
            self.close()

    def _pass_on(self) -> None:
        assert self._target is not None
        assert self._fd is not None
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._target, self._waiting) :]
        except BlockingIOError:
            self._loop.unwatch(self._fd)
            self._loop.watch(self._target, WRITE, lambda _: self._pass_on())
            return
        except OSError:  # EPIPE: the process has closed its stdin
            self.close()
            return
        self._loop.unwatch(self._target)
        self._loop.watch(self._fd, READ, lambda _: self._on_readable())


def _nothing() -> None:
    """Nobody waits."""
