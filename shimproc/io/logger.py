"""``binary://`` loggers, as containerd has them (core/runtime/v2/README.md, "Logging"): a program of the user's own that gets a
task's output.

It has stdout as descriptor 3, stderr as 4, and closes 5 when it is ready; CONTAINER_ID and CONTAINER_NAMESPACE say whose output
it is. It ends after the end of both files. One that ends before costs output, never the task; what it has not read when
the task is deleted has ``shimproc.process.host.FLUSH_SECONDS``, then it is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from shimproc import linux
from shimproc.errors import FailedPrecondition, InvalidArgument, ShimyardError
from shimproc.flow import Pending
from shimproc.io.uri import make_pipe, parse_uri
from shimproc.loop import READ, WRITE, LoopLike
from shimproc.reaper import Reaper
from shimproc.spawn import launch

STREAMS: Final = ("stdout", "stderr")
READY_SECONDS: Final = 10.0
_PIPE: Final = 256 << 10
_HIGH: Final = 10
"""Above the numbers that the logger gets its own under."""


class Logger:
    """One running logger.

    Parameters
    ----------
    pidfd : its process; this object's from now on.
    """

    def __init__(self, loop: LoopLike, pidfd: int) -> None:
        self._loop = loop
        self.pidfd: int | None = pidfd
        self._streams = 0
        self._done: list[Callable[[], None]] = []
        loop.watch(pidfd, READ, lambda _: self._on_end())

    def sink(self, fd: int) -> LoggerSink:
        """The writing end of one of its pipes, as a sink."""
        self._streams += 1
        return LoggerSink(self._loop, fd, self)

    def released(self, done: Callable[[], None]) -> None:
        """One of its pipes is closed; ``done`` once it has ended, which it does after the last."""
        if self.pidfd is None:
            done()
        else:
            self._done.append(done)

    def kill(self) -> None:
        """It had its time."""
        if self.pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self._on_end()

    def _on_end(self) -> None:
        if self.pidfd is not None:
            self._loop.unwatch(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = None
        waiting, self._done = self._done, []
        for done in waiting:
            done()


class LoggerSink:
    """A stream on its way to a logger (``shimproc.io.sinks.Sink``).

    Parameters
    ----------
    fd : the pipe's writing end; this object's from now on.
    """

    def __init__(self, loop: LoopLike, fd: int, logger: Logger) -> None:
        self._loop = loop
        self._logger = logger
        self._fd: int | None = fd
        self._held = b""
        self._full = False
        self._ending: Callable[[], None] | None = None
        self._resume: Callable[[], None] = _nothing
        self.on_closed: Callable[[], None] = _nothing
        self.dropped = 0
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError):
            linux.set_pipe_size(fd, _PIPE)

    @property
    def fd(self) -> int | None:
        """The pipe's writing end; None once it is closed."""
        return self._fd

    def write(self, data: bytes) -> bool:
        """Into the pipe, as far as it takes it; False while some is held."""
        if self._fd is None:
            self.dropped += len(data)
            return True
        self._held += data
        if not self._full:
            self._flush()
        return not self._held

    def on_room(self, resume: Callable[[], None]) -> None:
        """Called when the held bytes are gone."""
        self._resume = resume

    def finish(self, done: Callable[[], None]) -> None:
        """Done when the logger has had all, and has ended."""
        self._ending = done
        if not self._held:
            self._let_go()

    def close(self) -> None:
        """What it has not taken is dropped; it is killed if it has not ended."""
        self.dropped += len(self._held)
        self._held = b""
        self._let_go()
        self._logger.kill()

    def _flush(self) -> None:
        assert self._fd is not None
        try:
            while self._held:
                self._held = self._held[os.write(self._fd, self._held) :]
        except BlockingIOError:
            if not self._full:
                self._full = True
                self._loop.watch(self._fd, WRITE, lambda _: self._on_writable())
            return
        except OSError:  # it has ended, or has closed its side
            self.dropped += len(self._held)
            self._held = b""
            self._let_go()
            return
        if self._ending is not None:
            self._let_go()

    def _on_writable(self) -> None:
        self._flush()
        if not self._held:
            if self._full and self._fd is not None:
                self._loop.unwatch(self._fd)
            self._full = False
            self._resume()

    def _let_go(self) -> None:
        if self._fd is not None:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = None
            self.on_closed()
        if self._ending is not None:
            ending, self._ending = self._ending, None
            self._logger.released(ending)


