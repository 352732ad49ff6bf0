"""``version`` and ``health``: what the daemon says of itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from actors.disk import Disk
from actors.dispatch import LoopActor
from actors.exchange import Bounds
from actors.messages import Call
from actors.registry import Registry
from actors.release import NAME, VERSION
from actors.runtimes import Runtimes
from shimproc import flow
from shimproc.flow import Pending
from shimproc.loop import LoopLike

API_VERSIONS = [1]


class AboutActor(LoopActor):
    """Answers at once, but for the runtimes, which take a moment to probe after a start."""

    def __init__(
        self, loop: LoopLike, disk: Disk, runtimes: Pending[Runtimes], registry: Registry, bounds: Bounds
    ) -> None:
        super().__init__(loop)
        self._disk = disk
        self._runtimes = runtimes
        self._registry = registry
        self._bounds = bounds
        self._started = time.monotonic_ns()

    def on_call(self, call: Call) -> None:
        """``version`` or ``health``."""
        if call.method == "health":
            call.reply.ok(self._health())
        else:
            flow.start(self._version()).then(
                lambda outcome: call.reply.ok(outcome.result()) if outcome.error is None else call.reply.fail(outcome.error)
            )

    async def _version(self) -> Mapping[str, Any]:
        runtimes = await self._runtimes
        return {
            "name": NAME,
            "version": VERSION,
            "api": API_VERSIONS,
            "pid": os.getpid(),
            "runtimes": await self._disk.do(runtimes.told),
            "default_runtime": runtimes.default,
        }

    def _health(self) -> Mapping[str, Any]:
        tasks = len(self._registry)
        return {
            "status": "ok",
            "uptime_ns": time.monotonic_ns() - self._started,
            "tasks": tasks,
            "actors": tasks + _FIXED_ACTORS,
            "threads": threading.active_count(),
            "events": {"last_seq": self._bounds.last_seq, "oldest_seq": self._bounds.oldest_seq},
        }


_FIXED_ACTORS = 9
"""front end, watcher, logs, about, runtime, monitor, exchange, store, disk: one each, beside one a task."""
