"""A process in the foreground of a command line: its streams through named pipes, our signals to it, its end awaited.

What makes the process and waits for its end is the caller's ``deed``; it gets the named pipes as the process's stdio.
"""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from actors.cli.output import say
from actors.cli.passthrough import Inflow, Outflow, named_pipes
from actors.cli.signals import Forwarder, Remote, Target
from actors.records import Exit, Stdio
from shimproc.errors import ShimyardError

if TYPE_CHECKING:
    from actors.client import Client

OWN_FAILURE: Final = 125
KILL_SECONDS: Final = 5.0
AWAY_SECONDS: Final = 3600.0
"""That a daemon may be away while somebody types: the bytes go past it, and the detach keys lead out."""
_STATUS: Final = {"not_found_executable": 127, "not_executable": 126}
_REASONS: Final = {
    "timeout": "its time was over, so it was stopped",
    "oom": "it was killed: out of memory",
    "checkpoint": "it ended with its checkpoint; it goes on with: shimyard restore",
    "shim-lost": "its shim was lost; nobody knows how it ended",
}
Dial = Callable[[float | None], "Client"]
"""Makes a client; with a timeout in seconds for each of its calls, or None."""
Deed = Callable[[Stdio], Exit]


def from_afar(stdin: bool, tty: bool) -> Stdio:
    """For a process that is shown by attaching to it."""
    return Stdio("attach:" if stdin and not tty else "", "" if tty else "attach:", "" if tty else "attach:", tty)


def failure_status(error: ShimyardError) -> int:
    """125 for our own failure, 126 and 127 as a shell has them (``details.kind`` of the error)."""
    return _STATUS.get(str(error.details.get("kind")), OWN_FAILURE)


def tell_why(name: str, ended: Exit) -> int:
    """Its exit status; says why it ended where that was not its own doing."""
    if ended.reason in _REASONS:
        say(f"{name}: {_REASONS[ended.reason]}")
    return ended.exit_status


class ExitWatch:
    """For outputs whose reader is slow: learns of the exit as soon as it is known, to take the rest before the shim gives up."""

    def __init__(self, dial: Dial, target: Target) -> None:
        self._dial = dial
        self._target = target
        self._begun = threading.Lock()
        self.outputs: list[Outflow] = []

    def begin(self) -> None:
        """Once, in a thread."""
        if self._begun.acquire(blocking=False):
            threading.Thread(target=self._unlimit_at_exit, name="exit", daemon=True).start()

    def _unlimit_at_exit(self) -> None:
        try:
            with self._dial(None) as client:
                client.tasks.wait(self._target.id, exec_id=self._target.exec_id)
        except ShimyardError:  # it is gone already, or the daemon is, when the deed says so
            pass
        for output in self.outputs:
            output.unlimit()


class Foreground:
    """One process.

    Parameters
    ----------
    dial : clients beside the one that the deed waits with.
    passes_stdin : it gets what comes to ours; else it has none.
    """

    def __init__(self, dial: Dial, remote: Remote, deed: Deed, *, passes_stdin: bool = True) -> None:
        self._target = remote.target
        self._deed = deed
        self._passes_stdin = passes_stdin
        self._forwarder = Forwarder(remote)
        self._broken: OSError | None = None
        self._watch = ExitWatch(dial, remote.target)
        self._outputs = self._watch.outputs

    def execute(self) -> int:
        """To its end; the exit status: its own, or 141 if whoever reads the output has gone."""
        self._forwarder.start()
        try:
            with named_pipes() as pipes:
                ended = self._passed_through(Stdio(pipes.stdin if self._passes_stdin else "", pipes.stdout, pipes.stderr))
        finally:
            self._forwarder.stop()
        for output in self._outputs:
            output.drain()
        if self._broken is not None:
            return self._on_lost_output(self._broken)
        return tell_why(self._target.name, ended)

    def _passed_through(self, stdio: Stdio) -> Exit:
        for path, target in ((stdio.stdout, 1), (stdio.stderr, 2)):
            output = Outflow(path.removeprefix("fifo://"), target, self._watch.begin, self._on_broken)
            output.start()
            self._outputs.append(output)
        if stdio.stdin:
            Inflow(stdio.stdin.removeprefix("fifo://"), 0).start()
        whole = False
        try:
            ended = self._deed(stdio)
            whole = True
        finally:
            for output in self._outputs:
                output.finish(whole=whole)
        return ended

    def _on_broken(self, error: OSError) -> None:
        """Whoever read our output has gone: a command that ran here would be killed by SIGPIPE."""
        self._broken = self._broken or error
        self._forwarder.kill(signal.SIGKILL)

    def _on_lost_output(self, error: OSError) -> int:
        if error.errno == errno.EPIPE:
            return 128 + signal.SIGPIPE
        say(f"cannot write its output: {error.strerror}")
        return OWN_FAILURE
