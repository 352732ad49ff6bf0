"""The command line's grammar: argparse, with messages and exit statuses of our own, and the options that all verbs share.

A verb's module has ``VERBS``: name -> ``Verb``. Options may stand before or after the verb.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, NoReturn

_COLUMNS: Final = 80


class Verb(NamedTuple):
    """``configure`` adds the verb's arguments; ``execute`` does it and gives the exit status."""

    configure: Callable[[Parser], None]
    execute: Callable[[argparse.Namespace], int]


class HelpFormatter(argparse.HelpFormatter):
    """As wide as the terminal. argparse makes one for each option that is added, and asks the heavy ``shutil`` for the width."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **kwargs})


class RawDescription(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of description and epilog."""


class Parser(argparse.ArgumentParser):
    """Full option names only, so that a later version's new option changes nothing.

    Parameters
    ----------
    misuse : the exit status for wrong usage.
    """

    def __init__(self, *, misuse: int = 2, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **{"formatter_class": HelpFormatter, **kwargs})
        self._misuse = misuse

    def error(self, message: str) -> NoReturn:
        """One line, and the way to the help."""
        self.exit(self._misuse, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def add_globals(parser: Parser, *, first: bool = False) -> None:
    """``-n``, ``--json``, ``--state``, ``--address`` and keys; with ``first`` also their defaults."""
    group = parser.add_argument_group("everywhere")

    def add(*names: str, default: Any, **more: Any) -> None:
        group.add_argument(*names, default=default if first else argparse.SUPPRESS, **more)

    add(
        *("-n", "--namespace"),
        default=None,
        metavar="NAME",
        help="where to look and work (SHIMYARD_NAMESPACE, else 'default')",
    )
    add("--json", action="store_true", default=False, help="JSON for programs instead of text for people")
    add("--state", default=None, metavar="DIR", help="the daemon's folder of sockets (SHIMYARD_STATE)")
    add("--address", default=None, metavar="ADDRESS", help="the daemon's API socket, such as ipc:///run/shimyard/api.sock")
    add("--key", default=None, metavar="FILE", help="for a tcp:// address: your own .key_secret (SHIMYARD_KEY)")
    add("--server-key", default=None, metavar="FILE", help="for a tcp:// address: the daemon's .key (SHIMYARD_SERVER_KEY)")


def add_actions(parser: Parser, actions: Iterable[tuple[str, str, Verb]]) -> None:
    """Actions of a noun, ``(name, help, verb)``: ``shimyard containers list``. ``execute_action`` does the chosen one."""
    choices = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    for name, text, verb in actions:
        action = choices.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        verb.configure(action)
        add_globals(action)
        action.set_defaults(execute_action=verb.execute)


def execute_action(arguments: argparse.Namespace) -> int:
    """What ``add_actions`` has parsed."""
    status: int = arguments.execute_action(arguments)
    return status


def namespace_of(arguments: argparse.Namespace) -> str:
    """``-n``, else SHIMYARD_NAMESPACE, else ``default``."""
    return arguments.namespace or os.environ.get("SHIMYARD_NAMESPACE") or "default"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt word, or nothing."""
    import difflib  # noqa: PLC0415 - for wrong usage only

    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _columns() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns or _COLUMNS)
    except (OSError, ValueError):  # no terminal, or no number
        return _COLUMNS
