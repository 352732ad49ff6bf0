"""``shimyard version``: this command's and the daemon's."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from actors.cli.connection import about, address_of, connect
from actors.cli.output import show_json
from actors.cli.parser import Parser, Verb
from actors.release import NAME, VERSION
from shimproc.errors import Unavailable

_SECONDS = 5.0


def _configure(_: Parser) -> None:
    """It has no options of its own."""


def _version(arguments: Namespace) -> int:
    daemon: Any = None
    try:
        with connect(arguments, timeout=_SECONDS) as client:
            daemon = about(client)
    except Unavailable:  # no daemon is no failure
        pass
    if arguments.json:
        show_json({"version": VERSION, "daemon": daemon})
        return 0
    print(f"{NAME} {VERSION}")
    if daemon is None:
        print(f"no daemon at {address_of(arguments)}")
    else:
        print(f"daemon {daemon['version']} at {address_of(arguments)}, pid {daemon['pid']}")
    return 0


VERBS = {"version": Verb(_configure, _version)}
