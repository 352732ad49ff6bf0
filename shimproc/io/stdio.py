"""A process's stdio, opened as its URIs say (API.md, section 3).

``""``: closed stdin, discarded output. ``/path`` or ``fifo:///path``: a named pipe. ``file:///path``: appended, by the
process itself, without a copy. ``log:``: the managed log. With ``capture`` the first of the output is kept, too. Nothing
here blocks, and what fails to open leaves nothing open.

What would break if this shim were killed is entrusted to a keeper; the next shim goes on with it (``adopt_stdio``).
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from shimproc.errors import (
    FailedPrecondition,
    InvalidArgument,
    ShimyardError,
    Unimplemented,
    scarce,
)
from shimproc.flow import Pending
from shimproc.io.fifo import FifoSink, FifoSource, open_fifo, reopen_fifo
from shimproc.io.keepsakes import STDIN, Keeper
from shimproc.io.logfile import LogFile
from shimproc.io.pump import Output
from shimproc.io.sinks import CaptureSink, FileSink, LogSink, LostSink, Sink
from shimproc.loop import LoopLike

log = logging.getLogger(__name__)
_NULL: Final = ("null", "")
_SHARED: Final = ("fifo", "file")
_FIRST_FREE: Final = 3


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The managed log of a process: where, bytes after which it is rotated, how many files."""

    path: str
    max_size: int
    max_files: int


@dataclass(frozen=True, slots=True)
class Capture:
    """Keep the first ``limit`` bytes of stdout and of stderr, in ``folder``."""

    limit: int
    folder: str


def parse_uri(uri: str, field: str) -> tuple[str, str]:
    """(kind, path): null, fifo, file or log. ``InvalidArgument`` or ``Unimplemented`` names ``field``."""
    if uri == "":
        return _NULL
    if uri == "log:" and not field.endswith("stdin"):
        return "log", ""
    if uri.startswith("binary:"):
        raise Unimplemented(f"{field}: binary:// loggers are not served by this version; use log: or a named pipe")
    scheme, separator, rest = uri.partition("://")
    kind, path = ("fifo", uri) if uri.startswith("/") or not separator else (scheme, rest)
    if kind not in ("fifo", "file") or not path.startswith("/") or "\0" in path:
        allowed = '"", an absolute path, fifo:///path, file:///path' + ("" if field.endswith("stdin") else " or log:")
        raise InvalidArgument(f"{field}: {uri!r} is none of {allowed}")
    return kind, path


def open_stdio(loop: LoopLike, stdio: Mapping[str, Any], log: LogSettings, capture: Capture | None) -> ProcessIO:
    """Open all three.

    Parameters
    ----------
    stdio : ``{stdin, stdout, stderr, terminal}``; what is missing or null is "".
    capture : None for no capture.

    Raises ``InvalidArgument``, ``FailedPrecondition`` or ``Unimplemented``, which name the field; nothing is left open.
    """
    if stdio.get("terminal"):
        raise Unimplemented("stdio.terminal: terminals are not served by this version; leave it out")
    opened = ProcessIO(loop, log, capture)
    try:
        opened.open_input(str(stdio.get("stdin") or ""))
        stdout, stderr = str(stdio.get("stdout") or ""), str(stdio.get("stderr") or "")
        opened.open_output("stdout", stdout)
        if capture is None and parse_uri(stderr, "stdio.stderr")[0] in _SHARED and stderr == stdout:
            opened.open_error_as_output()
        else:
            opened.open_output("stderr", stderr)
    except BaseException as error:
        opened.close_child()
        opened.abandon()
        if isinstance(error, OSError):
            raise scarce(error, "stdio") from error
        raise
    return opened


def adopt_stdio(
    loop: LoopLike, stdio: Mapping[str, Any], log: LogSettings, capture: Capture | None, kept: dict[str, int]
) -> ProcessIO:
    """Go on with what a killed shim had opened.

    Parameters
    ----------
    kept : its descriptors by name (``shimproc.io.keepsakes``); those that are taken are removed. A stream without them has
        ended, or is lost.
    """
    adopted = ProcessIO(loop, log, capture)
    adopted.adopt_input(kept)
    for stream in ("stdout", "stderr"):
        adopted.adopt_output(stream, str(stdio.get(stream) or ""), kept)
    return adopted


