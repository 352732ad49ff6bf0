"""``shimyard namespaces list|create|label|rm``."""

from __future__ import annotations

from argparse import Namespace

from actors import records
from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import complain, show_json, table
from actors.cli.parser import Parser, Verb, add_actions, execute_action
from shimproc.errors import ShimyardError


def _list(arguments: Namespace) -> int:
    with connect(arguments) as client:
        found = sorted(client.namespaces.list(), key=lambda one: one.name)
    if arguments.json:
        show_json(found)
    elif arguments.quiet:
        for one in found:
            print(one.name)
    else:
        rows = [(one.name, ",".join(f"{name}={value}" for name, value in sorted(one.labels.items())) or None) for one in found]
        print(table(("NAME", "LABELS"), rows))
    return 0


def _configure_list(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="names only, one a line")


def _configure_labels(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("labels", nargs="*", type=values.label, metavar="KEY=VALUE", help="all that it shall have")


def _create(arguments: Namespace) -> int:
    with connect(arguments) as client:
        return _told(arguments, client.namespaces.create(arguments.name, dict(arguments.labels)))


def _label(arguments: Namespace) -> int:
    with connect(arguments) as client:
        return _told(arguments, client.namespaces.update(arguments.name, dict(arguments.labels)))


def _told(arguments: Namespace, one: records.Namespace) -> int:
    if arguments.json:
        show_json(one)
    else:
        print(one.name)
    return 0


def _configure_rm(parser: Parser) -> None:
    parser.add_argument("name", nargs="+", metavar="NAME")


def _rm(arguments: Namespace) -> int:
    removed, failed = [], False
    with connect(arguments) as client:
        for name in dict.fromkeys(arguments.name):
            try:
                client.namespaces.delete(name)
                removed.append(name)
            except ShimyardError as error:
                failed = True
                complain(error, as_json=arguments.json)
    if arguments.json:
        show_json(removed)
    else:
        print("\n".join(removed), end="\n" if removed else "")
    return int(failed)


def _configure(parser: Parser) -> None:
    actions = (
        ("list", "list namespaces", Verb(_configure_list, _list)),
        ("create", "make a namespace", Verb(_configure_labels, _create)),
        ("label", "replace a namespace's labels", Verb(_configure_labels, _label)),
        ("rm", "remove empty namespaces", Verb(_configure_rm, _rm)),
    )
    add_actions(parser, actions)


VERBS = {"namespaces": Verb(_configure, execute_action)}
