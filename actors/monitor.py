"""Subscribes to process exits at the exchange, like any client outside, and watches over how long tasks run.

A task with a ``timeout`` is watched from its start (the clock goes on over daemon restarts, since the start's own time
counts, by a clock that nobody sets) until its exit is heard; when its time is over it is told so, and stops itself.
"""

from __future__ import annotations

from typing import Any

import pykka

from actors.dispatch import LoopActor, post
from actors.messages import Delivered, Expired, Subscribe, Watch
from shimproc.loop import LoopLike, Timer
from shimproc.reaper import boottime


class MonitorActor(LoopActor):
    """One timer for each running task that has a timeout, none for others."""

    def __init__(self, loop: LoopLike, exchange: pykka.ActorRef[Any]) -> None:
        super().__init__(loop)
        self._exchange = exchange
        self._deadlines: dict[tuple[str, str], Timer] = {}

    def on_start(self) -> None:
        """Hear of every exit from now on."""
        post(self._exchange, Subscribe(self.actor_ref))

    def on_stop(self) -> None:
        """No deadline outlives the monitor; the next daemon's sets them again."""
        for timer in self._deadlines.values():
            timer.cancel()

    def on_watch(self, message: Watch) -> None:
        """A task has started."""
        if message.timeout is None:
            return
        passed = max(0, boottime() - message.started) / 1e9 if message.started else 0.0  # 0: an older shim's
        left = max(0.0, message.timeout - passed)
        task = message.task
        self._forget(message.namespace, message.id)
        self._deadlines[message.namespace, message.id] = self.loop.call_later(left, lambda: post(task, Expired()))

    def on_delivered(self, message: Delivered) -> None:
        """Exits of inits end their deadlines."""
        for event in message.events:
            envelope = event.envelope
            if envelope.type == "TaskExit" and envelope.event["id"] == envelope.event["container_id"]:
                self._forget(envelope.namespace, envelope.event["id"])

    def _forget(self, namespace: str, task_id: str) -> None:
        timer = self._deadlines.pop((namespace, task_id), None)
        if timer is not None:
            timer.cancel()
