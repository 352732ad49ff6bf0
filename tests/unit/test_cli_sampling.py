"""Rates between two measurements, and a task's processes as a tree."""

from __future__ import annotations

from typing import Any

from actors.cli.output import amount
from actors.cli.processes import tree
from actors.cli.sampling import Usage, _usage
from actors.records import Runtime, Stdio, Task

TASK = Task("web", "default", "running", 7, None, None, 1, 2, Stdio(), "/b", Runtime("crun"), 6)


def metrics(timestamp: int, cpu: int | None, read: int | None) -> dict[str, Any]:
    """As ``tasks.metrics`` answers."""
    return {
        "timestamp": timestamp,
        "cpu": {"usage_ns": cpu, "user_ns": None, "system_ns": None},
        "memory": {"usage": 50, "peak": None, "limit": 200, "oom_kills": None},
        "pids": {"current": 3, "limit": None},
        "io": {"read_bytes": read, "write_bytes": None},
    }


def test_rates_are_of_the_time_between_two_measurements() -> None:
    found = _usage(TASK, metrics(3_000_000_000, 1_500_000_000, 300), metrics(1_000_000_000, 500_000_000, 100))
    assert (found.cpu_percent, found.read_rate, found.write_rate, found.memory_percent) == (50.0, 100.0, None, 25.0)


def test_without_two_measurements_or_of_another_task_of_that_id_there_is_no_rate() -> None:
    for now, before in (
        (metrics(2, 2, 2), None),
        (None, metrics(1, 1, 1)),
        (metrics(2, 1, 1), metrics(1, 5, 5)),
        (metrics(2, None, None), metrics(1, 1, 1)),
        (metrics(1, 2, 2), metrics(1, 1, 1)),
    ):
        found = _usage(TASK, now, before)
        assert (found.cpu_percent, found.read_rate) == (None, None)
    assert Usage(TASK).metric("memory", "usage") is None


def test_children_are_below_their_parents_and_orphans_at_the_top() -> None:
    processes = [
        {"pid": 10, "parent": 1, "command": "sh"},
        {"pid": 11, "parent": 10, "command": "sleep\x1b[31m 1"},
        {"pid": 12, "parent": 11, "command": "deep"},
        {"pid": 13, "parent": 10, "command": "last"},
        {"pid": 20, "exec_id": "look"},
    ]
    assert list(tree(processes)) == [
        "├─10 sh",
        "│ ├─11 sleep?[31m 1",
        "│ │ └─12 deep",
        "│ └─13 last",
        "└─20 ? (exec look)",
    ]


def test_amounts_are_short() -> None:
    shown = [amount(number) for number in (None, 0, 1023, 1024, 1536, 200 << 20, 5 << 40)]
    assert shown == ["-", "0B", "1023B", "1.0K", "1.5K", "200M", "5.0T"]
