"""A snapshot as text, by Prometheus' conventions: base units, ``_total`` for what only grows. Its library is an extra, and is
loaded only where metrics are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from actors.measures import Distribution
from actors.metrics.actor import Snapshot
from actors.release import VERSION
from shimproc.errors import FailedPrecondition

_USES: Final = (
    ("cpu", "usage_ns", "counter", "cpu_usage_seconds", "CPU that the task has used"),
    ("cpu", "user_ns", "counter", "cpu_user_seconds", "CPU that the task has used in user mode"),
    ("cpu", "system_ns", "counter", "cpu_system_seconds", "CPU that the task has used in the kernel"),
    ("memory", "usage", "gauge", "memory_usage_bytes", "Memory that the task uses"),
    ("memory", "peak", "gauge", "memory_peak_bytes", "The most memory that the task has used at once"),
    ("memory", "limit", "gauge", "memory_limit_bytes", "Memory that the task may use"),
    ("memory", "oom_kills", "counter", "oom_kills", "Kills of the kernel's OOM killer in the task"),
    ("pids", "current", "gauge", "pids", "Processes and threads of the task"),
    ("pids", "limit", "gauge", "pids_limit", "Processes and threads that the task may have"),
    ("io", "read_bytes", "counter", "io_read_bytes", "Bytes that the task has read from block devices"),
    ("io", "write_bytes", "counter", "io_written_bytes", "Bytes that the task has written to block devices"),
)
"""(group, field) of ``tasks.metrics``, kind, name, help."""


@dataclass(frozen=True, slots=True)
class Text:
    """A page and what it is."""

    type: str
    body: bytes


class Exposition:
    """The library, loaded. ``database``: the file whose size is told. ``FailedPrecondition`` if there is no library."""

    def __init__(self, database: Path) -> None:
        try:
            import prometheus_client.core  # noqa: PLC0415 - an extra, and not for a daemon without metrics
            import prometheus_client.exposition  # noqa: PLC0415
            import prometheus_client.process_collector  # noqa: PLC0415
        except ImportError as error:
            raise FailedPrecondition(
                f"metrics.address: the library prometheus-client is missing ({error}); "
                "install it (pip install 'shimyard[metrics]'), or leave metrics.address out"
            ) from error
        self._core: Any = prometheus_client.core
        self._encoder: Callable[[str], tuple[Callable[[Any], bytes], str]] = prometheus_client.exposition.choose_encoder
        self._process: Any = prometheus_client.process_collector.ProcessCollector(registry=None)
        self._database = database

    def text(self, snapshot: Snapshot, accept: str) -> Text:
        """In the format that an Accept header asks for. Takes a while for many tasks; in any thread."""
        encode, kind = self._encoder(accept)
        return Text(kind, encode(_Collected([*self._families(snapshot), *self._process.collect()])))

    def _families(self, snapshot: Snapshot) -> Iterator[Any]:
        core = self._core
        yield core.InfoMetricFamily("shimyard", "The daemon", {"version": VERSION})
        yield from self._of_tasks(snapshot)
        yield from self._of_requests(snapshot)
        yield from self._of_the_log(snapshot)
        yield from self._of_single_tasks(snapshot)

    def _of_tasks(self, snapshot: Snapshot) -> Iterator[Any]:
        account = snapshot.account
        yield self._labelled("gauge", "shimyard_tasks", "Tasks by state", "state", account.states)
        exits = "Exits of tasks by reason; none: their own doing"
        yield self._labelled("counter", "shimyard_task_exits", exits, "reason", account.exits)
        runs = self._core.HistogramMetricFamily("shimyard_task_run_seconds", "From a task's start to its exit", labels=())
        _add(runs, [], account.runs)
        yield runs

    def _of_requests(self, snapshot: Snapshot) -> Iterator[Any]:
        core, api = self._core, snapshot.api
        answers = core.CounterMetricFamily(
            "shimyard_requests", "Requests that were answered", labels=("method", "code")
        )
        for (method, code), count in sorted(api.answers.items()):
            answers.add_metric((method, code), count)
        yield answers
        durations = core.HistogramMetricFamily(
            "shimyard_request_duration_seconds", "From a request to its answer", labels=("method",)
        )
        for method, distribution in sorted(api.durations.items()):
            _add(durations, (method,), distribution)
        yield durations
        yield core.GaugeMetricFamily("shimyard_clients", "Clients with a request or stream under way", api.clients)
        yield core.GaugeMetricFamily("shimyard_requests_in_flight", "Requests that are not answered yet", api.in_flight)
        yield core.GaugeMetricFamily("shimyard_streams", "Streaming answers that are open", api.streams)
        yield core.GaugeMetricFamily("shimyard_client_backlog_bytes", "What waits for slow clients", api.backlog)

    def _of_the_log(self, snapshot: Snapshot) -> Iterator[Any]:
        core, load = self._core, snapshot.exchange
        yield self._labelled("counter", "shimyard_events", "Events since the daemon's start", "type", snapshot.account.events)
        yield core.GaugeMetricFamily("shimyard_event_last_seq", "Number of the newest event", load.last_seq)
        yield core.GaugeMetricFamily("shimyard_event_oldest_seq", "Number of the oldest event that is kept", load.oldest_seq)
        yield core.CounterMetricFamily("shimyard_commits", "Commits since the daemon's start", load.commits)
        yield core.GaugeMetricFamily("shimyard_commits_pending", "Changes that wait for their commit", load.pending)
        yield core.GaugeMetricFamily("shimyard_subscribers", "Connections that subscribe to events", load.subscribers)
        size = core.GaugeMetricFamily("shimyard_database_size_bytes", "Size of the database's files", labels=("file",))
        for name, path in (("main", self._database), ("wal", Path(f"{self._database}-wal"))):
            if path.exists():
                size.add_metric((name,), path.stat().st_size)
        yield size

    def _of_single_tasks(self, snapshot: Snapshot) -> Iterator[Any]:
        core, left_out = self._core, snapshot.left_out
        if left_out is None:
            return
        told = "Tasks whose own use is not told: more than metrics.tasks, or without an answer"
        yield core.GaugeMetricFamily("shimyard_tasks_left_out", told, left_out)
        for group, field, kind, name, doc in _USES:
            family = self._family(kind, f"shimyard_task_{name}", doc, ("namespace", "task"))
            for key, use in snapshot.uses.items():
                value = use[group][field]
                if value is not None:
                    family.add_metric(key, value / 1e9 if field.endswith("_ns") else value)
            yield family

    def _labelled(self, kind: str, name: str, doc: str, label: str, values: Mapping[str, int]) -> Any:
        family = self._family(kind, name, doc, (label,))
        for value, count in values.items():
            family.add_metric((value,), count)
        return family

    def _family(self, kind: str, name: str, doc: str, labels: Iterable[str]) -> Any:
        made = self._core.CounterMetricFamily if kind == "counter" else self._core.GaugeMetricFamily
        return made(name, doc, labels=labels)


@dataclass(frozen=True, slots=True)
class _Collected:
    """What the library's encoders take in a registry's place."""

    families: Iterable[Any]

    def collect(self) -> Iterable[Any]:
        """All."""
        return self.families


def _add(family: Any, labels: Iterable[str], distribution: Distribution) -> None:
    buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in distribution.buckets]
    family.add_metric(list(labels), buckets, distribution.total)
