"""Copies one stream of a process from its pipe to its sinks, on the loop, never blocking.

Held up by a full sink, it stops reading, and the process waits as at any full pipe. After the exit ``drain`` reads what
is there to EAGAIN: nothing written is lost, and an orphan that holds the pipe open delays nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from shimproc import linux
from shimproc.io.sinks import Sink
from shimproc.loop import READ, LoopLike

_BLOCK: Final = 64 << 10
_PIPE: Final = 256 << 10
_READS: Final = 8


class Output:
    """One stream.

    Parameters
    ----------
    fd : the pipe's reading end; this object's from now on.
    """

    def __init__(self, loop: LoopLike, fd: int, sinks: Sequence[Sink]) -> None:
        self._loop = loop
        self._fd: int | None = fd
        self._sinks = sinks
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError):
            linux.set_pipe_size(fd, _PIPE)
        for sink in sinks:
            sink.on_room(self._resume)
        self._resume()

    @property
    def dropped(self) -> int:
        """Bytes that a sink could not take."""
        return sum(sink.dropped for sink in self._sinks)

    def drain(self, done: Callable[[], None]) -> None:
        """The process has ended: read to EAGAIN, then let the sinks finish; ``done`` once all have."""
        while self._fd is not None and self._read() is not None:
            pass
        self._close()
        waiting = len(self._sinks)

        def one() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                done()

        for sink in self._sinks:
            sink.finish(one)

    def abandon(self) -> None:
        """Let go of everything now."""
        self._close()
        for sink in self._sinks:
            sink.close()

    def _on_readable(self, _: int) -> None:
        """A bounded number of reads a turn: other streams wait, too."""
        for _turn in range(_READS):
            room = self._read()
            if room is None:
                return
            if not room:
                assert self._fd is not None
                self._loop.unwatch(self._fd)
                return

    def _read(self) -> bool | None:
        """True: there may be more; False: a sink is full; None: nothing there now, or the end."""
        assert self._fd is not None
        try:
            data = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return None
        if not data:
            self._close()
            return None
        room = [sink.write(data) for sink in self._sinks]
        return all(room)

    def _resume(self) -> None:
        if self._fd is not None:
            self._loop.watch(self._fd, READ, self._on_readable)

    def _close(self) -> None:
        if self._fd is not None:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = None
