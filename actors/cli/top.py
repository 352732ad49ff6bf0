"""``shimyard top``: all tasks on the whole screen, measured again and again; sorted, looked into and killed by keys."""

from __future__ import annotations

import contextlib
import curses
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import amount, printable
from actors.cli.parser import Parser, Verb
from actors.cli.sampling import Sampler, Usage
from actors.cli.stats import percent
from actors.cli.tasks import age
from shimproc.errors import FailedPrecondition, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client

_COLUMNS: Final = (
    *(("ID", 28), ("STATE", 11), ("CPU%", 7), ("MEM", 8), ("MEM%", 6), ("PIDS", 6)),
    *(("READ/s", 8), ("WRITE/s", 8), ("AGE", 5), ("RESTARTS", 8)),
)
_SORTS: Final[Mapping[str, tuple[str, Callable[[Usage], Any]]]] = {
    "c": ("cpu", lambda usage: -(usage.cpu_percent or 0)),
    "m": ("memory", lambda usage: -(usage.metric("memory", "usage") or 0)),
    "i": ("io", lambda usage: -((usage.read_rate or 0) + (usage.write_rate or 0))),
    "p": ("pids", lambda usage: -(usage.metric("pids", "current") or 0)),
    "a": ("age", lambda usage: usage.task.created_at),
    "r": ("restarts", lambda usage: -usage.task.restarts),
    "n": ("name", lambda usage: usage.task.id),
}
_HELP: Final = "q quit  c m i p a r n sort  arrows select  k kill  l logs  space pause  e ended ones"
_LOG_LINES: Final = 500


def _configure(parser: Parser) -> None:
    between = "between two measurements (default 1s)"
    parser.add_argument("--interval", type=values.some_span, default=1.0, metavar="TIME", help=between)
    words = {name: key for key, (name, _) in _SORTS.items()}
    parser.add_argument("--sort", choices=tuple(words), default="cpu", help="by what, at first (default cpu)")
    parser.epilog = f"Keys: {_HELP}"


def _top(arguments: Namespace) -> int:
    if arguments.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise FailedPrecondition("top needs a terminal; for programs there is: shimyard stats --no-stream --json")
    if os.environ.get("TERM", "dumb") in ("", "dumb"):
        raise FailedPrecondition("TERM names no terminal that can draw; use: shimyard stats")
    with connect(arguments) as client:
        try:
            curses.wrapper(lambda screen: _Screen(screen, client, arguments).run())
        except KeyboardInterrupt:
            return 0
        except curses.error as error:
            raise FailedPrecondition(f"the terminal {os.environ['TERM']} cannot be drawn on: {error}") from error
    return 0


