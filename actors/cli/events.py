"""``shimyard events``: every change, as a line each; from now on, or from an earlier one."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import plain, precisely, show_json_line
from actors.cli.parser import Parser, Verb

if TYPE_CHECKING:
    from actors.client import Client
    from actors.records import Envelope

_PAGE = 1000


def _since(text: str) -> tuple[str, int]:
    """A seq is a bare number; all else is a time."""
    if text.isdecimal():
        return "seq", int(text)
    try:
        return "time", values.moment(text)
    except ArgumentTypeError as error:
        raise ArgumentTypeError(f"{error}; or the number (seq) of the last event that is known") from None


def _configure(parser: Parser) -> None:
    add = parser.add_argument
    add("--since", type=_since, metavar="SEQ|TIME", help="those after this number (0: all that are kept), or from this time on")
    add(
        *("-f", "--filter"),
        action="append",
        metavar="FILTER",
        help="such as topic==/tasks/exit or namespace==default,event.exit_status!=0; repeated: any of them",
    )
    add("--no-stream", action="store_true", help="end with the newest instead of waiting for more")


def _events(arguments: Namespace) -> int:
    kind, number = arguments.since or ("seq", None)
    since, earliest = (0, number or 0) if kind == "time" else (number, 0)
    with connect(arguments) as client:
        for event in _found(client, arguments, since):
            if event.timestamp < earliest:
                continue
            if arguments.json:
                show_json_line(event)
            else:
                print(_line(event), flush=True)
    return 0


def _found(client: Client, arguments: Namespace, since: int | None) -> Iterator[Envelope]:
    """From the oldest that is kept, if that is asked for: what is gone is no error of the one who asks for all."""
    known = client.health()["events"]
    since = max(int(known["last_seq"]) if since is None else since, int(known["oldest_seq"]) - 1)
    if not arguments.no_stream:
        yield from client.events(since, arguments.filter)
        return
    while True:
        page = client.events.replay(since, limit=_PAGE, filters=arguments.filter)
        yield from page.events
        if not page.events:
            return
        since = page.events[-1].seq


def _line(event: Envelope) -> str:
    """``2026-02-03T04:05:06… 17 default /tasks/exit id=web pid=17 …``: what a terminal would obey stays quoted."""
    body = " ".join(f"{name}={_value(value)}" for name, value in plain(event.event).items())
    return f"{precisely(event.timestamp)} {event.seq} {event.namespace} {event.topic} {body}"


def _value(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and value and " " not in value:
        return value
    return json.dumps(value, ensure_ascii=True)


VERBS = {"events": Verb(_configure, _events)}
