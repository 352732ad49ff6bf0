"""A process's stdio, opened as its URIs say (API.md, section 3).

``""``: closed stdin, discarded output. ``/path`` or ``fifo:///path``: a named pipe. ``file:///path``: appended, by the
process itself, without a copy. ``log:``: the managed log. ``attach:``: for attached clients alone. With ``capture`` the first
of the output is kept, too. Nothing here blocks, and what fails to open leaves nothing open.

With a terminal the process has that alone; our side is its master, which comes when the process is made (``take_terminal``).

What would break if this shim were killed is entrusted to a keeper; the next shim goes on with it (``adopt_stdio``).
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from shimproc.errors import InvalidArgument, ShimyardError, scarce
from shimproc.io.console import Console
from shimproc.io.fifo import FifoSource, open_fifo, reopen_fifo
from shimproc.io.keepsakes import CONSOLE, STDIN
from shimproc.io.logfile import LogFile
from shimproc.io.logger import Loggers
from shimproc.io.sinks import FileSink, LogSink, LostSink, Sink
from shimproc.io.streams import ProcessIO
from shimproc.io.uri import Capture, LogSettings, make_pipe, open_file, parse_uri
from shimproc.loop import LoopLike

log = logging.getLogger(__name__)
_SHARED: Final = ("fifo", "file")
_REOPENED: Final = ("file", "log", "binary")
_FIRST_FREE: Final = 3


def open_stdio(
    loop: LoopLike,
    stdio: Mapping[str, Any],
    log: LogSettings,
    capture: Capture | None,
    folder: str = "",
    loggers: Loggers | None = None,
) -> ProcessIO:
    """Open all three.

    Parameters
    ----------
    stdio : ``{stdin, stdout, stderr, terminal}``; what is missing or null is "".
    capture : None for no capture.
    folder : where a terminal may be handed over (``shimproc.io.console``).
    loggers : those that the URIs name (``start_loggers``); this object's from now on.

    Raises ``InvalidArgument`` or ``FailedPrecondition``, which name the field; nothing is left open.
    """
    opened = _Opening(loop, log, capture)
    if loggers is not None:
        opened.use_loggers(loggers)
    stdin, stdout, stderr = (str(stdio.get(name) or "") for name in ("stdin", "stdout", "stderr"))
    try:
        if stdio.get("terminal"):
            opened.open_terminal(stdin, stdout, folder)
            return opened
        opened.open_input(stdin)
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
    adopted = _Opening(loop, log, capture)
    loggers = Loggers()
    loggers.adopt(loop, kept)
    adopted.use_loggers(loggers)
    if stdio.get("terminal"):
        adopted.adopt_terminal(str(stdio.get("stdout") or ""), kept)
        return adopted
    adopted.adopt_input(kept, parse_uri(str(stdio.get("stdin") or ""), "stdio.stdin")[0])
    for stream in ("stdout", "stderr"):
        adopted.adopt_output(stream, str(stdio.get(stream) or ""), kept)
    return adopted


class _Opening(ProcessIO):
    """How its streams come into being."""

    def use_loggers(self, loggers: Loggers) -> None:
        """Where ``binary://`` leads."""
        self._loggers = loggers

    def adopt_input(self, kept: dict[str, int], kind: str) -> None:
        """stdin, if it has not ended."""
        self._had_input = kind == "attach"
        source, target = (kept.pop(name, None) for name in STDIN)
        if source is not None and target is not None:
            self._source = FifoSource(self._loop, source, target)
        else:
            self._input = target

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
        elif kind in _REOPENED:
            sinks.append(self._reopen_sink(kind, path, stream))
        self._add_output(stream, reading, sinks)

    def _reopen_sink(self, kind: str, path: str, stream: str) -> Sink:
        """One that cannot be had any more costs output, not the task."""
        try:
            return self._open_sink(kind, path, stream)
        except ShimyardError as error:
            log.error("the output of a task is lost from now on: %s", error)
            return LostSink()

    def open_terminal(self, stdin: str, stdout: str, folder: str) -> None:
        """Input and output of a process that has a terminal; stdio of the runtime that makes it is nothing."""
        kind, path = parse_uri(stdin, "stdio.stdin")
        if kind == "file":
            raise InvalidArgument("stdio.stdin: the input of a terminal is a named pipe, or comes from attached clients")
        fifo = open_fifo(path, "stdio.stdin") if kind == "fifo" else None
        self._unused = (fifo, [])
        kind, path = parse_uri(stdout, "stdio.stdout")
        if kind not in ("null", "attach"):
            self._unused[1].append(self._open_sink(kind, path, "stdout"))
        self.console = Console(folder)
        for _ in range(3):
            self._give(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))

    def adopt_terminal(self, uri: str, kept: dict[str, int]) -> None:
        """Of a process that another shim made."""
        source, target = (kept.pop(name, None) for name in STDIN)
        master = kept.pop(CONSOLE, None)
        if target is not None:
            os.close(target)
        if master is None:  # nobody kept it
            self._unused = (source, [])
            self._add_capture("stdout")
            return
        kind, path = parse_uri(uri, "stdio.stdout")
        fifo, reading = kept.pop("stdout.fifo", None), kept.pop("stdout", None)
        if reading is not None:
            os.close(reading)
        sinks: list[Sink] = []
        if fifo is not None:
            sinks.append(self._add_fifo("stdout", reopen_fifo(fifo)))
        elif kind in _REOPENED:
            sinks.append(self._reopen_sink(kind, path, "stdout"))
        self._unused = (source, sinks)
        self._use_terminal(master)

    def open_input(self, uri: str) -> None:
        """stdin."""
        kind, path = parse_uri(uri, "stdio.stdin")
        if kind == "fifo":
            self._open_source(path)
        elif kind == "attach":
            reading, self._input = make_pipe("stdio.stdin")
            self._had_input = True
            self._give(reading)
            os.set_blocking(self._input, False)
        else:
            self._give(open_file(path if kind == "file" else os.devnull, os.O_RDONLY, "stdio.stdin"))

    def open_output(self, stream: str, uri: str) -> None:
        """stdout or stderr."""
        field = f"stdio.{stream}"
        kind, path = parse_uri(uri, field)
        if self._capture is None and kind in ("null", "file"):
            flags = os.O_WRONLY | os.O_APPEND | (os.O_CREAT if kind == "file" else 0)
            self._give(open_file(path or os.devnull, flags, field))
            return
        sinks: list[Sink] = []
        try:
            if kind not in ("null", "attach"):
                sinks.append(self._open_sink(kind, path, stream))
            reading, writing = make_pipe(field)
            self._give(writing)
            self._add_output(stream, reading, sinks)
        except BaseException:
            for sink in sinks:
                sink.close()
            raise

    def open_error_as_output(self) -> None:
        """stderr goes where stdout goes, in the order of writing, as with a shell's ``2>&1``."""
        self._give(os.dup(self._child[1]))

    def _open_source(self, path: str) -> None:
        field = "stdio.stdin"
        fifo = open_fifo(path, field)
        try:
            reading, writing = make_pipe(field)
        except BaseException:
            os.close(fifo)
            raise
        self._give(reading)
        self._source = FifoSource(self._loop, fifo, writing)

    def _open_sink(self, kind: str, path: str, stream: str) -> Sink:
        field = f"stdio.{stream}"
        if kind == "file":
            return FileSink(open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, field))
        if kind == "log":
            return LogSink(self._open_log(field), stream)
        if kind == "binary":
            return self._loggers.sinks.get(stream) or LostSink()
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