class ProcessIO:
    """The streams of one process: ``child`` are the descriptors to give it, the rest is our side."""

    def __init__(self, loop: LoopLike, log: LogSettings, capture: Capture | None) -> None:
        self._loop = loop
        self._log_settings = log
        self._log: LogFile | None = None
        self._capture = capture
        self._captures: dict[str, CaptureSink] = {}
        self._outputs: dict[str, Output] = {}
        self._fifos: dict[str, FifoSink] = {}
        self._source: FifoSource | None = None
        self._child: list[int] = []
        self.flushed: Pending[None] = Pending()

    @property
    def child(self) -> tuple[int, int, int]:
        """For the process's 0, 1 and 2."""
        stdin, stdout, stderr = self._child
        return stdin, stdout, stderr

    @property
    def dropped(self) -> int:
        """Bytes of output that no destination could take."""
        return sum(output.dropped for output in self._outputs.values())

    def close_child(self) -> None:
        """The process has its own copies now."""
        for fd in set(self._child):
            os.close(fd)
        self._child.clear()

    def close_stdin(self) -> None:
        """End the process's stdin, after what clients have written until now; harmless when it has ended.

        ``FailedPrecondition`` if the process never had a stdin of ours.
        """
        if self._source is None:
            raise FailedPrecondition("the process has no stdin to close: it was created without one")
        self._source.end()

    def finish(self) -> None:
        """The process has ended: what it wrote is read now; ``flushed`` once it is delivered. Returns at once."""
        if self._source is not None:
            self._source.close()
        waiting = len(self._outputs)

        def one() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                self._on_delivered()

        for output in self._outputs.values():
            output.drain(one)
        if not self._outputs:
            self._on_delivered()

    def captured(self) -> dict[str, Any] | None:
        """{stdout, stderr, truncated}, if capture was asked for."""
        if self._capture is None:
            return None
        kept: dict[str, Any] = {name: sink.taken() for name, sink in self._captures.items()}
        return {**kept, "truncated": any(sink.truncated for sink in self._captures.values())}

    def abandon(self) -> None:
        """Let go of everything now."""
        if self._source is not None:
            self._source.close()
        for output in self._outputs.values():
            output.abandon()
        self._on_delivered()

    def entrust(self, keeper: Keeper, pid: int, more: Mapping[str, int]) -> None:
        """Have kept what the next shim would need; ``more`` is the runtime's own, ``pid`` the process."""
        fds = dict(more)
        if self._source is not None and self._source.fds is not None:
            fds |= zip(STDIN, self._source.fds, strict=True)
        fds |= {stream: output.fd for stream, output in self._outputs.items() if output.fd is not None}
        fds |= {f"{stream}.fifo": fifo.fd for stream, fifo in self._fifos.items() if fifo.fd is not None}
        keeper.keep(pid, fds)
        self.tell(keeper)

    def tell(self, keeper: Keeper) -> None:
        """From now on the keeper hears of what is closed and must not stay open there."""
        if self._source is not None:
            self._source.on_closed = lambda: keeper.drop(STDIN)
        for stream, fifo in self._fifos.items():
            fifo.on_closed = partial(keeper.drop, (f"{stream}.fifo",))

    def adopt_input(self, kept: dict[str, int]) -> None:
        """stdin, if it has not ended."""
        source, target = (kept.pop(name, None) for name in STDIN)
        if source is not None and target is not None:
            self._source = FifoSource(self._loop, source, target)

    def adopt_output(self, stream: str, uri: str, kept: dict[str, int]) -> None:
        """stdout or stderr."""
        field = f"stdio.{stream}"
        kind, path = parse_uri(uri, field)
        reading, fifo = kept.pop(stream, None), kept.pop(f"{stream}.fifo", None)
        if reading is None:  # nobody kept it: what was captured before is still there
            if fifo is not None:
                os.close(fifo)
            self._add_capture(stream)
            return
        sinks: list[Sink] = []
        if fifo is not None:
            sinks.append(self._add_fifo(stream, reopen_fifo(fifo)))
        elif kind in ("file", "log"):
            sinks.append(self._reopen_sink(kind, path, stream))
        self._add_output(stream, reading, sinks)

    def _reopen_sink(self, kind: str, path: str, stream: str) -> Sink:
        """One that cannot be had any more costs output, not the task."""
        try:
            return self._open_sink(kind, path, stream)
        except ShimyardError as error:
            log.error("the output of a task is lost from now on: %s", error)
            return LostSink()

    def open_input(self, uri: str) -> None:
        """stdin."""
        kind, path = parse_uri(uri, "stdio.stdin")
        if kind == "fifo":
            self._open_source(path)
        else:
            self._give(_open(path if kind == "file" else os.devnull, os.O_RDONLY, "stdio.stdin"))

    def open_output(self, stream: str, uri: str) -> None:
        """stdout or stderr."""
        field = f"stdio.{stream}"
        kind, path = parse_uri(uri, field)
        if self._capture is None and kind in ("null", "file"):
            flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT if kind == "file" else 0)
            self._give(_open(path or os.devnull, flags, field))
            return
        sinks: list[Sink] = []
        try:
            if kind != "null":
                sinks.append(self._open_sink(kind, path, stream))
            reading, writing = _pipe(field)
            self._give(writing)
            self._add_output(stream, reading, sinks)
        except BaseException:
            for sink in sinks:
                sink.close()
            raise

    def open_error_as_output(self) -> None:
        """stderr goes where stdout goes, in the order of writing, as with a shell's ``2>&1``."""
        self._give(os.dup(self._child[1]))

    def _add_capture(self, stream: str) -> list[Sink]:
        if self._capture is None:
            return []
        path = os.path.join(self._capture.folder, f"captured.{stream}")  # noqa: PTH118 - pathlib costs the shim memory
        self._captures[stream] = CaptureSink(self._capture.limit, path)
        return [self._captures[stream]]

    def _add_output(self, stream: str, reading: int, sinks: list[Sink]) -> None:
        sinks += self._add_capture(stream)
        self._outputs[stream] = Output(self._loop, reading, sinks)

    def _add_fifo(self, stream: str, anchor: int) -> FifoSink:
        self._fifos[stream] = FifoSink(self._loop, anchor)
        return self._fifos[stream]

    def _on_delivered(self) -> None:
        if self._log is not None:
            self._log.close()
        self.flushed.set(None)

    def _open_source(self, path: str) -> None:
        field = "stdio.stdin"
        fifo = open_fifo(path, field)
        try:
            reading, writing = _pipe(field)
        except BaseException:
            os.close(fifo)
            raise
        self._give(reading)
        self._source = FifoSource(self._loop, fifo, writing)

    def _open_sink(self, kind: str, path: str, stream: str) -> Sink:
        field = f"stdio.{stream}"
        if kind == "file":
            return FileSink(_open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, field))
        if kind == "log":
            return LogSink(self._open_log(field), stream)
        return self._add_fifo(stream, open_fifo(path, field))

    def _open_log(self, field: str) -> LogFile:
        if self._log is None:
            settings = self._log_settings
            try:
                self._log = LogFile(settings.path, settings.max_size, settings.max_files)
            except OSError as error:
                raise scarce(error, f"{field}: cannot open the log {settings.path}") from error
        return self._log

    def _give(self, fd: int) -> None:
        """For the process, and above 2: there it is not in the way of what becomes 0, 1 and 2."""
        if fd < _FIRST_FREE:
            low, fd = fd, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
            os.close(low)
        self._child.append(fd)


def _pipe(field: str) -> tuple[int, int]:
    try:
        return os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise scarce(error, f"{field}: no pipe") from error


def _open(path: str, flags: int, field: str) -> int:
    """A file, never waiting for the other side of a named pipe, which is refused here."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise scarce(error, f"{field}: cannot open {path}", InvalidArgument) from error
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArgument(f"{field}: {path} is a named pipe; write fifo://{path}")
    os.set_blocking(fd, True)  # the process expects it so
    return fd
