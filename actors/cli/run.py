"""``shimyard run``: a command in a new container, as if it ran here.

One ``tasks.run`` makes, starts, waits and (``--rm``) removes, so nothing is half-done whatever happens to this process.
Exit status: the command's own, 128 + n for death by signal n; 125 for shimyard's own failure, 126 and 127 as a shell has
them (``details.kind`` of the error); 141 if whoever reads the output has gone, when the command is killed.
"""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from actors.cli import terminal
from actors.cli.connection import about, address_of, dial, has_our_files, is_served
from actors.cli.detach import DEFAULT_KEYS, detach_keys
from actors.cli.foreground import AWAY_SECONDS, KILL_SECONDS, Foreground, failure_status, from_afar
from actors.cli.options import add_options, container
from actors.cli.output import complain, show_json
from actors.cli.parser import Parser, Verb
from actors.cli.passthrough import Inflow, named_pipes
from actors.cli.signals import Forwarder, Remote, Target
from actors.records import Exit, Stdio
from shimproc.errors import AlreadyExists, InvalidArgument, NotFound, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client

_CAPTURE: Final = 8 << 20


def configure(parser: Parser) -> None:
    """The options of ``run``."""
    add = parser.add_argument_group("how it runs").add_argument
    add("-d", "--detach", action="store_true", help="in the background: print its id; its output goes to its log")
    add("--rm", action="store_true", help="remove container and task when it has ended")
    add("-i", "--interactive", action="store_true", help="with -t: what is typed goes to it; without, stdin is always passed on")
    add("-t", "--tty", action="store_true", help="give it a terminal; -it for a shell")
    add_detach_keys(add)
    add_options(parser)
    parser.epilog = "The output of a run that is not detached is shown, not kept: 'shimyard logs' has only what was detached."


def add_detach_keys(add: Callable[..., Any]) -> None:
    """``--detach-keys``."""
    text = f"these, typed one after the other, leave it running (default {DEFAULT_KEYS}; '' for none)"
    add("--detach-keys", type=detach_keys, default=detach_keys(DEFAULT_KEYS), metavar="KEYS", help=text)


def execute(arguments: Namespace) -> int:
    """Run it."""
    address = address_of(arguments)
    try:
        _check_restart(arguments)
        if arguments.tty:
            _check_terminal(arguments)
        if not arguments.address and not is_served(address):
            from actors.cli.autostart import start_daemon  # noqa: PLC0415 - mostly there is one

            start_daemon(arguments)
        with dial(arguments) as client:
            params = container(arguments, arguments.runtime or default_runtime(client))
            if arguments.tty:
                _give_terminal(params["spec"])
            if arguments.detach:
                return _detached(client, arguments, params)
            return Run(client, arguments, params).execute()
    except ShimyardError as error:
        complain(error, as_json=arguments.json)
        return failure_status(error)


def default_runtime(client: Client) -> str:
    """What the daemon runs a container with when none is named: it decides what a spec may have."""
    told = about(client)
    usable = (runtime["name"] for runtime in told["runtimes"] if runtime["usable"])
    return str(told.get("default_runtime") or next(usable, ""))


def _check_restart(arguments: Namespace) -> None:
    if arguments.restart is None or arguments.restart.policy == "no":
        return
    if arguments.rm:
        raise InvalidArgument("--restart: --rm removes the task after its first exit; leave out one of them")
    if not arguments.detach:
        raise InvalidArgument("--restart: a run in the foreground ends with its command's first exit; add --detach")


def _check_terminal(arguments: Namespace) -> None:
    if arguments.json and not arguments.detach:
        raise InvalidArgument("--json: it shows a captured output, and a terminal is not captured; leave out --json or --tty")
    if arguments.interactive and not arguments.detach:
        terminal.require_terminal()


def _give_terminal(spec: dict[str, Any]) -> None:
    spec["process"] = terminal.with_terminal(spec["process"])


def _detached(client: Client, arguments: Namespace, params: Mapping[str, Any]) -> int:
    stdin = "attach:" if arguments.interactive and not arguments.tty else ""
    stdio = Stdio(stdin, "log:", "" if arguments.tty else "log:", arguments.tty)
    task = client.tasks.run(**params, stdio=stdio, rm=arguments.rm)
    if arguments.json:
        show_json(task)
    else:
        print(params["id"])
    return 0


