"""What is done to tasks by their ids: ``ps start stop kill wait rm inspect``.

With several ids each is tried, its outcome told, and the exit status is 1 if any failed. ``--json`` prints one array at the end.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import complain, plain, show_json, table, when
from actors.cli.parser import Parser, Verb
from actors.records import Task
from shimproc.errors import NotFound, ShimyardError, to_map

if TYPE_CHECKING:
    from actors.client import Client

_HEADINGS = ("ID", "STATUS", "PID", "RUNTIME", "CREATED", "SHIM")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def _configure_ps(parser: Parser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also those that have ended")
    parser.add_argument("-q", "--quiet", action="store_true", help="ids only, one a line")
    parser.add_argument(
        *("-f", "--filter"),
        action="append",
        metavar="FILTER",
        help="such as status==running, labels.app==web or id~=^job-; repeated: any of them",
    )


def _ps(arguments: Namespace) -> int:
    with connect(arguments) as client:
        tasks = client.tasks.list(arguments.filter)
    if not arguments.all and not arguments.filter:
        tasks = [task for task in tasks if task.status != "stopped"]
    tasks.sort(key=lambda task: task.created_at)
    if arguments.json:
        show_json([task.id for task in tasks] if arguments.quiet else tasks)
    elif arguments.quiet:
        for task in tasks:
            print(task.id)
    else:
        print(table(_HEADINGS, [_row(task) for task in tasks]))
    return 0


def _row(task: Task) -> tuple[Any, ...]:
    runtime = task.runtime.name.rpartition("/")[2]
    return (task.id, _status(task), task.pid or None, runtime, when(task.created_at), task.shim)


def _status(task: Task) -> str:
    """``running 5m``, ``running 5m (healthy)`` or ``stopped (7) 2h``."""
    if task.status == "stopped":
        return f"stopped ({task.exit_status}) {age(task.exited_at)}"
    health = f" ({task.health['status']})" if task.health else ""
    return f"{task.status} {age(task.started_at or task.created_at)}{health}"


def age(since: int | None) -> str:
    """How long ago a time of the wire is, in its largest unit."""
    seconds = max(0, int(time.time()) - (since or 0) // 1_000_000_000)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"


def add_ids(parser: Parser) -> None:
    """One or more."""
    parser.add_argument("id", nargs="+", metavar="ID", help="of a task")


def each(arguments: Namespace, deed: Callable[[Client, str], Any], show: Callable[[str, Any], Any]) -> int:
    """Do it to every id; what ``show`` makes of the result is printed."""
    failed = False
    outcomes: list[Mapping[str, Any]] = []
    with connect(arguments) as client:
        for task_id in dict.fromkeys(arguments.id):
            try:
                result = deed(client, task_id)
            except ShimyardError as error:
                failed = True
                if arguments.json:
                    outcomes.append({"id": task_id, "error": to_map(error)})
                else:
                    complain(error, about=task_id)
                continue
            if arguments.json:
                outcomes.append({"id": task_id, **(plain(result) or {})})
            else:
                print(show(task_id, result), flush=True)
    if arguments.json:
        show_json(outcomes)
    return int(failed)


def id_alone(task_id: str, _: Any) -> str:
    """What ``each`` shows of what has no result."""
    return task_id


def _start(arguments: Namespace) -> int:
    return each(arguments, start_one, id_alone)


def start_one(client: Client, task_id: str) -> Mapping[str, int]:
    """A task that waits is let go; one that has ended makes room for a new one; a container without gets its first."""
    try:
        status = client.tasks.get(task_id).status
        if status == "stopped":
            client.tasks.delete(task_id)
    except NotFound:
        status = None
    if status in (None, "stopped"):
        client.tasks.create(task_id)
    return client.tasks.start(task_id)


def _configure_stop(parser: Parser) -> None:
    add = parser.add_argument
    add("-t", "--time", type=values.span, metavar="TIME", help="wait so long before SIGKILL (default: the container's, or 10s)")
    add("-s", "--signal", metavar="SIGNAL", help="what asks it to end (default: the container's, or SIGTERM)")
    add_ids(parser)


def _stop(arguments: Namespace) -> int:
    def one(client: Client, task_id: str) -> Any:
        return client.tasks.stop(task_id, signal=_signal(arguments.signal), grace=arguments.time)

    return each(arguments, one, id_alone)


def _exec_option(parser: Parser) -> None:
    parser.add_argument("--exec", metavar="EXEC_ID", help="an exec of the task instead of the task itself")


def _configure_wait(parser: Parser) -> None:
    _exec_option(parser)
    add_ids(parser)


def _configure_kill(parser: Parser) -> None:
    parser.add_argument("-s", "--signal", default="SIGKILL", metavar="SIGNAL", help="its name or number (default SIGKILL)")
    parser.add_argument("-a", "--all", action="store_true", help="to every process of the task, not to its first only")
    _exec_option(parser)
    add_ids(parser)


def _kill(arguments: Namespace) -> int:
    def one(client: Client, task_id: str) -> Any:
        client.tasks.kill(task_id, _signal(arguments.signal) or "SIGKILL", all=arguments.all, exec_id=arguments.exec)

    return each(arguments, one, id_alone)


def _signal(text: str | None) -> int | str | None:
    """A number is sent as one."""
    return int(text) if text is not None and text.isdecimal() else text


def _wait(arguments: Namespace) -> int:
    def one(client: Client, task_id: str) -> Any:
        return client.tasks.wait(task_id, exec_id=arguments.exec)

    return each(arguments, one, lambda _, ended: ended.exit_status)


def _configure_rm(parser: Parser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill those that run")
    add_ids(parser)


def _rm(arguments: Namespace) -> int:
    def one(client: Client, task_id: str) -> Any:
        ended = None
        try:
            ended = client.tasks.delete(task_id, force=arguments.force)
        except NotFound:  # a container that has no task
            client.containers.get(task_id)
        client.containers.delete(task_id)
        return ended

    return each(arguments, one, id_alone)


def _inspect(arguments: Namespace) -> int:
    """An array in any case: people and programs read the same."""
    found: list[Mapping[str, Any]] = []
    failed = False
    with connect(arguments) as client:
        for task_id in dict.fromkeys(arguments.id):
            try:
                found.append({"container": client.containers.get(task_id), "task": _task_of(client, task_id)})
            except ShimyardError as error:
                failed = True
                complain(error, as_json=arguments.json)
    show_json(found)
    return int(failed)


def _task_of(client: Client, task_id: str) -> Task | None:
    try:
        return client.tasks.get(task_id)
    except NotFound:
        return None


VERBS = {
    "ps": Verb(_configure_ps, _ps),
    "start": Verb(add_ids, _start),
    "stop": Verb(_configure_stop, _stop),
    "kill": Verb(_configure_kill, _kill),
    "wait": Verb(_configure_wait, _wait),
    "rm": Verb(_configure_rm, _rm),
    "inspect": Verb(add_ids, _inspect),
}
