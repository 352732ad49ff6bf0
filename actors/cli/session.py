"""A process on our own terminal: keys to it, its screen to ours, sizes and signals; and the keys that leave it running.

    keyboard ─ thread ─▶ detach keys? ─▶ streams ─▶ process       process ─▶ streams ─▶ stdout

The main thread waits for whatever comes first: the process's end, the detach keys, or a signal that makes us leave.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from actors.cli import terminal
from actors.cli.detach import DetachSearch
from actors.cli.foreground import Dial, ExitWatch, tell_why
from actors.cli.output import say
from actors.cli.passthrough import Outflow, write_all
from actors.cli.signals import FORWARDED, Remote
from actors.cli.terminal import Terminal
from actors.client import Attached
from actors.records import Exit, Stdio
from shimproc.errors import ShimyardError

_BLOCK: Final = 4096
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_JOB_CONTROL: Final = frozenset({signal.SIGTSTP, signal.SIGCONT})
_REST_SECONDS: Final = 5.0


class Streams(Protocol):
    """The way to the process and back."""

    def start(self, on_broken: Callable[[OSError], None]) -> None:
        """Show its output from now on; ``on_broken``: our stdout takes no more."""

    def write(self, data: bytes) -> None:
        """What was typed."""

    def finish(self) -> None:
        """It has ended: show the rest."""


class PipeStreams:
    """Through named pipes, past the daemon: typing goes on while that is away."""

    def __init__(self, dial: Dial, remote: Remote, stdio: Stdio) -> None:
        self._watch = ExitWatch(dial, remote.target)
        self._stdout = stdio.stdout.removeprefix("fifo://")
        # Read-write never waits for the other side (fifo(7)), so the detach keys work before there is one.
        path = stdio.stdin.removeprefix("fifo://")
        self._stdin = os.open(path, os.O_RDWR | os.O_CLOEXEC) if path else None

    def start(self, on_broken: Callable[[OSError], None]) -> None:
        """See ``Streams``."""
        output = Outflow(self._stdout, 1, self._watch.begin, on_broken)
        self._watch.outputs.append(output)
        output.start()

    def write(self, data: bytes) -> None:
        """See ``Streams``."""
        if self._stdin is not None:
            write_all(self._stdin, data)

    def finish(self) -> None:
        """See ``Streams``."""
        for output in self._watch.outputs:
            output.finish(whole=True)
            output.drain()


class AttachStreams:
    """Through the daemon, to a process that somebody else has made."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        self._reader = threading.Thread(target=self._read, name="attached", daemon=True)
        self._on_broken: Callable[[OSError], None] = _nobody
        self.error: ShimyardError | None = None

    def start(self, on_broken: Callable[[OSError], None]) -> None:
        """See ``Streams``."""
        self._on_broken = on_broken
        self._reader.start()

    def write(self, data: bytes) -> None:
        """See ``Streams``. What cannot be written now is as a key typed at a dead terminal."""
        with contextlib.suppress(ShimyardError):
            self._attached.write(data)

    def finish(self) -> None:
        """See ``Streams``."""
        self._reader.join(_REST_SECONDS)

    def _read(self) -> None:
        try:
            for piece in self._attached:
                write_all(2 if piece.stream == "stderr" else 1, piece.data)
        except OSError as error:
            self._on_broken(error)
        except ShimyardError as error:
            self.error = error
            self._on_broken(OSError(error.message))


class Left(NamedTuple):
    """We go, it runs on. ``signal``: 0 for the detach keys."""

    signal: int

    @property
    def status(self) -> int:
        """Ours."""
        return 128 + self.signal if self.signal else 0


class Plan(NamedTuple):
    """How a session is played.

    Parameters
    ----------
    keys : that leave it running.
    reads_keys : the terminal is raw, and what is typed goes to the process.
    leaves : on a signal that ends us it runs on, as with docker and podman; else it gets the signal.
    """

    keys: bytes
    reads_keys: bool
    leaves: bool
    size: tuple[int, int] | None = None


class Session:
    """One process on our terminal."""

    def __init__(self, remote: Remote, plan: Plan) -> None:
        self._remote = remote
        self._plan = plan
        self._outcomes: queue.SimpleQueue[Exit | Left | BaseException] = queue.SimpleQueue()
        self._terminal = Terminal(0) if plan.reads_keys else None
        self._size = plan.size
        self._signals = {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}
        if plan.reads_keys:
            self._signals |= _JOB_CONTROL

    def play(self, streams: Streams, deed: Callable[[], Exit]) -> Exit | Left:
        """Until its end, or until we leave. ``deed`` waits for the end, and may begin it; it runs in a thread of its own."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        with contextlib.nullcontext() if self._terminal is None else self._terminal:
            streams.start(self._on_broken)
            self._begin("signals", self._serve_signals)
            if self._plan.reads_keys:
                self._begin("keyboard", lambda: self._read_keys(streams))
            self._begin("deed", lambda: self._do(deed))
            outcome = self._outcomes.get()
            if isinstance(outcome, Exit):
                streams.finish()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def finish(self, outcome: Exit | Left) -> int:
        """Tell how it went; the exit status. Does not come back where we leave a running process: threads still wait for it."""
        target = self._remote.target
        if isinstance(outcome, Exit):
            return tell_why(target.name, outcome)
        again = f"{target.id}" if target.exec_id is None else f"--exec {target.exec_id} {target.id}"
        say(f"detached; {target.name} runs on, attach again with: shimyard attach {again}")
        os._exit(outcome.status)

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name=name, daemon=True).start()

    def _do(self, deed: Callable[[], Exit]) -> None:
        try:
            self._outcomes.put(deed())
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            self._outcomes.put(error)

    def _read_keys(self, streams: Streams) -> None:
        search = DetachSearch(self._plan.keys)
        with contextlib.suppress(OSError):  # EIO: the terminal is gone
            while typed := os.read(0, _BLOCK):
                data, found = search.take(typed)
                if data:
                    streams.write(data)
                if found:
                    self._outcomes.put(Left(0))
                    return

    def _serve_signals(self) -> None:
        self._on_size()
        while True:
            number = signal.sigwait(self._signals)
            if number == signal.SIGWINCH:
                self._on_size()
            elif number in _JOB_CONTROL:
                self._on_job_control(number)
            elif number in _ENDING and self._plan.leaves and self._plan.reads_keys:
                self._outcomes.put(Left(number))
            else:
                self._tell(lambda: self._remote.kill(number))  # noqa: B023 - done with at once

    def _on_job_control(self, number: int) -> None:
        """Stopped and continued from outside; the terminal is the shell's in between."""
        if self._terminal is None:
            return
        if number == signal.SIGTSTP:
            self._terminal.leave()
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            self._terminal.enter()
            self._on_size()

    def _on_size(self) -> None:
        found = terminal.size()
        if found is not None and found != self._size:
            self._size = found
            self._tell(lambda: self._remote.resize(*found))

    def _on_broken(self, _: OSError) -> None:
        if self._plan.leaves:
            self._outcomes.put(Left(signal.SIGHUP))
        else:
            self._tell(lambda: self._remote.kill(signal.SIGKILL))

    def _tell(self, deed: Callable[[], Any]) -> None:
        """What cannot be told to a process that has just ended does not matter; a size that is lost comes with the next."""
        with contextlib.suppress(ShimyardError):
            deed()


def _nobody(_: OSError) -> None:
    """Not started."""
