"""``shimyard status`` and ``is-active``: how a task is, as systemctl(1) tells it, with its exit statuses.

0: it runs; 3: it does not; 4: there is no such.
"""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from actors.cli.connection import connect
from actors.cli.output import amount, complain, plain, printable, show_json, when
from actors.cli.parser import Parser, Verb
from actors.cli.processes import described, tree
from actors.cli.tasks import age
from actors.records import Container, LogChunk, Task
from shimproc.errors import NotFound, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client

RUNS, RUNS_NOT, UNKNOWN = 0, 3, 4
_LINES: Final = 10
_ACTIVE: Final = {"running": "active", "pausing": "active", "paused": "active", "checkpointing": "active"}
_BETWEEN: Final = {"creating": "activating", "created": "activating", "deleting": "deactivating"}


def _configure_status(parser: Parser) -> None:
    parser.add_argument("--lines", type=int, default=_LINES, metavar="N", help=f"of its log (default {_LINES}; 0 for none)")
    parser.add_argument("id", metavar="ID", help="of a container")


def _status(arguments: Namespace) -> int:
    with connect(arguments) as client:
        try:
            container = client.containers.get(arguments.id)
        except NotFound as error:
            complain(error, as_json=arguments.json)
            return UNKNOWN
        found = _Found(client, container, max(0, arguments.lines))
    if arguments.json:
        show_json(found.as_map())
    else:
        print("\n".join(found.lines()))
    return RUNS if _word(found.task) == "active" else RUNS_NOT


class _Found:
    """What is known of one."""

    def __init__(self, client: Client, container: Container, lines: int) -> None:
        self._container = container
        self.task: Task | None = None
        self._metrics: Mapping[str, Any] | None = None
        self._processes: list[dict[str, Any]] = []
        self._log: list[LogChunk] = []
        with contextlib.suppress(NotFound):
            self.task = client.tasks.get(container.id)
        with contextlib.suppress(ShimyardError):  # it does not run, or writes no log
            self._metrics = client.tasks.metrics(container.id)
        with contextlib.suppress(ShimyardError):
            self._processes = described(client.tasks.pids(container.id))
        if lines:
            with contextlib.suppress(ShimyardError):
                self._log = list(client.tasks.logs(container.id, tail=lines))

    def as_map(self) -> dict[str, Any]:
        """For programs."""
        return {
            "active": _word(self.task),
            "container": plain(self._container),
            "task": plain(self.task),
            "metrics": self._metrics,
            "processes": self._processes,
            "log": plain(self._log),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        words = (self._container.spec.get("process") or {}).get("args") or ()
        dot = {"active": "●", "failed": "✗"}.get(_word(self.task), "○")
        yield f"{dot} {self._container.id} - {printable(' '.join(map(str, words)))}"
        for name, value in self._facts():
            if value:
                yield f"{name:>10}: {value}"
        branches = list(tree(self._processes))
        for number, branch in enumerate(branches):
            yield f"{'Processes: ' if number == 0 else '':>12}{branch}"
        if self._log:
            yield ""
        for piece in self._log:
            for line in piece.data.decode(errors="replace").splitlines():
                yield f"{when(piece.timestamp)} {printable(line)}"

    def _facts(self) -> Iterator[tuple[str, str | None]]:
        task = self.task
        yield "Active", _since(task)
        if task is None:
            return
        yield "Health", str((task.health or {}).get("status") or "") or None
        yield "Restarts", str(task.restarts) if task.restarts else None
        runtime = task.runtime.name.rpartition("/")[2]
        yield "Main PID", f"{task.pid} ({runtime}; shim {task.shim_pid}, {task.shim})" if task.pid else None
        yield "Execs", ", ".join(f"{one.id} ({one.status})" for one in task.execs) or None
        yield from self._uses()
        labels = self._container.labels
        yield "Labels", printable(", ".join(f"{name}={value}" for name, value in sorted(labels.items()))) or None

    def _uses(self) -> Iterator[tuple[str, str | None]]:
        if self._metrics is None:
            return
        memory, cpu, pids = (self._metrics.get(name) or {} for name in ("memory", "cpu", "pids"))
        if memory.get("usage") is not None:
            more = [f"{name}: {amount(memory[name])}" for name in ("peak", "limit") if memory.get(name)]
            yield "Memory", amount(memory["usage"]) + (f" ({', '.join(more)})" if more else "")
        if cpu.get("usage_ns") is not None:
            yield "CPU", f"{cpu['usage_ns'] / 1e9:.3f}s"
        if pids.get("current") is not None:
            yield "Tasks", f"{pids['current']}" + (f" (limit: {pids['limit']})" if pids.get("limit") else "")


def _since(task: Task | None) -> str:
    word = _word(task)
    if task is None:
        return f"{word} (never started)"
    if task.status == "stopped":
        return f"{word} (exit status {task.exit_status}) since {when(task.exited_at)}; {age(task.exited_at)} ago"
    moment = task.started_at or task.created_at
    return f"{word} ({task.status}) since {when(moment)}; {age(moment)} ago"


def _word(task: Task | None) -> str:
    """systemd's word for it."""
    if task is None:
        return "inactive"
    if task.status == "stopped":
        return "failed" if task.exit_status else "inactive"
    return _ACTIVE.get(task.status) or _BETWEEN.get(task.status, task.status)


def _configure_is_active(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="by the exit status alone")
    parser.add_argument("id", nargs="+", metavar="ID", help="of a container")


def _is_active(arguments: Namespace) -> int:
    words: dict[str, str] = {}
    with connect(arguments) as client:
        for one in dict.fromkeys(arguments.id):
            words[one] = _word_of(client, one)
    if arguments.json:
        show_json([{"id": one, "active": word} for one, word in words.items()])
    elif not arguments.quiet:
        for word in words.values():
            print(word)
    if "active" in words.values():
        return RUNS
    return UNKNOWN if set(words.values()) == {"unknown"} else RUNS_NOT


def _word_of(client: Client, container_id: str) -> str:
    try:
        return _word(client.tasks.get(container_id))
    except NotFound:
        pass
    try:
        client.containers.get(container_id)
    except NotFound:
        return "unknown"
    return "inactive"


VERBS = {"status": Verb(_configure_status, _status), "is-active": Verb(_configure_is_active, _is_active)}
