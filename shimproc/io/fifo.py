"""Named pipes that a client reads or writes (fifo(7)); never a blocking open, and no polling.

Output. The writing end is open from the first, so that a client's open of the reading end never waits. Until a reader
comes, what is written waits in the pipe, held there by an ``anchor``, a reading end of our own that never reads; when
the pipe is full the process waits. From then on a broken pipe means that the reader has gone: data is dropped and
counted, until another opens the pipe. (inotify(7) would not do: it tells of no open that still waits for its other
side, and a user has 128 instances by default.) What no reader has taken when the process ends stays until ``close``: a
late reader gets it, and then the end of file.

Input. The end comes when all writers have gone after one had come, as in a shell's pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Callable
from typing import Final

from shimproc import linux
from shimproc.errors import InvalidArgument, scarce
from shimproc.loop import READ, WRITE, LoopLike

_BLOCK: Final = 64 << 10
_PIPE: Final = 256 << 10
_READING: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITING: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_fifo(path: str, field: str) -> int:
    """Its reading end, non-blocking; the pipe is made (0600) if it is not there. An error names ``field``."""
    fd = None
    try:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        if stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116 - pathlib costs the shim memory
            fd = os.open(path, _READING)
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                return fd
            os.close(fd)  # exchanged in between
    except OSError as error:
        raise scarce(error, f"{field}: cannot open the named pipe {path}", InvalidArgument) from error
    raise InvalidArgument(f"{field}: {path} is no named pipe; write file://{path} for a file")


def reopen_fifo(fd: int) -> int:
    """The reading end of the named pipe whose writing end is ``fd``, which is closed."""
    try:
        return os.open(f"/proc/self/fd/{fd}", _READING)
    finally:
        os.close(fd)


class FifoSink:
    """The writing side.

    Parameters
    ----------
    anchor : the pipe's reading end (``open_fifo``); this object's from now on.
    """

    def __init__(self, loop: LoopLike, anchor: int) -> None:
        self._loop = loop
        self._anchor: int | None = anchor
        self._inotify: int | None = None
        try:
            self._fd: int | None = os.open(f"/proc/self/fd/{anchor}", _WRITING)
        except BaseException:
            os.close(anchor)
            raise
        with contextlib.suppress(OSError):
            linux.set_pipe_size(anchor, _PIPE)
        self._sent = linux.unread(anchor)
        self._held = b""
        self._full = False
        self._ending = False
        self._resume: Callable[[], None] = _nothing
        self._done: Callable[[], None] = _nothing
        self.on_closed: Callable[[], None] = _nothing
        self.dropped = 0

    @property
    def fd(self) -> int | None:
        """The writing end; None once it is closed."""
        return self._fd

    def write(self, data: bytes) -> bool:
        """Into the pipe, as far as it takes it; False while some is held."""
        if self._fd is None:
            self.dropped += len(data)
            return True
        self._held += data
        if not self._full:
            self._look()
            self._flush()
        return not self._held

    def on_room(self, resume: Callable[[], None]) -> None:
        """Called when the held bytes are gone."""
        self._resume = resume

    def finish(self, done: Callable[[], None]) -> None:
        """Done when the pipe has all for its reader. While there has been no reader, there is nobody to wait for."""
        self._ending, self._done = True, done
        if self._fd is None:
            self._finished()
            return
        self._look()
        if self._anchor is not None:
            self._linger()
            self._finished()
        elif not self._held:
            self.close()

    def close(self) -> None:
        """What nobody has taken is dropped, and counted as far as no reader can take it any more."""
        if self._fd is None:
            return
        self._drop_anchor()
        self.dropped += len(self._held) + (0 if _has_reader(self._fd) else linux.unread(self._fd))
        self._held = b""
        for fd in (self._fd, self._inotify):
            if fd is not None:
                self._loop.unwatch(fd)
                os.close(fd)
        self._fd = self._inotify = None
        self.on_closed()
        self._finished()

    def _finished(self) -> None:
        done, self._done = self._done, _nothing
        done()

    def _look(self) -> None:
        """Has a reader come? It has if some is read, or if there is one without our own anchor."""
        if self._anchor is None or self._fd is None:
            return
        read = linux.unread(self._anchor) < self._sent
        self._drop_anchor()
        if not read and not _has_reader(self._fd):
            with contextlib.suppress(OSError):  # no descriptor left: as if the reader had gone
                self._anchor = os.open(f"/proc/self/fd/{self._fd}", _READING)

    def _drop_anchor(self) -> None:
        if self._anchor is not None:
            os.close(self._anchor)
            self._anchor = None

    def _flush(self) -> None:
        assert self._fd is not None
        try:
            while self._held:
                written = os.write(self._fd, self._held[:_BLOCK])
                self._held = self._held[written:]
                self._sent += written
        except BlockingIOError:
            if not self._full:
                self._full = True
                self._loop.watch(self._fd, WRITE, self._on_room)
            return
        except OSError:  # EPIPE: the reader has gone
            self.dropped += len(self._held)
            self._held = b""
        if self._full:
            self._full = False
            self._loop.unwatch(self._fd)

    def _on_room(self, _: int) -> None:
        """A full pipe has room, so somebody has read; or the reader has gone."""
        self._drop_anchor()
        self._flush()
        if self._held:
            return
        if self._ending:
            self.close()
        else:
            self._resume()

    def _linger(self) -> None:
        """Stay for a late reader. inotify(7) tells of its open here, since that never waits for us; where it has no
        instance left, the reader gets what there is, and the end of file on ``close``.
        """
        assert self._fd is not None
        self._loop.unwatch(self._fd)
        self._full = False
        try:
            self._inotify = linux.inotify_init()
            linux.inotify_add_watch(self._inotify, f"/proc/self/fd/{self._fd}", linux.IN_OPEN)
        except OSError:
            return
        self._drop_anchor()  # to look again is no open then, of which we would be told, too
        self._loop.watch(self._inotify, READ, self._on_open)
        self._serve_late()  # one that came before the watch

    def _on_open(self, _: int) -> None:
        assert self._inotify is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify, 4096)
        self._serve_late()

    def _serve_late(self) -> None:
        if self._fd is not None and not self._full and _has_reader(self._fd):
            self._flush()
            if not self._held:
                self.close()


class FifoSource:
    """stdin from a named pipe: copied to the process's own pipe, with its pace.

    Parameters
    ----------
    fd : the named pipe's reading end (``open_fifo``); target: the writing end of the process's stdin. Both are this
        object's from now on.
    """

    def __init__(self, loop: LoopLike, fd: int, target: int) -> None:
        self._loop = loop
        self._fd: int | None = fd
        self._target: int | None = target
        self._waiting = b""
        self._left: int | None = None
        self.on_closed: Callable[[], None] = _nothing
        os.set_blocking(target, False)
        try:
            loop.watch(fd, READ, self._on_readable)
        except BaseException:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Has stdin ended?"""
        return self._target is None

    @property
    def fds(self) -> tuple[int, int] | None:
        """The named pipe's reading end and the process's writing end; None once stdin has ended."""
        return None if self._fd is None or self._target is None else (self._fd, self._target)

    def end(self) -> None:
        """No more is wanted: what clients have written until now is passed on, then the process's stdin ends."""
        if self._fd is not None:
            self._left = linux.unread(self._fd)
            self._go_on_ending()

    def close(self) -> None:
        """The process's stdin ends here and now."""
        for fd in (self._fd, self._target):
            if fd is not None:
                self._loop.unwatch(fd)
                os.close(fd)
        ended = self._target is not None
        self._fd = self._target = None
        self._waiting = b""
        if ended:
            self.on_closed()

    def _on_readable(self, _: int) -> None:
        """An empty read is the end once there has been a writer; only then poll(2) says POLLHUP."""
        assert self._fd is not None
        try:
            data = os.read(self._fd, _BLOCK if self._left is None else min(self._left, _BLOCK))
        except BlockingIOError:
            return
        if data:
            self._waiting = data
            self._left = None if self._left is None else self._left - len(data)
            self._pass_on(WRITE)
        elif self._left == 0 or _polled(self._fd) & select.POLLHUP:
            self.close()

    def _pass_on(self, _: int) -> None:
        assert self._target is not None
        assert self._fd is not None
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._target, self._waiting) :]
        except BlockingIOError:
            self._loop.unwatch(self._fd)
            self._loop.watch(self._target, WRITE, self._pass_on)
            return
        except OSError:  # EPIPE: the process has closed its stdin
            self.close()
            return
        self._loop.unwatch(self._target)
        self._loop.watch(self._fd, READ, self._on_readable)
        if self._left is not None:
            self._loop.call_soon(self._go_on_ending)

    def _go_on_ending(self) -> None:
        """Turn by turn, since no event tells of an empty pipe."""
        if self._fd is not None and not self._waiting:
            self._on_readable(READ)


def _has_reader(fd: int) -> bool:
    """Has a pipe's writing end a reader? POLLERR says that it has none (poll(2))."""
    return not _polled(fd) & select.POLLERR


def _polled(fd: int) -> int:
    """What poll(2) says of a descriptor without being asked: POLLERR, POLLHUP."""
    poll = select.poll()
    poll.register(fd, 0)
    return sum(events for _, events in poll.poll(0))


def _nothing() -> None:
    """Nobody waits."""
