"""``shimyard stats``: what tasks use, as a table that is drawn anew, or once."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import amount, show_json, show_json_line, table
from actors.cli.parser import Parser, Verb
from actors.cli.sampling import Sampler, Usage

_HEADINGS: Final = ("ID", "CPU %", "MEM USAGE / LIMIT", "MEM %", "PIDS", "READ / WRITTEN")
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"
_FIRST_SECONDS: Final = 0.5
"""A rate needs two measurements."""


def _configure(parser: Parser) -> None:
    add = parser.add_argument
    add("--no-stream", action="store_true", help="once, and not again and again")
    add("-a", "--all", action="store_true", help="also tasks that have ended")
    add("--interval", type=values.some_span, default=1.0, metavar="TIME", help="between two measurements (default 1s)")
    add("id", nargs="*", metavar="ID", help="of tasks (default: all that run)")


def _stats(arguments: Namespace) -> int:
    pause = threading.Event()
    with connect(arguments) as client:
        sampler = Sampler(client, arguments.id)
        sampler.take()
        pause.wait(min(_FIRST_SECONDS, arguments.interval))
        try:
            while True:
                _show(sampler.take(stopped=arguments.all), arguments)
                if arguments.no_stream:
                    return 0
                pause.wait(arguments.interval)
        except KeyboardInterrupt:  # the way to end it
            return 0


def _show(usages: Sequence[Usage], arguments: Namespace) -> None:
    if arguments.json:
        maps = [as_map(usage) for usage in usages]
        if arguments.no_stream:
            show_json(maps)
        else:
            show_json_line(maps)
        return
    if not arguments.no_stream and sys.stdout.isatty():
        sys.stdout.write(_HOME_AND_CLEAR)
    print(table(_HEADINGS, [_row(usage) for usage in sorted(usages, key=lambda usage: usage.task.id)]), flush=True)


def as_map(usage: Usage) -> dict[str, Any]:
    """For programs: ``tasks.metrics``, and the rates."""
    return {
        "id": usage.task.id,
        "status": usage.task.status,
        "cpu_percent": usage.cpu_percent,
        "read_rate": usage.read_rate,
        "write_rate": usage.write_rate,
        "metrics": usage.metrics,
    }


def _row(usage: Usage) -> tuple[Any, ...]:
    limit = usage.metric("memory", "limit")
    return (
        usage.task.id,
        percent(usage.cpu_percent),
        f"{amount(usage.metric('memory', 'usage'))} / {amount(limit) if limit else 'none'}",
        percent(usage.memory_percent),
        usage.metric("pids", "current"),
        f"{amount(usage.metric('io', 'read_bytes'))} / {amount(usage.metric('io', 'write_bytes'))}",
    )


def percent(value: float | None) -> str | None:
    """``12.3``; None stays so."""
    return None if value is None else f"{value:.1f}"


VERBS = {"stats": Verb(_configure, _stats)}
