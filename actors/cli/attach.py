"""``shimyard attach``: at the streams of a running task, from now on. It ends as the task does, or with the detach keys."""

from __future__ import annotations

import os
import signal
import threading
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from actors.cli import terminal
from actors.cli.connection import connect, dial
from actors.cli.foreground import KILL_SECONDS, tell_why
from actors.cli.output import complain, say, show_json_line
from actors.cli.parser import Parser, Verb
from actors.cli.passthrough import write_all
from actors.cli.run import add_detach_keys
from actors.cli.signals import Forwarder, Remote, Target
from actors.records import Exit, Stdio
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError

if TYPE_CHECKING:
    from actors.client import Attached, Client

_BLOCK: Final = 64 << 10


def _configure(parser: Parser) -> None:
    add = parser.add_argument
    add("--no-stdin", action="store_true", help="show its output only")
    proxy = "without a terminal: pass signals on to it (default yes); with =false Ctrl-C leaves it running"
    add("--sig-proxy", choices=("true", "false"), default="true", help=proxy)
    add("--exec", metavar="EXEC_ID", help="at an exec's streams instead of the task's own")
    add_detach_keys(add)
    add("id", metavar="ID", help="of a running task")


def _attach(arguments: Namespace) -> int:
    with connect(arguments) as client:
        target = Target(arguments.id, arguments.exec)
        stdio = _stdio_of(client, target)
        stdin = not arguments.no_stdin and (stdio.terminal or stdio.stdin != "")
        attached = client.tasks.attach(target.id, exec_id=target.exec_id, stdin=stdin, reattach=True)
        remote = Remote(lambda: dial(arguments, KILL_SECONDS), target)
        if arguments.json:
            return _as_json(client, attached, target)
        on_terminal = stdio.terminal and stdin and os.isatty(0)
        if on_terminal and (size := terminal.size()) is not None:
            remote.resize(size[0], size[1] + 1)  # a size that changes makes full-screen programs draw anew, as docker does
            remote.resize(*size)

        def wait() -> Exit:
            with dial(arguments) as other:
                return _exit_of(other, target)

        how = How(stdin, arguments.detach_keys if on_terminal else None, proxy=arguments.sig_proxy == "true")
        return play(attached, remote, wait, how)


def _stdio_of(client: Client, target: Target) -> Stdio:
    """``FailedPrecondition`` if it is not there any more to be attached to."""
    task = client.tasks.get(target.id)
    if target.exec_id is None:
        status, stdio = task.status, task.stdio
    else:
        found = next((one for one in task.execs if one.id == target.exec_id), None)
        if found is None:
            raise NotFound(f"the task {target.id} has no exec {target.exec_id}")
        status, stdio = found.status, found.stdio
    if status == "stopped":
        raise FailedPrecondition(f"{target.name} has ended; start it first, or see: shimyard logs {target.id}")
    return stdio


def _as_json(client: Client, attached: Attached, target: Target) -> int:
    """A line for each piece."""
    for piece in attached:
        show_json_line(piece)
    return _exit_of(client, target).exit_status


def _exit_of(client: Client, target: Target) -> Exit:
    """``NotFound`` if it has been removed right after its end."""
    return client.tasks.wait(target.id, exec_id=target.exec_id)


class How(NamedTuple):
    """How a process is shown.

    Parameters
    ----------
    stdin : what comes to ours is passed on.
    keys : it has a terminal, and so have we: it becomes raw, and these keys detach.
    proxy : signals are passed on; with a terminal, see ``session.Plan``.
    closes : the end of our stdin is that of the process's; else others may write to it, too.
    """

    stdin: bool
    keys: bytes | None = None
    proxy: bool = True
    closes: bool = False
    leaves: bool = True


def play(attached: Attached, remote: Remote, deed: Callable[[], Exit], how: How) -> int:
    """Until its end; the exit status. ``deed`` waits for the end, in a thread of its own."""
    if how.keys is None:
        return _Plain(attached, remote, deed).execute(how)
    from actors.cli.session import AttachStreams, Plan, Session  # noqa: PLC0415 - for terminals only

    session = Session(remote, Plan(how.keys, reads_keys=True, leaves=how.leaves, size=terminal.size()))
    streams = AttachStreams(attached)
    outcome = session.play(streams, deed)
    if streams.error is not None and not isinstance(outcome, Exit):
        complain(streams.error)
        os._exit(1)  # a thread still waits for its exit
    return session.finish(outcome)


class _Plain:
    """Without a terminal of ours: its streams to ours, one to one."""

    def __init__(self, attached: Attached, remote: Remote, deed: Callable[[], Exit]) -> None:
        self._attached = attached
        self._remote = remote
        self._deed = deed
        self._told = 0
        self._over = False

    def execute(self, how: How) -> int:
        """To its end; its exit status."""
        forwarder = Forwarder(self._remote) if how.proxy else None
        if forwarder is not None:
            forwarder.start()
        else:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # it has nothing to clean up
        ended: list[Exit | ShimyardError] = []
        waiting = threading.Thread(target=self._wait, args=(ended,), name="exit", daemon=True)
        waiting.start()
        if how.stdin:
            threading.Thread(target=self._write, args=(how.closes,), name="stdin", daemon=True).start()
        self._show()
        waiting.join()
        self._over = True
        if forwarder is not None:
            forwarder.stop()
        if isinstance(ended[0], ShimyardError):
            raise ended[0]
        return tell_why(self._remote.target.name, ended[0])

    def _show(self) -> None:
        for piece in self._attached:
            if self._attached.losses > self._told:
                self._told = self._attached.losses
                say("the connection was lost; attached again, what was written meanwhile is not shown")
            write_all(2 if piece.stream == "stderr" else 1, piece.data)

    def _wait(self, ended: list[Exit | ShimyardError]) -> None:
        try:
            ended.append(self._deed())
        except ShimyardError as error:
            ended.append(error)

    def _write(self, closes: bool) -> None:
        try:
            while data := os.read(0, _BLOCK):
                self._attached.write(data)
            if closes:
                self._attached.close_stdin()
        except (OSError, ShimyardError) as error:
            if not self._over and not isinstance(error, FailedPrecondition):
                say(f"stdin is not passed on any more: {error}")


VERBS = {"attach": Verb(_configure, _attach)}
