"""``shimyard run``: a command in a new container, as if it ran here.

One ``tasks.run`` makes, starts, waits and (``--rm``) removes, so nothing is half-done whatever happens to this process.
Exit status: the command's own, 128 + n for death by signal n; 125 for shimyard's own failure, 126 and 127 as a shell has
them (``details.kind`` of the error); 141 if whoever reads the output has gone, when the command is killed.
"""

from __future__ import annotations

import errno
import signal
import threading
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from actors.cli.connection import about, address_of, dial, is_served
from actors.cli.options import add_options, container
from actors.cli.output import complain, say, show_json
from actors.cli.parser import Parser, Verb
from actors.cli.passthrough import Inflow, Outflow, named_pipes
from actors.cli.signals import Forwarder
from actors.records import Exit, Stdio
from shimproc.errors import AlreadyExists, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client

OWN_FAILURE: Final = 125
_STATUS: Final = {"not_found_executable": 127, "not_executable": 126}
_CAPTURE: Final = 8 << 20
_KILL_SECONDS: Final = 5.0
_REASONS: Final = {
    "timeout": "its time was over, so it was stopped",
    "oom": "it was killed: out of memory",
    "shim-lost": "its shim was lost; nobody knows how it ended",
}


def configure(parser: Parser) -> None:
    """The options of ``run``."""
    add = parser.add_argument_group("how it runs").add_argument
    add("-d", "--detach", action="store_true", help="in the background: print its id; its output goes to its log")
    add("--rm", action="store_true", help="remove container and task when it has ended")
    add("-i", "--interactive", action="store_true", help="accepted from habit: stdin is always passed on")
    add_options(parser)
    parser.epilog = "The output of a run that is not detached is shown, not kept: 'shimyard logs' has only what was detached."


def execute(arguments: Namespace) -> int:
    """Run it."""
    address = address_of(arguments)
    try:
        if not arguments.address and not is_served(address):
            from actors.cli.autostart import start_daemon  # noqa: PLC0415 - mostly there is one

            start_daemon(arguments)
        with dial(arguments) as client:
            params = container(arguments, arguments.runtime or default_runtime(client))
            if arguments.detach:
                return _detached(client, arguments, params)
            return Run(client, arguments, params).execute()
    except ShimyardError as error:
        complain(error, as_json=arguments.json)
        return _STATUS.get(str(error.details.get("kind")), OWN_FAILURE)


def default_runtime(client: Client) -> str:
    """What the daemon runs a container with when none is named: it decides what a spec may have."""
    told = about(client)
    usable = (runtime["name"] for runtime in told["runtimes"] if runtime["usable"])
    return str(told.get("default_runtime") or next(usable, ""))


def _detached(client: Client, arguments: Namespace, params: Mapping[str, Any]) -> int:
    task = client.tasks.run(**params, stdio=Stdio(stdout="log:", stderr="log:"), rm=arguments.rm)
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
        self._forwarder = Forwarder(lambda: self._dial(_KILL_SECONDS), params["id"])
        self._broken: OSError | None = None
        self._outputs: list[Outflow] = []
        self._watched = threading.Lock()

    def execute(self) -> int:
        """To its end; the exit status."""
        self._forwarder.start()
        try:
            with named_pipes() as stdio:
                ended = self._captured(stdio) if self._arguments.json else self._passed_through(stdio)
        finally:
            self._forwarder.stop()
        for output in self._outputs:
            output.drain()
        if self._broken is not None:
            return self._on_lost_output(self._broken)
        if ended.reason in _REASONS:
            say(f"{self._params['id']}: {_REASONS[ended.reason]}")
        return ended.exit_status

    def _passed_through(self, stdio: Stdio) -> Exit:
        for path, target in ((stdio.stdout, 1), (stdio.stderr, 2)):
            output = Outflow(path.removeprefix("fifo://"), target, self._on_full, self._on_broken)
            output.start()
            self._outputs.append(output)
        self._pass_stdin(stdio)
        whole = False
        try:
            ended = self._await_exit(stdio)
            whole = True
        finally:
            for output in self._outputs:
                output.finish(whole=whole)
        return ended

    def _captured(self, stdio: Stdio) -> Exit:
        """``--json``: everything in one document."""
        self._pass_stdin(stdio)
        result = self._client.tasks.run(
            **self._params, stdio=Stdio(stdin=stdio.stdin), rm=self._arguments.rm, wait=True, capture=_CAPTURE
        )
        show_json(result)
        ended: Exit = result.exit
        return ended

    def _pass_stdin(self, stdio: Stdio) -> None:
        if stdio.stdin:
            Inflow(stdio.stdin.removeprefix("fifo://"), 0).start()

    def _await_exit(self, stdio: Stdio) -> Exit:
        try:
            ended: Exit = self._client.tasks.run(**self._params, stdio=stdio, rm=self._arguments.rm, wait=True).exit
        except AlreadyExists:
            if self._arguments.name:
                raise
            # A made-up id that is taken is our own: the request was sent again to a daemon that had been restarted.
            return self._client.tasks.wait(self._params["id"])
        return ended

    def _dial(self, timeout: float | None) -> Client:
        return dial(self._arguments, timeout)

    def _on_full(self) -> None:
        """Our reader is slow. Learn of the exit as soon as it is known, to take the last output before the shim gives up."""
        if self._watched.acquire(blocking=False):
            threading.Thread(target=self._unlimit_at_exit, name="exit", daemon=True).start()

    def _unlimit_at_exit(self) -> None:
        try:
            with self._dial(None) as client:
                client.tasks.wait(self._params["id"])
        except ShimyardError:  # it is gone already, or the daemon is, when the run's own request says so
            pass
        for output in self._outputs:
            output.unlimit()

    def _on_broken(self, error: OSError) -> None:
        """Whoever read our output has gone: a command that ran here would be killed by SIGPIPE."""
        self._broken = self._broken or error
        self._forwarder.kill(signal.SIGKILL)

    def _on_lost_output(self, error: OSError) -> int:
        if error.errno == errno.EPIPE:
            return 128 + signal.SIGPIPE
        say(f"cannot write its output: {error.strerror}")
        return OWN_FAILURE


VERBS = {"run": Verb(configure, execute)}
