"""One thread's event loop: descriptors, timers, signals and turns. Small, because every shim carries one.

Nothing here polls: an idle loop sleeps in ``epoll_wait`` without a timeout. All methods but ``call_from_thread``
belong to the loop's own thread.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from shimproc.flow import Pending

log = logging.getLogger(__name__)

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_ROUND = 256
_FEW = 1024
FOREVER = 1e9
_LONGEST_SLEEP = 86_400.0
"""epoll_wait(2) takes milliseconds in an int."""


class Timer:
    """A call that is due at ``when`` (monotonic seconds) unless cancelled."""

    __slots__ = ("_cancelled", "callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None, cancelled: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self._cancelled = cancelled

    def cancel(self) -> None:
        """Never call; harmless when already called."""
        if self.callback is not None:
            self.callback = None
            self._cancelled()

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class LoopLike(Protocol):
    """What the rest needs of a loop; the simulation has another."""

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def call_soon(self, callback: Callable[[], None]) -> None: ...
    def call_from_thread(self, callback: Callable[[], None]) -> None: ...
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer: ...


class Loop:
    """epoll, a heap of timers and a queue of turns."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._turns: deque[Callable[[], None]] = deque()
        self._timers: list[Timer] = []
        self._signals: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._cancelled = 0
        self._thread = threading.get_ident()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self.watch(self._woken.fileno(), READ, self._on_wake)

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready for ``mask``; a second call changes mask and callback."""
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed; harmless when it was not watched."""
        if self._watched.pop(fd, None) is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: a forked child has closed the shared epoll
                self._epoll.unregister(fd)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call in this or the next round, after what is already queued."""
        self._turns.append(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call once after ``seconds`` of monotonic time, ``FOREVER`` at most; NaN, which has no place in a heap, is that, too."""
        timer = Timer(time.monotonic() + min(FOREVER, seconds), callback, self._on_cancel)
        heapq.heappush(self._timers, timer)
        return timer

    def call_from_thread(self, callback: Callable[[], None]) -> None:
        """``call_soon`` for any thread: also wakes the loop."""
        self._turns.append(callback)
        if threading.get_ident() == self._thread:
            return
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b"\0")

    def on_signal(self, number: signal.Signals, callback: Callable[[], None]) -> None:
        """Call ``callback`` in a turn after the signal came. Main thread only (signal(7), set_wakeup_fd)."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)

    def run(self) -> None:
        """Run rounds until ``stop``; one that came before is heard: a shim may find at its birth that it has nothing to do."""
        self._thread = threading.get_ident()
        while not self._stopped:
            self.round()
        self._stopped = False

    def stop(self) -> None:
        """Leave ``run`` after this round."""
        self._stopped = True
        self.call_from_thread(lambda: None)

    def round(self, wait: float | None = None) -> None:
        """One round: due timers, ready descriptors, then at most ``_ROUND`` turns (bounded work between two looks)."""
        for fd, events in self._epoll.poll(self._patience(wait)):
            on_ready = self._watched.get(fd)
            if on_ready is not None:  # else unwatched by an earlier callback of this round
                _guarded(on_ready, events)
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            due = heapq.heappop(self._timers)
            callback, due.callback = due.callback, None
            if callback is not None:
                _guarded(callback)
        for _ in range(min(len(self._turns), _ROUND)):
            _guarded(self._turns.popleft())

    def close(self) -> None:
        """Release the loop's own descriptors; what is watched stays its owner's."""
        if self._signals:
            signal.set_wakeup_fd(-1)
        self._epoll.close()
        self._woken.close()
        self._waker.close()

    def _patience(self, wait: float | None) -> float | None:
        if self._turns:
            return 0
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return wait
        due = min(max(0.0, self._timers[0].when - time.monotonic()), _LONGEST_SLEEP)
        return due if wait is None else min(wait, due)

    def _on_cancel(self) -> None:
        """Cancelled timers lie in the heap until they are due; when most of it is such, it is made anew."""
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if timer.callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _on_wake(self, _: int) -> None:
        try:
            woken = os.read(self._woken.fileno(), 4096)
        except BlockingIOError:
            return
        for number in set(woken):
            callback = self._signals.get(number)
            if callback is not None:
                _guarded(callback)


def after(loop: LoopLike, seconds: float) -> Pending[None]:
    """Done when so much time has passed."""
    pending: Pending[None] = Pending()
    loop.call_later(seconds, lambda: pending.set(None))
    return pending


def _guarded(callback: Callable[..., None], *args: int) -> None:
    """A fault in one callback must not end the loop that all others live on."""
    try:
        callback(*args)
    except Exception:
        log.exception("a callback of the loop failed")
