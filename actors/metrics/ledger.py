"""What the events tell of all tasks together: how many are in which state, how they ended, how long they ran.

It begins with the tasks of former daemons as the disk has them; every later change comes as an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from actors.measures import Distribution, Histogram
from actors.records import Envelope
from actors.store.tasks import TaskRow

Key = tuple[str, str]
STATES: Final = ("created", "running", "paused", "stopped")
"""Those that events tell of; what lies between two of them is over in a moment."""
MEASURED: Final = ("created", "running", "paused")
OWN_DOING: Final = "none"
_RUN_SECONDS: Final = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
_AFTER: Final[Mapping[str, str]] = {
    "TaskCreate": "created",
    "TaskStart": "running",
    "TaskPaused": "paused",
    "TaskResumed": "running",
    "TaskExit": "stopped",
}


@dataclass(frozen=True, slots=True)
class Account:
    """``events`` by type and ``exits`` of inits by reason, since the daemon's start; ``runs``: seconds from start to exit."""

    states: Mapping[str, int]
    events: Mapping[str, int]
    exits: Mapping[str, int]
    runs: Distribution


@dataclass(slots=True)
class _Task:
    state: str
    started_at: int | None = None


class Ledger:
    """Of all namespaces. ``former``: the tasks of former daemons."""

    def __init__(self, former: Iterable[TaskRow]) -> None:
        self._tasks = {
            (row.namespace, row.id): _Task(row.phase, row.started_at) for row in former if row.phase in STATES
        }
        self._states = Counter(task.state for task in self._tasks.values())
        self._events: Counter[str] = Counter()
        self._exits: Counter[str] = Counter()
        self._runs = Histogram(_RUN_SECONDS)

    def take(self, envelope: Envelope) -> None:
        """One more event, in order."""
        self._events[envelope.type] += 1
        body = envelope.event
        task_id = body.get("container_id")
        if task_id is None or body.get("id", task_id) != task_id or "exec_id" in body:  # no task's, or an exec's
            return
        key = (envelope.namespace, str(task_id))
        if envelope.type == "TaskDelete":
            self._drop(key)
        elif envelope.type in _AFTER:
            self._move(key, envelope)

    def keys(self) -> list[Key]:
        """The tasks whose use can be told."""
        return [key for key, task in self._tasks.items() if task.state in MEASURED]

    def account(self) -> Account:
        """As it is now."""
        states = {state: self._states[state] for state in STATES}
        return Account(states, dict(self._events), dict(self._exits), self._runs.distribution())

    def _move(self, key: Key, envelope: Envelope) -> None:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = _Task("")
        else:
            self._states[task.state] -= 1
        task.state = _AFTER[envelope.type]
        self._states[task.state] += 1
        if envelope.type == "TaskStart":
            task.started_at = envelope.timestamp
        elif envelope.type == "TaskExit":
            self._exits[str(envelope.event.get("reason") or OWN_DOING)] += 1
            if task.started_at is not None:
                self._runs.observe(max(0, int(envelope.event["exited_at"]) - task.started_at) / 1e9)

    def _drop(self, key: Key) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            self._states[task.state] -= 1
