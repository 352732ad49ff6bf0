"""A task's streams through named pipes of our own: stdin, stdout and stderr as if the command ran here.

Bytes are copied by threads, since our own descriptors may block and belong to others, too (so never O_NONBLOCK on them):

    task ─ shim ─▶ named pipe ─▶ reader ─▶ 1 MiB ─▶ writer ─▶ stdout       stdin ─▶ copier ─▶ named pipe ─▶ shim ─ task

A slow stdout slows the task, as a pipe would. Once the task has ended there is no such limit: the shim waits only so long
for a slow reader, so the rest, which is small then, is taken at once. The end of a named pipe means that its shim has gone;
another may take its place, so only the end of the run ends a reader.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from actors.records import Stdio
from shimproc.errors import FailedPrecondition

LIMIT: Final = 1 << 20
_BLOCK: Final = 64 << 10
_PATIENCE_MS: Final = 2000
_LOOK_MS: Final = 200
_PREFIX: Final = "shimyard-run-"
_STREAMS: Final = ("stdin", "stdout", "stderr")


class Buffer:
    """Bytes between two threads."""

    def __init__(self, limit: int, on_full: Callable[[], None]) -> None:
        self._limit: int | None = limit
        self._on_full = on_full
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._changed = threading.Condition()

    def put(self, data: bytes) -> None:
        """Append; waits while there is no room."""
        with self._changed:
            self._blocks.append(data)
            self._size += len(data)
            self._changed.notify_all()
            if self._limit is not None and self._size >= self._limit:
                self._on_full()
            self._changed.wait_for(lambda: self._limit is None or self._size < self._limit)

    def take(self) -> bytes | None:
        """The oldest block; waits for one. None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._ended)
            if not self._blocks:
                return None
            data = self._blocks.popleft()
            self._size -= len(data)
            self._changed.notify_all()
            return data

    def unlimit(self) -> None:
        """From now on there is always room."""
        with self._changed:
            self._limit = None
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing will follow."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Outflow:
    """One output, from its named pipe to our own descriptor.

    Parameters
    ----------
    target : where to; it stays the caller's.
    on_full : called (in a thread) each time that so much waits for the target that the task has to.
    on_broken : called once (in a thread) when the target takes no more; the rest is dropped then.
    """

    def __init__(
        self, path: str, target: int, on_full: Callable[[], None], on_broken: Callable[[OSError], None]
    ) -> None:
        self._path = path
        self._target = target
        self._on_broken = on_broken
        self._buffer = Buffer(LIMIT, on_full)
        self._patience_ms: int | None = None
        self._at_end = False
        self._fd = _open_reading(path)
        self._woken, self._waker = os.pipe()
        self._reader = threading.Thread(target=self._read, name=f"read {path}", daemon=True)
        self._writer = threading.Thread(target=self._write, name=f"write {target}", daemon=True)

    def start(self) -> None:
        """Copy from now on."""
        self._reader.start()
        self._writer.start()

    def unlimit(self) -> None:
        """The task has ended: take what is left, however slow the target is."""
        self._buffer.unlimit()

    def finish(self, *, whole: bool) -> None:
        """The run has ended: read the rest of the named pipe, and with ``whole`` wait for its end, though not for ever."""
        self._patience_ms = _PATIENCE_MS if whole else 0
        self._buffer.unlimit()
        os.write(self._waker, b"\0")
        self._reader.join()
        for fd in (self._woken, self._waker):
            os.close(fd)

    def drain(self) -> None:
        """Wait until the target has all; after ``finish``."""
        self._writer.join()

    def _read(self) -> None:
        try:
            while data := self._next():
                self._buffer.put(data)
        finally:
            os.close(self._fd)
            self._buffer.end()

    def _next(self) -> bytes | None:
        while True:
            patience = self._patience_ms
            if patience is not None and self._at_end:
                patience = 0
            ready = self._poll(patience)
            if self._fd in ready:
                data = _read_some(self._fd)
                if data:
                    self._at_end = False
                    return data
                if data is not None and patience is not None:
                    return None
                if data is not None:
                    self._begin_anew()
            elif patience is not None:
                return None

    def _poll(self, patience: int | None) -> list[int]:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if patience is None:
            poll.register(self._woken, select.POLLIN)
        return [fd for fd, _ in poll.poll(patience)]

    def _begin_anew(self) -> None:
        """No writer is left; a new open waits for the next one, where the old would say end of file for ever."""
        self._at_end = True
        ended, self._fd = self._fd, _open_reading(self._path)
        os.close(ended)

    def _write(self) -> None:
        broken = False
        while (data := self._buffer.take()) is not None:
            if broken:
                continue
            try:
                write_all(self._target, data)
            except OSError as error:
                broken = True
                self._on_broken(error)