class Run:
    """One run in the foreground.

    Parameters
    ----------
    client : waits for the exit; signals have clients of their own.
    """

    def __init__(self, client: Client, arguments: Namespace, params: Mapping[str, Any]) -> None:
        self._client = client
        self._arguments = arguments
        self._params = params
        self._remote = Remote(lambda: self._dial(KILL_SECONDS), Target(params["id"]))

    def execute(self) -> int:
        """To its end; the exit status."""
        if not has_our_files(self._arguments) and not self._arguments.json:
            return self._from_afar()
        if self._arguments.tty:
            return self._on_terminal()
        if self._arguments.json:
            return self._captured()
        return Foreground(self._dial, self._remote, lambda stdio: self._await_exit(self._client, stdio)).execute()

    def _on_terminal(self) -> int:
        from actors.cli.session import PipeStreams, Plan, Session  # noqa: PLC0415 - for terminals only

        arguments, size = self._arguments, terminal.size()
        session = Session(self._remote, Plan(arguments.detach_keys, arguments.interactive, leaves=True, size=size))
        with named_pipes() as pipes:
            stdio = Stdio(pipes.stdin if arguments.interactive else "", pipes.stdout, "", terminal=True)
            outcome = session.play(PipeStreams(self._dial, self._remote, stdio), lambda: self._await_exit_apart(stdio))
        return session.finish(outcome)

    def _from_afar(self) -> int:
        """The daemon may be on another host, where our named pipes are not: through it, in more steps than one."""
        from actors.cli.attach import How, play  # noqa: PLC0415 - mostly it is on ours

        arguments, client, name = self._arguments, self._client, self._params["id"]
        stdin = arguments.interactive or not arguments.tty
        client.containers.create(**self._params, stdio=from_afar(stdin, arguments.tty))
        try:
            client.tasks.create(name)
            attached = client.tasks.attach(name, stdin=stdin, reattach=True)
        except BaseException:
            self._remove(client)
            raise

        def deed() -> Exit:
            with self._dial(None) as other:
                try:
                    other.tasks.start(name)
                except ShimyardError:
                    self._remove(other)
                    raise
                ended = other.tasks.wait(name)
                if arguments.rm:
                    self._remove(other)
                return ended

        keys = arguments.detach_keys if arguments.tty and arguments.interactive else None
        return play(attached, self._remote, deed, How(stdin, keys, closes=True))

    def _remove(self, client: Client) -> None:
        with contextlib.suppress(NotFound):
            client.tasks.delete(self._params["id"], force=True)
        client.containers.delete(self._params["id"])

    def _captured(self) -> int:
        """``--json``: everything in one document."""
        forwarder = Forwarder(self._remote)
        forwarder.start()
        try:
            with named_pipes() as pipes:
                if pipes.stdin:
                    Inflow(pipes.stdin.removeprefix("fifo://"), 0).start()
                result = self._client.tasks.run(
                    **self._params, stdio=Stdio(stdin=pipes.stdin), rm=self._arguments.rm, wait=True, capture=_CAPTURE
                )
        finally:
            forwarder.stop()
        show_json(result)
        ended: Exit = result.exit
        return ended.exit_status

    def _await_exit_apart(self, stdio: Stdio) -> Exit:
        with dial(self._arguments, patience=AWAY_SECONDS) as client:
            return self._await_exit(client, stdio)

    def _await_exit(self, client: Client, stdio: Stdio) -> Exit:
        try:
            ended: Exit = client.tasks.run(**self._params, stdio=stdio, rm=self._arguments.rm, wait=True).exit
        except AlreadyExists:
            if self._arguments.name:
                raise
            # A made-up id that is taken is our own: the request was sent again to a daemon that had been restarted.
            return client.tasks.wait(self._params["id"])
        return ended

    def _dial(self, timeout: float | None) -> Client:
        return dial(self._arguments, timeout)


VERBS = {"run": Verb(configure, execute)}
