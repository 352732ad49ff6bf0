"""Coroutines on our own loop: deeds of several steps read from top to bottom, and nothing blocks.

A ``Pending`` is a result that comes once. ``start`` runs a coroutine until it awaits a ``Pending`` that has not come,
and goes on with it, in the same thread, as soon as it has. (asyncio would cost each shim four times the memory.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

log = logging.getLogger(__name__)
T = TypeVar("T")


class Pending(Generic[T]):
    """A result that is set once, by ``set`` or ``fail``; a second outcome is ignored."""

    __slots__ = ("_error", "_result", "_waiting", "done")

    def __init__(self) -> None:
        self.done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._waiting: list[Callable[[Pending[T]], None]] = []

    def set(self, result: T) -> None:
        """The result has come."""
        self._finish(result, None)

    def fail(self, error: BaseException) -> None:
        """It will not come; whoever awaits gets ``error`` raised."""
        self._finish(None, error)

    def then(self, callback: Callable[[Pending[T]], None]) -> None:
        """Call ``callback`` with this when it is done, at once if it already is."""
        if self.done:
            self._call(callback)
        else:
            self._waiting.append(callback)

    def result(self) -> T:
        """The result, or its error raised. Only when ``done``."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    @property
    def error(self) -> BaseException | None:
        """The error, or None."""
        return self._error

    def _finish(self, result: T | None, error: BaseException | None) -> None:
        if self.done:
            return
        self.done, self._result, self._error = True, result, error
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            self._call(callback)

    def _call(self, callback: Callable[[Pending[T]], None]) -> None:
        """One waiter's fault must not cost the others their result."""
        try:
            callback(self)
        except Exception:
            log.exception("a callback of a result failed")

    def __await__(self) -> Generator[Pending[T], None, T]:
        if not self.done:
            yield self
        return self.result()


def start(flow: Coroutine[Any, Any, T]) -> Pending[T]:
    """Run ``flow``; the Pending is its return value or the exception that it raised."""
    outcome: Pending[T] = Pending()

    def step(_: Pending[Any] | None = None) -> None:
        try:
            awaited = flow.send(None)
        except StopIteration as stop:
            outcome.set(stop.value)
        except Exception as error:  # noqa: BLE001 - it is handed on, not swallowed
            outcome.fail(error)
        else:
            awaited.then(step)

    step()
    return outcome


def spawn(flow: Coroutine[Any, Any, Any], what: str) -> None:
    """Run ``flow`` with nobody waiting for it: a failure is logged with ``what``."""

    def report(outcome: Pending[Any]) -> None:
        if outcome.error is not None:
            log.error("%s failed", what, exc_info=outcome.error)

    start(flow).then(report)


def done(result: T) -> Pending[T]:
    """A Pending that is already there."""
    pending: Pending[T] = Pending()
    pending.set(result)
    return pending
