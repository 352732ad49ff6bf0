"""What all tasks use, measured again and again: each measurement tells the rates since the one before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.records import Task
from shimproc.errors import NotFound, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client


@dataclass(frozen=True, slots=True)
class Usage:
    """One task. What the host does not tell, or is not known yet, is None.

    ``cpu_percent``: of one CPU; ``read_rate`` and ``write_rate``: bytes a second, since the measurement before.
    """

    task: Task
    metrics: Mapping[str, Any] | None = None
    cpu_percent: float | None = None
    read_rate: float | None = None
    write_rate: float | None = None

    def metric(self, *names: str) -> int | None:
        """One number of ``tasks.metrics``, by its names."""
        found: Any = self.metrics
        for name in names:
            found = None if found is None else found.get(name)
        return None if found is None else int(found)

    @property
    def memory_percent(self) -> float | None:
        """Of its limit."""
        usage, limit = self.metric("memory", "usage"), self.metric("memory", "limit")
        return None if usage is None or not limit else 100 * usage / limit


class Sampler:
    """Measures. The requests of one measurement go out at once."""

    def __init__(self, client: Client, ids: Collection[str] = ()) -> None:
        self._client = client
        self._ids = frozenset(ids)
        self._before: dict[str, Mapping[str, Any]] = {}

    def take(self, *, stopped: bool = False) -> list[Usage]:
        """All tasks, or those of ``ids`` (``NotFound`` if one is none). ``stopped``: those that have ended, too."""
        from actors.client.calls import Tasks  # noqa: PLC0415 - it comes with pyzmq

        tasks = [task for task in self._client.tasks.list() if not self._ids or task.id in self._ids]
        if missing := self._ids - {task.id for task in tasks}:
            raise NotFound(f"no task {', '.join(sorted(missing))}")
        tasks = [task for task in tasks if stopped or self._ids or task.status != "stopped"]
        alive = [task for task in tasks if task.status != "stopped"]
        answers = self._client.perform_all([Tasks.metrics(task.id) for task in alive])
        measured = {
            task.id: answer for task, answer in zip(alive, answers, strict=True) if not isinstance(answer, ShimyardError)
        }
        before, self._before = self._before, measured
        return [_usage(task, measured.get(task.id), before.get(task.id)) for task in tasks]


def _usage(task: Task, now: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> Usage:
    def rate(*names: str) -> float | None:
        """A second, of a number that only grows; less than before is another task of that id."""
        new, old = Usage(task, now).metric(*names), Usage(task, before).metric(*names)
        if now is None or before is None or new is None or old is None or new < old:
            return None
        elapsed = now["timestamp"] - before["timestamp"]
        return (new - old) * 1e9 / elapsed if elapsed > 0 else None

    cpu = rate("cpu", "usage_ns")
    percent = None if cpu is None else cpu / 1e7
    return Usage(task, now, percent, rate("io", "read_bytes"), rate("io", "write_bytes"))
