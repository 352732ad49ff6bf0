"""A process's stdio, opened as its URIs say (API.md, section 3).

``""``: closed stdin, discarded output. ``/path`` or ``fifo:///path``: a named pipe. ``file:///path``: appended, by the
process itself, without a copy. ``log:``: the managed log. With ``capture`` the output is kept in memory, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shimproc.errors import FailedPrecondition, InvalidArgument, Unimplemented
from shimproc.flow import Pending
from shimproc.io.fifo import FifoSink, FifoSource, ensure_fifo
from shimproc.io.logfile import LogFile
from shimproc.io.pump import Output
from shimproc.io.sinks import CaptureSink, FileSink, LogSink, Sink
from shimproc.loop import LoopLike

_NULL: Final = ("null", "")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The managed log of a process."""

    path: str
    max_size: int
    max_files: int


def parse_uri(uri: str, field: str) -> tuple[str, str]:
    """(kind, path): null, fifo, file or log."""
    if uri == "":
        return _NULL
    if uri == "log:" and field != "stdio.stdin":
        return "log", ""
    if uri.startswith("binary:"):
        raise Unimplemented(f"{field}: binary:// loggers are not served by this version; use log: or a named pipe")
    scheme, separator, rest = uri.partition("://")
    kind, path = (scheme, rest) if separator else ("fifo", uri)
    if kind not in ("fifo", "file") or not path.startswith("/") or "\0" in path:
        allowed = '"", an absolute path, fifo:///path, file:///path' + ("" if field == "stdio.stdin" else " or log:")
        raise InvalidArgument(f"{field}: {uri!r} is none of {allowed}")
    return kind, path


def open_stdio(loop: LoopLike, stdio: Mapping[str, Any], log: LogSettings, capture: int | None) -> ProcessIO:
    """Open all three; an error names the field, and leaves nothing open."""
    if stdio.get("terminal"):
        raise Unimplemented("stdio.terminal: terminals are not served by this version; leave it out")
    opened = ProcessIO(loop, log, capture)
    try:
        opened.open_input(str(stdio.get("stdin") or ""))
        stdout, stderr = str(stdio.get("stdout") or ""), str(stdio.get("stderr") or "")
        opened.open_output("stdout", stdout, None)
        opened.open_output("stderr", stderr, stdout if capture is None else None)
    except BaseException:
        opened.close_child()
        opened.abandon()
        raise
    return opened


class ProcessIO:
    """The streams of one process: ``child`` are the descriptors to give it, the rest is our side."""

    def __init__(self, loop: LoopLike, log: LogSettings, capture: int | None) -> None:
        self._loop = loop
        self._log_settings = log
        self._log: LogFile | None = None
        self._limit = capture
        self._captures: dict[str, CaptureSink] = {}
        self._outputs: list[Output] = []
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
        return sum(output.dropped for output in self._outputs)

    def close_child(self) -> None:
        """The process has its own copies now."""
        for fd in set(self._child):
            os.close(fd)
        self._child.clear()

    def close_stdin(self) -> None:
        """End the process's stdin; harmless when it has ended. ``FailedPrecondition`` if it never had one."""
        if self._source is None:
            raise FailedPrecondition("the process has no stdin to close: it was created without one")
        self._source.close()

    def finish(self) -> None:
        """The process has ended: what it wrote is read now; ``flushed`` once it is delivered."""
        if self._source is not None:
            self._source.close()
        waiting = len(self._outputs)
        if not waiting:
            self.flushed.set(None)

        def one() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                self.flushed.set(None)

        for output in self._outputs:
            output.drain(one)

    def captured(self) -> dict[str, Any] | None:
        """{stdout, stderr, truncated}, if capture was asked for."""
        if self._limit is None:
            return None
        kept: dict[str, Any] = {name: sink.taken() for name, sink in self._captures.items()}
        return {**kept, "truncated": any(sink.truncated for sink in self._captures.values())}

    def abandon(self) -> None:
        """Let go of everything now."""
        if self._source is not None:
            self._source.close()
        for output in self._outputs:
            output.abandon()
        if self._log is not None:
            self._log.close()
            self._log = None
        self.flushed.set(None)

    def open_input(self, uri: str) -> None:
        """stdin."""
        kind, path = parse_uri(uri, "stdio.stdin")
        if kind == "fifo":
            ensure_fifo(path, "stdio.stdin")
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self._child.append(reading)
            self._source = FifoSource(self._loop, path, writing)
        else:
            self._child.append(_open(path if kind == "file" else os.devnull, os.O_RDONLY, "stdio.stdin"))

    def open_output(self, stream: str, uri: str, same: str | None) -> None:
        """stdout or stderr; the same file as stdout is the same descriptor."""
        field = f"stdio.{stream}"
        kind, path = parse_uri(uri, field)
        if kind == "file" and same == uri:
            self._child.append(os.dup(self._child[1]))
            return
        sinks: list[Sink] = []
        if kind == "file":
            fd = _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, field)
            if self._limit is None:
                self._child.append(fd)
                return
            sinks.append(FileSink(fd))
        elif kind == "fifo":
            ensure_fifo(path, field)
            sinks.append(FifoSink(self._loop, path))
        elif kind == "log":
            sinks.append(LogSink(self._open_log(field), stream))
        if self._limit is not None:
            self._captures[stream] = CaptureSink(self._limit)
            sinks.append(self._captures[stream])
        self._connect(sinks, field)

    def _connect(self, sinks: list[Sink], field: str) -> None:
        if not sinks:
            self._child.append(_open(os.devnull, os.O_WRONLY, field))
            return
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._child.append(writing)
        self._outputs.append(Output(self._loop, reading, sinks))

    def _open_log(self, field: str) -> LogFile:
        if self._log is None:
            settings = self._log_settings
            try:
                self._log = LogFile(settings.path, settings.max_size, settings.max_files)
            except OSError as error:
                raise FailedPrecondition(f"{field}: cannot open the log {settings.path}: {error.strerror}") from error
        return self._log


def _open(path: str, flags: int, field: str) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidArgument(f"{field}: cannot open {path}: {error.strerror}") from error
