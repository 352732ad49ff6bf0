"""``shimyard logs``: what a task has written to its managed log, each stream to the stream it came from."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace

from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import precisely, show_json_line
from actors.cli.parser import Parser, Verb


def _configure(parser: Parser) -> None:
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="show what comes, until the task has ended")
    add("--tail", type=values.lines, metavar="N", help="the last N lines only (all: every one)")
    add("--since", type=values.moment, metavar="TIME", help="from a moment on: 10m (ago), a date and time, or seconds since 1970")
    add("-t", "--timestamps", action="store_true", help="put the time before each line")
    add("--exec", metavar="EXEC_ID", help="what an exec of the task has written (exec -d)")
    add("id", metavar="ID", help="of a task whose output goes to its log (run -d)")


def _logs(arguments: Namespace) -> int:
    with connect(arguments) as client:
        pieces = client.tasks.logs(
            arguments.id,
            exec_id=arguments.exec,
            follow=arguments.follow,
            tail=arguments.tail,
            since=arguments.since,
        )
        for piece in pieces:
            if arguments.json:
                show_json_line(piece)
                continue
            output = sys.stderr.buffer if piece.stream == "stderr" else sys.stdout.buffer
            if arguments.timestamps:
                output.write(f"{precisely(piece.timestamp)} ".encode())
            output.write(piece.data)
            with contextlib.suppress(ValueError):
                output.flush()
    return 0


VERBS = {"logs": Verb(_configure, _logs)}