class Loggers:
    """Those of one process: by stream, the sink that leads there."""

    def __init__(self) -> None:
        self.sinks: dict[str, LoggerSink] = {}
        self.all: dict[str, Logger] = {}

    def take(self, stream: str) -> LoggerSink:
        """The sink of a stream whose URI names a logger."""
        return self.sinks[stream]

    def entrusted(self) -> dict[str, int]:
        """What the next shim would need, by name (``shimproc.io.keepsakes``)."""
        fds = {f"{stream}.logger": sink.fd for stream, sink in self.sinks.items()}
        fds |= {f"{stream}.logger.pid": logger.pidfd for stream, logger in self.all.items()}
        return {name: fd for name, fd in fds.items() if fd is not None}

    def close(self) -> None:
        """None was needed after all, or it is over."""
        for sink in self.sinks.values():
            sink.close()

    def adopt(self, loop: LoopLike, kept: dict[str, int]) -> None:
        """Go on with those of a killed shim. A logger of both streams is known by its first."""
        last: Logger | None = None
        for stream in STREAMS:
            fd, pidfd = kept.pop(f"{stream}.logger", None), kept.pop(f"{stream}.logger.pid", None)
            if pidfd is not None:
                last = self.all[stream] = Logger(loop, pidfd)
            if fd is not None and last is not None:
                self.sinks[stream] = last.sink(fd)
            elif fd is not None:
                os.close(fd)


class Parent(Protocol):
    """Whose child a logger is."""

    @property
    def loop(self) -> LoopLike:
        """Where it is heard."""

    @property
    def reaper(self) -> Reaper:
        """Who collects it."""


async def start_loggers(parent: Parent, stdio: Mapping[str, Any], bundle: str) -> Loggers:
    """One for each URI; done when all are ready. ``bundle`` tells whose output it is: .../NAMESPACE/ID.

    ``InvalidArgument`` or ``FailedPrecondition``, which name the field; then none is left.
    """
    made = Loggers()
    wanted: dict[str, list[str]] = {}
    for stream in STREAMS:
        uri = str(stdio.get(stream) or "")
        if parse_uri(uri, f"stdio.{stream}")[0] == "binary":
            wanted.setdefault(uri, []).append(stream)
    try:
        for uri, streams in wanted.items():
            await _start(parent, uri, streams, bundle, made)
    except BaseException:
        made.close()
        raise
    return made


async def _start(parent: Parent, uri: str, streams: list[str], bundle: str, made: Loggers) -> None:
    field = f"stdio.{streams[0]}"
    namespace, container_id = bundle.rstrip("/").split("/")[-2:]
    env = {**os.environ, "CONTAINER_ID": container_id, "CONTAINER_NAMESPACE": namespace}
    argv = tuple(words(uri, field))
    out, out_in, err, err_in, ready, ready_in = _pipes(field)
    try:
        with parent.reaper.expecting():
            pid = launch(argv, {3: out, 4: err, 5: ready_in}, env)
            pidfd = os.pidfd_open(pid)
            parent.reaper.watch(pid)  # nobody asks how it ended
    except BaseException as error:
        for fd in (out_in, err_in, ready):
            os.close(fd)
        if isinstance(error, ShimyardError):
            raise type(error)(f"{field}: the logger {error.message}") from error
        raise
    finally:
        for fd in (out, err, ready_in):
            os.close(fd)
    logger = made.all[streams[0]] = Logger(parent.loop, pidfd)
    for stream, fd in (("stdout", out_in), ("stderr", err_in)):
        if stream in streams:
            made.sinks[stream] = logger.sink(fd)
        else:
            os.close(fd)
    if not await _is_ready(parent.loop, ready):
        raise FailedPrecondition(f"{field}: the logger {argv[0]} has not closed descriptor 5 within {READY_SECONDS} seconds")


def _pipes(field: str) -> list[int]:
    """Three, reading end first, above the numbers that the logger gets them under."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += make_pipe(field)
        return [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in opened]
    finally:
        for fd in opened:
            os.close(fd)


async def _is_ready(loop: LoopLike, fd: int) -> bool:
    """Has it closed the pipe in time, or written to it? The descriptor is closed here."""
    said: Pending[bool] = Pending()
    timer = loop.call_later(READY_SECONDS, lambda: said.set(False))
    loop.watch(fd, READ, lambda _: said.set(True))
    try:
        return await said
    finally:
        timer.cancel()
        loop.unwatch(fd)
        os.close(fd)


def words(uri: str, field: str) -> list[str]:
    """The command of ``binary:///path?name=value``: the path, then each name and value (containerd's NewBinaryCmd)."""
    from urllib.parse import parse_qsl, unquote  # noqa: PLC0415 - it costs memory that few shims need

    path, _, query = uri.removeprefix("binary://").partition("?")
    argv = [unquote(path)]
    for name, value in parse_qsl(query, keep_blank_values=True):
        argv += [name, value] if value else [name]
    if any("\0" in word for word in argv):
        raise InvalidArgument(f"{field}: a word of {argv[0]!r} has a NUL byte")
    return argv


def _nothing() -> None:
    """Nobody waits."""
