"""A loop like ``shimproc.loop.Loop``, round by round the same, whose every callback is one step of the kernel's."""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from shimproc.loop import FOREVER, Timer
from tests.simulation.kernel import File, Kernel, Killed
from tests.simulation.stage import STAGE

log = logging.getLogger("shimproc.loop")
_ROUND = 256


class SimLoop:
    """``LoopLike``, and what the processes' mains use besides."""

    def __init__(self) -> None:
        self.kernel: Kernel = STAGE.kernel
        self.process = self.kernel.current
        self.process.loops.append(self)
        self.watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self.turns: deque[Callable[[], None]] = deque()
        self.timers: list[Timer] = []
        self.due: list[Timer] = []
        self.marked: dict[int, None] = {}
        self.agenda: deque[Callable[[], None]] = deque()
        self.signals: deque[tuple[int, Callable[[], None]]] = deque()
        self.stopped = False

    # -- what the product uses

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """See ``Loop.watch``."""
        self.kernel.enter()
        file = self.kernel.file(fd)
        self.watched[fd] = (mask, callback)
        file.watchers[self, fd] = None
        self.mark(fd)

    def unwatch(self, fd: int) -> None:
        """See ``Loop.unwatch``."""
        if self.watched.pop(fd, None) is not None and fd in self.kernel.fds:
            self.kernel.fds[fd][0].watchers.pop((self, fd), None)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """See ``Loop.call_soon``."""
        self.turns.append(callback)
        self.activate()

    call_from_thread = call_soon

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """See ``Loop.call_later``."""
        when = self.kernel.now + int(min(FOREVER, seconds) * 1e9)
        timer = Timer(when, callback, _nothing)
        heapq.heappush(self.timers, timer)
        self.kernel.schedule(when, self, timer)
        return timer

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """See ``Loop.on_signal``."""
        self.process.handles[int(number)] = callback

    def run(self) -> None:
        """Nothing: the kernel does."""

    def stop(self) -> None:
        """Leave after this round."""
        self.stopped = True
        self.call_soon(_nothing)

    def round(self, _wait: float | None = None) -> None:
        """All that is to be done now; only the stop of a daemon asks for it, from within a step."""
        self.kernel.now += 10**6
        while self.runnable() and self.process.alive:
            self._one()
        if not self.process.alive:
            raise Killed

    def close(self) -> None:
        """Nothing to release."""

    # -- what the kernel uses

    def activate(self) -> None:
        """It has, or may have, something to do."""
        if self.process.alive and not self.process.stopped:
            self.kernel.active[self] = None

    def mark(self, fd: int) -> None:
        """Look at this descriptor in the next round."""
        self.marked[fd] = None
        self.activate()

    def interrupt(self, number: int, handler: Callable[[], None]) -> None:
        """A signal has come; as in an fd of its own, one that is on its way already is not told twice."""
        if all(known != number for known, _ in self.signals):
            self.signals.append((number, handler))
        self.activate()

    def dead(self) -> None:
        """Its process has ended."""
        self.kernel.active.pop(self, None)
        self.agenda.clear()
        self.turns.clear()
        self.due.clear()
        self.watched.clear()
        self.timers.clear()

    def runnable(self) -> bool:
        """Is there anything to be done now?"""
        return bool(self.agenda or self.turns or self.due or self.marked or self.signals)

    def pending(self) -> list[Timer]:
        """The timers that will still be called."""
        return [timer for timer in self.timers if timer.callback is not None]

    def step(self) -> None:
        """One callback, in its process."""
        kernel, process = self.kernel, self.process
        kernel.current = process
        try:
            self._one()
            if self.stopped and not self.agenda and process.alive:
                self.stopped = False
                process.on_stop()
        except Killed:
            if process.alive:
                raise
        finally:
            kernel.current = kernel.init
        if not process.alive:  # what was under way has been cut off in between, and is ended now
            self.kernel.close_flows(self.process)

    def _one(self) -> None:
        if not self.agenda:
            self._begin_round()
        if self.agenda:
            callback = self.agenda.popleft()
            if self.kernel.trace is not None:
                self.kernel.say(f"{self.process} {_named(callback)}")
            _guarded(callback)

    def _begin_round(self) -> None:
        ready = []
        for fd in list(self.marked):
            known = self.watched.get(fd)
            if known is None or not (self._events(fd) & (known[0] | 16)):
                del self.marked[fd]
            else:
                ready.append(fd)
        if len(ready) > 1:
            self.kernel.random.shuffle(ready)
        agenda = self.agenda
        while self.signals:
            agenda.append(self.signals.popleft()[1])
        agenda.extend(partial(self._on_ready, fd) for fd in ready)
        due, self.due = self.due, []
        agenda.extend(partial(self._on_due, timer) for timer in due)
        for _ in range(min(len(self.turns), _ROUND)):
            agenda.append(self._on_turn)
        while self.timers and self.timers[0].callback is None:
            heapq.heappop(self.timers)

    def _events(self, fd: int) -> int:
        found = self.kernel.fds.get(fd)
        return 0 if found is None else found[0].events()

    def _on_ready(self, fd: int) -> None:
        known = self.watched.get(fd)
        if known is not None:
            events = self._events(fd) & (known[0] | 16)
            if events:
                known[1](events)

    def _on_due(self, timer: Timer) -> None:
        callback, timer.callback = timer.callback, None
        if callback is not None:
            callback()

    def _on_turn(self) -> None:
        if self.turns:
            self.turns.popleft()()


def _nothing() -> None:
    """Wakes."""


def _named(callback: Any) -> str:
    inner = callback.func if isinstance(callback, partial) else callback
    return str(getattr(inner, "__name__", inner))


def _guarded(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Killed:
        raise
    except Exception:
        log.exception("a callback of the loop failed")


__all__ = ["File", "SimLoop"]