class Inflow:
    """Our stdin into a named pipe. The thread may wait in read(2) for ever; it ends with the process."""

    def __init__(self, path: str, source: int) -> None:
        self._path = path
        self._source = source
        self._copier = threading.Thread(target=self._copy, name=f"copy {source}", daemon=True)

    def start(self) -> None:
        """Copy from now on; begins when the other side is there."""
        self._copier.start()

    def _copy(self) -> None:
        with contextlib.suppress(OSError):  # EPIPE: the task has closed its stdin; EIO: the terminal is gone
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                while data := self._read(fd):
                    write_all(fd, data)
            finally:
                os.close(fd)

    def _read(self, fd: int) -> bytes:
        """What comes next. In the background the terminal's input is another's: wait until it is ours, as any command would.

        (SIGTTIN, by which the kernel would make us wait, is blocked: a task that does not read is to run on.)
        """
        closed = select.poll()
        closed.register(fd, 0)
        while True:
            try:
                return os.read(self._source, _BLOCK)
            except OSError as error:
                if error.errno != errno.EIO or not _is_in_background(self._source):
                    raise
            if closed.poll(_LOOK_MS):  # nothing tells when a shell's fg has made us the foreground
                return b""


@contextlib.contextmanager
def named_pipes() -> Iterator[Stdio]:
    """Three, in a private folder that goes at the end. Without a stdin of ours the task has none either."""
    base = _base()
    _sweep(base)
    folder = base / f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
    try:
        folder.mkdir(mode=0o700)
        try:
            for name in _STREAMS:
                os.mkfifo(folder / name, 0o600)
            stdin, stdout, stderr = (f"fifo://{folder / name}" for name in _STREAMS)
            yield Stdio("" if _is_null(0) else stdin, stdout, stderr)
        finally:
            _remove(folder)
    except OSError as error:
        raise FailedPrecondition(f"no named pipes in {base}: {error.strerror}; set TMPDIR to a folder of yours") from error


def write_all(fd: int, data: bytes) -> None:
    """All of it, also where somebody has made the descriptor non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


def _open_reading(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _read_some(fd: int) -> bytes | None:
    """Empty at the end of file; None where there is nothing yet."""
    try:
        return os.read(fd, _BLOCK)
    except BlockingIOError:
        return None


def _base() -> Path:
    """A folder that the daemon sees as well: a service may have a /tmp of its own, but not a /run."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime)
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run")
    return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - the folder in it is made 0700, by mkdir(2)


def _sweep(base: Path) -> None:
    """Remove the folders of runs that were killed."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                pid = entry.name.removeprefix(_PREFIX).partition("-")[0]
                if pid.isdecimal() and not Path("/proc", pid).exists():
                    _remove(Path(entry))


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for name in _STREAMS:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _is_in_background(terminal: int) -> bool:
    """Is it our controlling terminal, does another group of processes have it, and is there a shell that may give it back?"""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp() and os.getsid(os.getppid()) == os.getsid(0)
    except OSError:
        return False


def _is_null(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev
