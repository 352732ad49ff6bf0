"""``shimyard exec``: one more command in a running task, as if it ran here.

Exit status as for ``run``: the command's own, 128 + n for death by signal n; 125, 126, 127. The exec is removed at its end.
"""

from __future__ import annotations

import contextlib
from argparse import REMAINDER, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actors.cli import terminal, values
from actors.cli.connection import connect, dial, has_our_files
from actors.cli.foreground import AWAY_SECONDS, KILL_SECONDS, Foreground, failure_status, from_afar
from actors.cli.output import complain, show_json
from actors.cli.parser import Parser, Verb
from actors.cli.run import add_detach_keys
from actors.cli.signals import Remote, Target
from actors.records import Exit, Stdio
from shimproc.errors import InvalidArgument, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client
    from actors.client.execs import ExecOptions


def _configure(parser: Parser) -> None:
    parser.usage = f"{parser.prog} [options] ID [--] COMMAND [ARG ...]"
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="pass stdin on")
    add("-t", "--tty", action="store_true", help="give it a terminal; -it for a shell")
    add("-d", "--detach", action="store_true", help="in the background: print its exec id; its output goes to a log of its own")
    variable = "set a variable, or pass on the one that is set here"
    add("-e", "--env", default=[], action="append", type=values.variable, metavar="NAME[=VALUE]", help=variable)
    add("--env-file", default=[], action="append", type=values.variables, metavar="FILE", help="a variable a line")
    add("-w", "--workdir", metavar="DIR", help="working directory (default: the container's)")
    add("-u", "--user", metavar="USER[:GROUP]", help="names of the container's files, or numbers (default: the container's)")
    add("--privileged", action="store_true", help="with every capability that there is")
    add("--name", metavar="EXEC_ID", help="its exec id (default: a made-up one)")
    add_detach_keys(add)
    add("id", metavar="ID", help="of a running task")
    add("command", nargs=REMAINDER, metavar="COMMAND", help="what to run, with its arguments")


def _execute(arguments: Namespace) -> int:
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    try:
        if not words:
            raise InvalidArgument(f"no command: write it behind the id, such as shimyard exec {arguments.id} -- ls /")
        if arguments.tty and arguments.interactive and not arguments.detach:
            terminal.require_terminal()
        with connect(arguments) as client:
            return _Execution(client, arguments, words).execute()
    except ShimyardError as error:
        complain(error, as_json=arguments.json)
        return failure_status(error)


class _Execution:
    """One ``exec``."""

    def __init__(self, client: Client, arguments: Namespace, words: list[str]) -> None:
        from actors.client.execs import Chosen, made_up_exec_id, process_of  # noqa: PLC0415 - it comes with pyzmq

        self._client = client
        self._arguments = arguments
        name = arguments.name or made_up_exec_id()
        self._target = Target(arguments.id, name)
        self._remote = Remote(lambda: self._dial(KILL_SECONDS), self._target)
        env = dict(entry.split("=", 1) for entry in (*_flat(arguments.env_file), *arguments.env) if entry)
        self._words = words
        self._options: ExecOptions = {
            "env": env or None,
            "cwd": arguments.workdir,
            "user": arguments.user,
            "privileged": arguments.privileged,
            "name": name,
        }
        task, spec = client.tasks.get(arguments.id), client.containers.get(arguments.id).spec
        self._process: Mapping[str, Any] = process_of(spec, words, Chosen(**self._options), task)
        if arguments.tty:
            self._process = terminal.with_terminal(self._process)

    def execute(self) -> int:
        """In the way that is asked for; the exit status."""
        arguments = self._arguments
        if arguments.detach:
            return self._detached()
        if arguments.json:
            return self._captured()
        if not has_our_files(arguments):
            return self._from_afar()
        if arguments.tty:
            return self._on_terminal()
        stdin = arguments.interactive
        return Foreground(self._dial, self._remote, lambda stdio: self._run(self._client, stdio), passes_stdin=stdin).execute()

    def _detached(self) -> int:
        tty = self._arguments.tty
        stdin = "attach:" if self._arguments.interactive and not tty else ""
        self._add_and_start(self._client, Stdio(stdin, "log:", "" if tty else "log:", tty))
        task_id, exec_id = self._target
        if self._arguments.json:
            show_json(next(one for one in self._client.tasks.get(task_id).execs if one.id == exec_id))
        else:
            print(exec_id)
        return 0

    def _on_terminal(self) -> int:
        from actors.cli.passthrough import named_pipes  # noqa: PLC0415 - for terminals only
        from actors.cli.session import PipeStreams, Plan, Session  # noqa: PLC0415

        arguments = self._arguments
        size = terminal.size()
        session = Session(self._remote, Plan(arguments.detach_keys, arguments.interactive, leaves=False, size=size))
        with named_pipes() as pipes:
            stdio = Stdio(pipes.stdin if arguments.interactive else "", pipes.stdout, "", terminal=True)
            outcome = session.play(PipeStreams(self._dial, self._remote, stdio), lambda: self._run_apart(stdio))
        return session.finish(outcome)

    def _from_afar(self) -> int:
        """The daemon may be on another host, where our named pipes are not: through it."""
        from actors.cli.attach import How, play  # noqa: PLC0415 - mostly it is on ours

        task_id, exec_id = self._target.id, str(self._target.exec_id)
        arguments, client = self._arguments, self._client
        client.tasks.exec(task_id, exec_id, self._process, stdio=from_afar(arguments.interactive, arguments.tty))
        try:
            attached = client.tasks.attach(task_id, exec_id=exec_id, stdin=arguments.interactive, reattach=True)
            client.tasks.start(task_id, exec_id=exec_id)  # its stdin can be written to from now on
        except ShimyardError:
            with contextlib.suppress(ShimyardError):
                client.tasks.delete_process(task_id, exec_id)
            raise

        def deed() -> Exit:
            with self._dial(None) as other:
                try:
                    return other.tasks.wait(task_id, exec_id=exec_id)
                finally:
                    with contextlib.suppress(ShimyardError):
                        other.tasks.delete_process(task_id, exec_id)

        keys = arguments.detach_keys if arguments.tty and arguments.interactive else None
        return play(attached, self._remote, deed, How(arguments.interactive, keys, closes=True, leaves=False))

    def _captured(self) -> int:
        """``--json``: everything in one document."""
        if self._arguments.tty:
            raise InvalidArgument("--json: it shows a captured output, and a terminal is not captured; leave out one of them")
        import sys  # noqa: PLC0415

        given = sys.stdin.buffer.read() if self._arguments.interactive else None
        options: ExecOptions = {**self._options, "input": given}
        done = self._client.exec(self._target.id, self._words, **options)
        show_json({"exit": done.exit, "stdout": done.stdout, "stderr": done.stderr, "truncated": done.truncated})
        return done.returncode

    def _run_apart(self, stdio: Stdio) -> Exit:
        with dial(self._arguments, patience=AWAY_SECONDS) as client:
            return self._run(client, stdio)

    def _run(self, client: Client, stdio: Stdio) -> Exit:
        """From its beginning to its end; nothing is left of it."""
        self._add_and_start(client, stdio)
        task_id, exec_id = self._target.id, str(self._target.exec_id)
        try:
            return client.tasks.wait(task_id, exec_id=exec_id)
        finally:
            with contextlib.suppress(ShimyardError):  # the task is gone, and its execs with it
                client.tasks.delete_process(task_id, exec_id)

    def _add_and_start(self, client: Client, stdio: Stdio) -> None:
        task_id, exec_id = self._target.id, str(self._target.exec_id)
        client.tasks.exec(task_id, exec_id, self._process, stdio=stdio)
        try:
            client.tasks.start(task_id, exec_id=exec_id)
        except ShimyardError:
            with contextlib.suppress(ShimyardError):
                client.tasks.delete_process(task_id, exec_id)
            raise

    def _dial(self, timeout: float | None) -> Client:
        return dial(self._arguments, timeout)


def _flat(lists: list[list[str]]) -> list[str]:
    return [entry for one in lists for entry in one]


VERBS = {"exec": Verb(_configure, _execute)}
