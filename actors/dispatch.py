"""The actor type that everything on the daemon's loop is: a pykka actor without a thread of its own.

pykka's documented extension points carry it: the inbox raises ``TurnOver`` where a thread would wait, so one call of
pykka's own loop is one turn, of at most ``BATCH`` messages, and then the actor goes to the back of the loop's queue.
The position of ``inbox.get()`` before the ``try`` in ``Actor._actor_loop_running`` is what this stands on; pykka is
pinned to 4.5 and ``tests/unit/test_dispatch.py`` holds it to that.

Rules: a handler never blocks; a message is a frozen dataclass; actors ``post``, they never ``ask`` one another.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import pykka
from pykka.messages import _ActorStop

from actors.messages import Call
from shimproc.errors import Internal, NotFound, ShimyardError
from shimproc.loop import LoopLike

log = logging.getLogger(__name__)
BATCH = 32


class TurnOver(Exception):  # noqa: N818 - not an error: the inbox ran dry, or this actor had its share
    """Leaves pykka's loop at the end of a turn."""


class Inbox:
    """``put`` schedules the actor's next turn, from any thread; ``get`` never blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._envelopes: deque[Any] = deque()
        self._schedule: Callable[[], None] | None = None
        self._scheduled = True  # start() owns the first turn
        self._closed = False
        self._left = BATCH

    def bind(self, schedule: Callable[[], None]) -> None:
        """``schedule`` asks the loop for a turn; it is the inbox's hold on its actor."""
        self._schedule = schedule

    def put(self, envelope: Any, /) -> None:
        """Take an envelope, or answer it now when the actor has stopped (decided under one lock, so none is lost)."""
        with self._lock:
            if self._closed:
                _refuse(envelope)
                return
            self._envelopes.append(envelope)
            if self._scheduled or self._schedule is None:
                return
            self._scheduled = True
            schedule = self._schedule
        schedule()

    def get(self) -> Any:
        """The next envelope of this turn, else ``TurnOver``."""
        if not self._left or not self._envelopes:
            raise TurnOver
        self._left -= 1
        return self._envelopes.popleft()

    def empty(self) -> bool:
        """Is nothing waiting?"""
        return not self._envelopes

    def park(self) -> None:
        """The turn is over; ask for another if anything waits."""
        with self._lock:
            self._left = BATCH
            self._scheduled = bool(self._envelopes)
            again = self._schedule if self._scheduled else None
        if again is not None:
            again()

    def close(self) -> deque[Any]:
        """Accept nothing more; returns what was left. Drops the hold on the actor."""
        with self._lock:
            self._closed = True
            left, self._envelopes = self._envelopes, deque()
            self._schedule = None
        return left


def _refuse(envelope: Any) -> None:
    if envelope.reply_to is None:
        dead_letter(envelope.message)
    elif isinstance(envelope.message, _ActorStop):
        envelope.reply_to.set(None)
    else:
        error = pykka.ActorDeadError("stopped before handling the message")
        envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))


def dead_letter(message: Any) -> None:
    """A message to an actor that is gone: a request is answered, anything else is worth a debug line."""
    if isinstance(message, Call):
        message.reply.fail(NotFound(f"what {message.method} asks for is gone"))
    else:
        log.debug("dead letter: %s", type(message).__name__)


def post(ref: pykka.ActorRef[Any], message: Any) -> None:
    """Send ``message``; unlike ``tell`` a dead receiver does not kill the sender."""
    try:
        ref.tell(message)
    except pykka.ActorDeadError:
        dead_letter(message)


@functools.cache
def handler_name(message_name: str) -> str:
    """``TaskExit`` is handled by ``on_task_exit``."""
    return "on_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", message_name).lower()


class LoopActor(pykka.Actor):
    """An actor whose turns run on ``loop``; a message of type ``ShimEvent`` goes to ``on_shim_event``.

    A fault in a handler is logged and, for a request, answered; the actor lives on.
    """

    actor_inbox: Inbox

    def __init__(self, loop: LoopLike) -> None:
        super().__init__()
        self.loop = loop

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Any]:
        """Like pykka's, but outside its global registry, whose removals grow with the number of all actors."""
        made = cls(*args, **kwargs)
        made._start_actor_loop()
        return made.actor_ref

    def on_receive(self, message: Any) -> None:
        """Hand ``message`` to its handler."""
        handler = getattr(self, handler_name(type(message).__name__), None)
        try:
            if handler is None:
                _unhandled(self, message)
            handler(message)
        except ShimyardError as error:
            if not isinstance(message, Call):
                raise
            message.reply.fail(error)
        except Exception as error:
            log.exception("%s failed on %s", type(self).__name__, type(message).__name__)
            if isinstance(message, Call):
                message.reply.fail(error)

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Inbox()

    @staticmethod
    def _create_future() -> Any:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.bind(lambda: self.loop.call_from_thread(self._turn))
        self.loop.call_from_thread(self._first_turn)

    def _first_turn(self) -> None:
        self._actor_loop_setup()
        self._turn()

    def _turn(self) -> None:
        try:
            self._actor_loop_running()
        except TurnOver:
            self.actor_inbox.park()
        else:
            self._actor_loop_teardown()

    def _actor_loop_teardown(self) -> None:
        for envelope in self.actor_inbox.close():
            _refuse(envelope)


def _unhandled(actor: LoopActor, message: Any) -> NoReturn:
    raise Internal(f"{type(actor).__name__} has no {handler_name(type(message).__name__)}")
