"""The streams of one process: what is done with them while it runs, when it ends, and when its shim is killed.

They are opened, or taken over from a killed shim, by ``shimproc.io.stdio``. What would break if this shim were killed is
entrusted to a keeper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from shimproc.errors import FailedPrecondition
from shimproc.flow import Pending
from shimproc.io.attach import Attachment, AttachSink, Feed
from shimproc.io.console import END_OF_INPUT, Console, resize
from shimproc.io.fifo import FifoSink, FifoSource
from shimproc.io.keepsakes import CONSOLE, STDIN, Keeper
from shimproc.io.logfile import LogFile
from shimproc.io.logger import Loggers
from shimproc.io.pump import Output
from shimproc.io.sinks import CaptureSink, Sink
from shimproc.io.uri import Capture, LogSettings
from shimproc.loop import LoopLike


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
        self._loggers = Loggers()
        self._source: FifoSource | None = None
        self._input: int | None = None
        self._had_input = False
        self._terminal: int | None = None
        self._unused: tuple[int | None, list[Sink]] = (None, [])
        self.console: Console | None = None
        self._feed: Feed | None = None
        self._attached: dict[int, Attachment] = {}
        self._child: list[int] = []
        self._on_input_closed: Callable[[], None] = _nobody
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
        if self._terminal is not None:
            self.write(END_OF_INPUT)
        elif self._source is not None:
            self._end_feed()
            self._source.end()
        elif self._input is not None:
            self._end_feed()
            self._close_input()
        elif not self._had_input:
            raise FailedPrecondition("the process has no stdin to close: it was created without one")

    def write(self, data: bytes) -> Pending[None]:
        """To its stdin, from a client that is attached; done when it is taken. ``FailedPrecondition``: there is none."""
        if self._feed is None:
            fds = None if self._source is None else self._source.fds
            target = self._terminal if self._terminal is not None else (fds[1] if fds is not None else self._input)
            if target is None:
                raise FailedPrecondition(
                    "the process has no stdin: give stdio.stdin a named pipe or attach:, or stdio.terminal"
                )
            self._feed = Feed(self._loop, os.dup(target))
        return self._feed.write(data)

    def attach(self, attachment: Attachment) -> None:
        """A client at the output. ``FailedPrecondition`` if it does not come through here."""
        if not self._outputs and self.console is None:
            raise FailedPrecondition(
                "the process's output goes elsewhere without a copy; give stdio log:, attach:, a named pipe or a terminal"
            )
        self._attached[attachment.number] = attachment
        for stream, output in self._outputs.items():
            output.add(AttachSink(attachment, stream))

    def attached(self, number: int) -> Attachment | None:
        """A client that is attached, or was."""
        return self._attached.get(number)

    def detach(self, number: int) -> None:
        """The client is gone."""
        gone = self._attached.pop(number, None)
        if gone is not None:
            for output in self._outputs.values():
                output.remove(gone)

    def resize(self, width: int, height: int) -> None:
        """The terminal, in characters. ``FailedPrecondition``: there is none."""
        if self._terminal is None:
            raise FailedPrecondition("the process has no terminal; create it with stdio.terminal")
        resize(self._terminal, width, height)

    def finish(self) -> None:
        """The process has ended: what it wrote is read now; ``flushed`` once it is delivered. Returns at once."""
        self._close_inputs()
        waiting = len(self._outputs)

        def one() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                self._on_delivered()

        for output in self._outputs.values():
            output.drain(one)
        for attachment in self._attached.values():
            attachment.finish()
        if not self._outputs:
            self._on_delivered()

    def hold(self) -> None:
        """While a runtime has the process's descriptors as its own: it may write an error there, which is none of the output."""
        for output in self._outputs.values():
            output.hold()

    def go_on(self, *, discard: bool) -> None:
        """The output is read again; ``discard``: what came meanwhile was not the process's."""
        for output in self._outputs.values():
            output.go_on(discard=discard)

    async def delivered(self, seconds: float) -> None:
        """Wait for a slow reader of the output, but not longer than that."""
        timer = self._loop.call_later(seconds, lambda: self.flushed.set(None))
        await self.flushed
        timer.cancel()

    def captured(self) -> dict[str, Any] | None:
        """{stdout, stderr, truncated}, if capture was asked for."""
        if self._capture is None:
            return None
        kept: dict[str, Any] = {name: sink.taken() for name, sink in self._captures.items()}
        return {**kept, "truncated": any(sink.truncated for sink in self._captures.values())}

    def abandon(self) -> None:
        """Let go of everything now."""
        self._close_inputs()
        unused, sinks = self._unused
        self._unused = (None, [])
        if unused is not None:
            os.close(unused)
        for sink in sinks:
            sink.close()
        self._close_console()
        for output in self._outputs.values():
            output.abandon()
        self._loggers.close()
        self._on_delivered()

    def entrust(self, keeper: Keeper, pid: int, more: Mapping[str, int]) -> None:
        """Have kept what the next shim would need; ``more`` is the runtime's own, ``pid`` the process."""
        fds = dict(more)
        if self._source is not None and self._source.fds is not None:
            fds |= zip(STDIN, self._source.fds, strict=True)
        fds |= {name: fd for name, fd in ((STDIN[1], self._input), (CONSOLE, self._terminal)) if fd is not None}
        fds |= {stream: output.fd for stream, output in self._outputs.items() if output.fd is not None}
        fds |= {f"{stream}.fifo": fifo.fd for stream, fifo in self._fifos.items() if fifo.fd is not None}
        keeper.keep(pid, fds | self._loggers.entrusted())
        self.tell(keeper)

    def tell(self, keeper: Keeper) -> None:
        """From now on the keeper hears of what is closed and must not stay open there."""
        if self._source is not None:
            self._source.on_closed = lambda: keeper.drop(STDIN)
        self._on_input_closed = lambda: keeper.drop(STDIN[1:])
        for stream, fifo in self._fifos.items():
            fifo.on_closed = partial(keeper.drop, (f"{stream}.fifo",))
        for stream, logger in self._loggers.sinks.items():
            logger.on_closed = partial(keeper.drop, (f"{stream}.logger",))

    def take_terminal(self) -> None:
        """The process is made: if it shall have a terminal, this is it. ``Unavailable``: it has none."""
        if self.console is not None:
            master = self.console.take()
            self._close_console()
            self._use_terminal(master)

    def _close_console(self) -> None:
        if self.console is not None:
            self.console.close()
            self.console = None

    def _use_terminal(self, master: int) -> None:
        self._terminal = master
        fifo, sinks = self._unused
        self._unused = (None, [])
        self._add_output("stdout", os.dup(master), sinks)
        if fifo is not None:
            self._source = FifoSource(self._loop, fifo, os.dup(master))

    def _add_capture(self, stream: str) -> list[Sink]:
        if self._capture is None:
            return []
        path = os.path.join(self._capture.folder, f"captured.{stream}")  # noqa: PTH118 - pathlib costs the shim memory
        self._captures[stream] = CaptureSink(self._capture.limit, path)
        return [self._captures[stream]]

    def _add_output(self, stream: str, reading: int, sinks: list[Sink]) -> None:
        sinks += self._add_capture(stream)
        sinks += [AttachSink(attachment, stream) for attachment in self._attached.values()]
        self._outputs[stream] = Output(self._loop, reading, sinks)

    def _add_fifo(self, stream: str, anchor: int) -> FifoSink:
        self._fifos[stream] = FifoSink(self._loop, anchor)
        return self._fifos[stream]

    def _end_feed(self) -> None:
        if self._feed is not None:
            self._feed.end()
            self._feed = None

    def _close_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None
            self._on_input_closed()

    def _close_inputs(self) -> None:
        if self._source is not None:
            self._source.close()
        if self._feed is not None:
            self._feed.close()
        self._close_input()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def _on_delivered(self) -> None:
        if self._log is not None:
            self._log.close()
        self.flushed.set(None)


def _nobody() -> None:
    """Nobody wants to know."""