class _Screen:
    """The whole of it: a list, one of it chosen."""

    def __init__(self, screen: curses.window, client: Client, arguments: Namespace) -> None:
        self._screen = screen
        self._client = client
        self._sampler = Sampler(client)
        self._interval_ms = int(arguments.interval * 1000)
        self._sort = next(key for key, (name, _) in _SORTS.items() if name == arguments.sort)
        self._usages: list[Usage] = []
        self._chosen = ""
        self._ended = False
        self._message = ""

    def run(self) -> None:
        """Until q."""
        with contextlib.suppress(curses.error):  # a terminal without colours, or whose cursor cannot be hidden
            curses.curs_set(0)
            curses.use_default_colors()
        self._measure()
        self._screen.timeout(min(300, self._interval_ms))  # rates come with the second measurement
        while True:
            self._draw()
            key = self._screen.getch()
            self._screen.timeout(self._interval_ms)
            if key == ord("q"):
                return
            if key == -1:
                self._measure()
            elif key != curses.KEY_RESIZE:
                self._on_key(key)

    def _measure(self) -> None:
        try:
            self._usages = self._sampler.take(stopped=self._ended)
        except ShimyardError as error:
            self._message = error.message
        self._order()

    def _order(self) -> None:
        sort = _SORTS[self._sort][1]
        self._usages.sort(key=lambda usage: (sort(usage), usage.task.id))
        ids = [usage.task.id for usage in self._usages]
        if self._chosen not in ids:
            self._chosen = ids[0] if ids else ""

    def _on_key(self, key: int) -> None:
        self._message = ""
        steps = {curses.KEY_UP: -1, curses.KEY_DOWN: 1, curses.KEY_PPAGE: -self._room(), curses.KEY_NPAGE: self._room()}
        if key in steps:
            self._move(steps[key])
        elif 0 <= key < 256 and chr(key) in _SORTS:
            self._sort = chr(key)
            self._order()
        elif key == ord("e"):
            self._ended = not self._ended
            self._measure()
        elif self._chosen:
            deed = {ord("k"): self._kill, ord("l"): self._logs, ord(" "): self._pause}.get(key)
            if deed is not None:
                self._try(deed)

    def _try(self, deed: Callable[[str], str]) -> None:
        try:
            self._message = deed(self._chosen)
        except ShimyardError as error:
            self._message = error.message
        self._measure()

    def _move(self, step: int) -> None:
        ids = [usage.task.id for usage in self._usages]
        if ids:
            self._chosen = ids[max(0, min(len(ids) - 1, ids.index(self._chosen) + step))]

    def _kill(self, task_id: str) -> str:
        self._message = f"kill {task_id}: t SIGTERM, k SIGKILL, any other key: not"
        self._draw()
        self._screen.timeout(-1)
        signal = {ord("t"): "SIGTERM", ord("k"): "SIGKILL"}.get(self._screen.getch())
        if signal is None:
            return "nothing was killed"
        self._client.tasks.kill(task_id, signal)
        return f"{signal} was sent to {task_id}"

    def _pause(self, task_id: str) -> str:
        if self._client.tasks.get(task_id).status == "paused":
            self._client.tasks.resume(task_id)
            return f"{task_id} goes on"
        self._client.tasks.pause(task_id)
        return f"{task_id} is paused"

    def _logs(self, task_id: str) -> str:
        pieces = self._client.tasks.logs(task_id, tail=_LOG_LINES)
        lines = b"".join(piece.data for piece in pieces).decode(errors="replace").splitlines()
        height, _ = self._screen.getmaxyx()
        self._screen.erase()
        for row, line in enumerate(lines[-(height - 1) :] or ["it has written nothing"]):
            self._put(row, line)
        self._put(height - 1, f"the last lines of {task_id}; any key goes back", curses.A_REVERSE)
        self._screen.timeout(-1)
        self._screen.getch()
        return ""

    def _draw(self) -> None:
        self._screen.erase()
        height, _ = self._screen.getmaxyx()
        self._put(0, self._summary())
        self._put(1, _cells([name for name, _ in _COLUMNS]), curses.A_REVERSE)
        ids = [usage.task.id for usage in self._usages]
        at = ids.index(self._chosen) if self._chosen else 0
        first = max(0, at - self._room() + 1)
        for row, usage in enumerate(self._usages[first : first + self._room()], 2):
            self._put(row, _cells(_values(usage)), curses.A_BOLD if usage.task.id == self._chosen else curses.A_NORMAL)
        self._put(height - 1, self._message or _HELP)
        self._screen.refresh()

    def _summary(self) -> str:
        cpu = sum(usage.cpu_percent or 0 for usage in self._usages)
        memory = sum(usage.metric("memory", "usage") or 0 for usage in self._usages)
        running = sum(usage.task.status == "running" for usage in self._usages)
        by = _SORTS[self._sort][0]
        return f"shimyard: {len(self._usages)} tasks, {running} running   cpu {cpu:.1f}%   memory {amount(memory)}   by {by}"

    def _room(self) -> int:
        return max(1, self._screen.getmaxyx()[0] - 3)

    def _put(self, row: int, text: str, attribute: int = 0) -> None:
        height, width = self._screen.getmaxyx()
        if 0 <= row < height:
            self._screen.insnstr(row, 0, printable(text).ljust(width) if attribute else printable(text), width, attribute)


def _values(usage: Usage) -> Sequence[str | None]:
    task = usage.task
    return (
        task.id,
        f"exit {task.exit_status}" if task.status == "stopped" else task.status,
        percent(usage.cpu_percent),
        amount(usage.metric("memory", "usage")),
        percent(usage.memory_percent),
        str(usage.metric("pids", "current") or "-"),
        _rate(usage.read_rate),
        _rate(usage.write_rate),
        age(task.started_at or task.created_at),
        str(task.restarts),
    )


def _rate(value: float | None) -> str | None:
    return None if value is None else amount(int(value))


def _cells(cells: Sequence[str | None]) -> str:
    shown = ("-" if cell is None else cell for cell in cells)
    aligned = (
        cell[:width].ljust(width) if number < 2 else cell.rjust(width)
        for number, (cell, (_, width)) in enumerate(zip(shown, _COLUMNS, strict=True))
    )
    return " ".join(aligned)


VERBS = {"top": Verb(_configure, _top)}
