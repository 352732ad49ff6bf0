"""What changes a running task: ``pause resume update checkpoint restore``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.cli import values
from actors.cli.connection import connect
from actors.cli.output import show_json
from actors.cli.parser import Parser, Verb
from actors.cli.supervision import policy
from actors.cli.tasks import add_ids, each, id_alone
from shimproc.errors import InvalidArgument, NotFound, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client


def _pause(arguments: Namespace) -> int:
    return each(arguments, lambda client, task_id: client.tasks.pause(task_id), id_alone)


def _resume(arguments: Namespace) -> int:
    return each(arguments, lambda client, task_id: client.tasks.resume(task_id), id_alone)


def _configure_update(parser: Parser) -> None:
    add = parser.add_argument
    add("-m", "--memory", type=values.size, metavar="SIZE", help="most memory, such as 64m or 2g")
    add("--cpus", type=values.cpus, metavar="N", help="most CPU time, such as 0.5 or 2")
    add("--pids", type=values.count, metavar="N", help="most processes and threads")
    add("--cpu-shares", type=values.count, metavar="N", help="its share of a busy CPU, 1024 being the usual")
    add("--cpuset-cpus", metavar="LIST", help="on which CPUs it may run, such as 0-2,5")
    add("--restart", type=policy, metavar="POLICY", help="no, on-failure[:N], always or unless-stopped")
    add_ids(parser)


def _update(arguments: Namespace) -> int:
    cpu: dict[str, Any] = dict(arguments.cpus or {})
    cpu |= {"shares": arguments.cpu_shares} if arguments.cpu_shares else {}
    cpu |= {"cpus": arguments.cpuset_cpus} if arguments.cpuset_cpus else {}
    wanted: Mapping[str, Any] = {
        "memory": arguments.memory and {"limit": arguments.memory},
        "cpu": cpu,
        "pids": arguments.pids and {"limit": arguments.pids},
    }
    resources = {name: value for name, value in wanted.items() if value}
    if not resources and not arguments.restart:
        raise InvalidArgument("no change: give --memory, --cpus, --pids, --cpu-shares, --cpuset-cpus or --restart")

    def one(client: Client, task_id: str) -> None:
        if resources:
            client.tasks.update(task_id, resources)
        if arguments.restart:
            client.containers.update(task_id, restart=arguments.restart)

    return each(arguments, one, id_alone)


def _configure_checkpoint(parser: Parser) -> None:
    add = parser.add_argument
    add("-R", "--leave-running", action="store_true", help="it runs on; else it ends with that, as with docker and podman")
    add("--tcp-established", action="store_true", help="although it has open TCP connections")
    add("--ext-unix-sk", action="store_true", help="although it has Unix sockets whose other side is outside")
    add("--shell-job", action="store_true", help="although it has a terminal from outside")
    add("--file-locks", action="store_true", help="although it holds file locks")
    add("--work-path", metavar="DIR", help="where CRIU's log goes")
    add("id", metavar="ID", help="of a running task")
    add("path", metavar="DIR", help="a folder for its state; made if it is not there")


def _checkpoint(arguments: Namespace) -> int:
    path = str(Path(arguments.path).absolute())
    with connect(arguments) as client:
        client.tasks.checkpoint(
            arguments.id,
            path,
            exit=not arguments.leave_running,
            open_tcp=arguments.tcp_established,
            external_unix_sockets=arguments.ext_unix_sk,
            terminal=arguments.shell_job,
            file_locks=arguments.file_locks,
            work_path=arguments.work_path and str(Path(arguments.work_path).absolute()),
        )
    if arguments.json:
        show_json({"id": arguments.id, "path": path})
    else:
        print(path)
    return 0


def _configure_restore(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="of a container that has no running task")
    parser.add_argument("path", metavar="DIR", help="where 'shimyard checkpoint' has put its state")


def _restore(arguments: Namespace) -> int:
    with connect(arguments) as client:
        _make_room(client, arguments.id)
        client.tasks.create(arguments.id, checkpoint=str(Path(arguments.path).absolute()))
        try:
            started = client.tasks.start(arguments.id)
        except ShimyardError:
            client.tasks.delete(arguments.id, force=True)  # so that it can be tried again
            raise
    if arguments.json:
        show_json({"id": arguments.id, **started})
    else:
        print(arguments.id)
    return 0


def _make_room(client: Client, task_id: str) -> None:
    """A task that has ended makes room for what it was."""
    try:
        if client.tasks.get(task_id).status == "stopped":
            client.tasks.delete(task_id)
    except NotFound:
        client.containers.get(task_id)


VERBS = {
    "pause": Verb(add_ids, _pause),
    "resume": Verb(add_ids, _resume),
    "unpause": Verb(add_ids, _resume),
    "update": Verb(_configure_update, _update),
    "checkpoint": Verb(_configure_checkpoint, _checkpoint),
    "restore": Verb(_configure_restore, _restore),
}
