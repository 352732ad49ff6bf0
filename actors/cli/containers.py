"""``shimyard containers list|inspect|create|label|rm``."""

from __future__ import annotations

from argparse import Namespace

from actors.cli import values
from actors.cli.connection import about, connect
from actors.cli.options import add_options, container
from actors.cli.output import complain, show_json, table, when
from actors.cli.parser import Parser, Verb, add_actions, execute_action
from actors.records import Stdio
from shimproc.errors import ShimyardError


def _configure_list(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="ids only, one a line")
    add = parser.add_argument
    add("-f", "--filter", action="append", metavar="FILTER", help="such as labels.app==web; repeated: any of them")


def _list(arguments: Namespace) -> int:
    with connect(arguments) as client:
        found = client.containers.list(arguments.filter)
    found.sort(key=lambda one: one.created_at)
    if arguments.json:
        show_json([one.id for one in found] if arguments.quiet else found)
    elif arguments.quiet:
        for one in found:
            print(one.id)
    else:
        rows = [
            (
                one.id,
                one.runtime.name or None,
                " ".join((one.spec.get("process") or {}).get("args") or ())[:60],
                when(one.created_at),
                ",".join(f"{name}={value}" for name, value in sorted(one.labels.items())) or None,
            )
            for one in found
        ]
        print(table(("ID", "RUNTIME", "COMMAND", "CREATED", "LABELS"), rows))
    return 0


def _create(arguments: Namespace) -> int:
    with connect(arguments) as client:
        params = container(arguments, arguments.runtime or str(about(client)["default_runtime"]))
        made = client.containers.create(**params, stdio=Stdio(stdout="log:", stderr="log:"))
    if arguments.json:
        show_json(made)
    else:
        print(made.id)
    return 0


def _configure_ids(parser: Parser) -> None:
    parser.add_argument("id", nargs="+", metavar="ID")


def _inspect(arguments: Namespace) -> int:
    with connect(arguments) as client:
        show_json([client.containers.get(one) for one in dict.fromkeys(arguments.id)])
    return 0


def _configure_label(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID")
    parser.add_argument("labels", nargs="*", type=values.label, metavar="KEY=VALUE", help="all that it shall have")


def _label(arguments: Namespace) -> int:
    with connect(arguments) as client:
        changed = client.containers.update(arguments.id, labels=dict(arguments.labels))
    if arguments.json:
        show_json(changed)
    else:
        print(changed.id)
    return 0


def _rm(arguments: Namespace) -> int:
    removed, failed = [], False
    with connect(arguments) as client:
        for one in dict.fromkeys(arguments.id):
            try:
                client.containers.delete(one)
                removed.append(one)
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
        ("list", "list containers", Verb(_configure_list, _list)),
        ("inspect", "show containers as JSON", Verb(_configure_ids, _inspect)),
        ("create", "make a container without running it; its output will go to its log", Verb(add_options, _create)),
        ("label", "replace a container's labels", Verb(_configure_label, _label)),
        ("rm", "remove containers that have no task", Verb(_configure_ids, _rm)),
    )
    add_actions(parser, actions)


VERBS = {"containers": Verb(_configure, execute_action)}
