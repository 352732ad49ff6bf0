"""Copies one stream of a process from its pipe to its sinks, on the loop, never blocking.

Held up by a full sink, it stops reading, and the process waits as at any full pipe. After the exit ``drain`` reads
what is in the pipe at that moment: nothing that the process wrote is lost, and an orphan that holds the pipe open, or
goes on writing to it, delays nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from shimproc import linux
from shimproc.io.attach import Attachment
from shimproc.io.sinks import Sink
from shimproc.loop import READ, LoopLike

_BLOCK: Final = 64 << 10
_PIPE: Final = 256 << 10
_READS: Final = 8
_TERMINAL: Final = 256 << 10


class Output:
    """One stream.

    Parameters
    ----------
    fd : the pipe's reading end; sinks: where it goes. All are this object's from now on.
    """

    def __init__(self, loop: LoopLike, fd: int, sinks: Sequence[Sink]) -> None:
        self._loop = loop
        self._fd: int | None = fd
        self._sinks = list(sinks)
        self._held_up = True
        self._on_hold = False
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError):
            linux.set_pipe_size(fd, _PIPE)
        for sink in sinks:
            sink.on_room(self._resume)
        try:
            self._resume()
        except BaseException:
            os.close(fd)
            raise

    @property
    def fd(self) -> int | None:
        """The pipe's reading end; None once it is closed."""
        return self._fd

    @property
    def dropped(self) -> int:
        """Bytes that a sink could not take."""
        return sum(sink.dropped for sink in self._sinks)

    def add(self, sink: Sink) -> None:
        """One more, for what comes from now on."""
        self._sinks.append(sink)

    def remove(self, attachment: Attachment) -> None:
        """A client that was attached is gone."""
        self._sinks = [sink for sink in self._sinks if getattr(sink, "attachment", None) is not attachment]

    def drain(self, done: Callable[[], None]) -> None:
        """The process has ended: read what it left, then let the sinks finish; ``done`` once all have."""
        left = 0 if self._fd is None else _written(self._fd)
        while left > 0 and self._fd is not None and (data := self._read(min(left, _BLOCK))):
            left -= len(data)
            self._pass_on(data)
        self._close()
        waiting = len(self._sinks)

        def one() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                done()

        for sink in self._sinks:
            sink.finish(one)
        if not self._sinks:  # only clients that are attached see it, and there are none
            done()

    def hold(self) -> None:
        """What is written stays in the pipe for now."""
        self._on_hold = True
        if not self._held_up:
            self._hold_up()

    def go_on(self, *, discard: bool) -> None:
        """It is passed on again; with ``discard`` what came meanwhile is thrown away."""
        while discard and self._fd is not None and self._read(_BLOCK):
            pass
        self._on_hold = False
        self._resume()

    def abandon(self) -> None:
        """Let go of everything now."""
        self._close()
        for sink in self._sinks:
            sink.close()

    def _on_readable(self, _: int) -> None:
        """A bounded number of reads a turn: other streams wait, too."""
        for _turn in range(_READS):
            data = self._read(_BLOCK)
            if not data:
                return
            if not self._pass_on(data):
                self._hold_up()
                return

    def _read(self, size: int) -> bytes:
        """What is there; nothing now, or at the end (a terminal's is EIO), if it is empty."""
        assert self._fd is not None
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._close()
        return data

    def _pass_on(self, data: bytes) -> bool:
        """To every sink; False when one is full."""
        room = [sink.write(data) for sink in self._sinks]
        return all(room)

    def _hold_up(self) -> None:
        if self._fd is not None:
            self._held_up = True
            self._loop.unwatch(self._fd)

    def _resume(self) -> None:
        if self._held_up and not self._on_hold and self._fd is not None:
            self._held_up = False
            self._loop.watch(self._fd, READ, self._on_readable)

    def _close(self) -> None:
        if self._fd is not None:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = None


def _written(fd: int) -> int:
    """The most that a process that has ended can have left to be read.

    A pipe tells it. What is on its way through a terminal is not counted there; it is bounded by its buffers, and a read of the
    master takes it in before it says that there is nothing (n_tty_read).
    """
    return _TERMINAL if os.isatty(fd) else linux.unread(fd)
