"""Signals that come to ``shimyard run``, ``exec`` and ``attach`` go to their process.

They are blocked in every thread and taken by one with sigwait(3), so that nothing is interrupted and none is lost: one that
comes before the process has started is sent when it has. The third SIGINT or SIGTERM is sent as SIGKILL, since the first
process of a container ignores what it has no handler for (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actors.cli.output import say
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError

if TYPE_CHECKING:
    from actors.client import Client

FORWARDED: Final = frozenset(
    {
        *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH),
    }
)
_ASKING: Final = (signal.SIGINT, signal.SIGTERM)
_ENOUGH: Final = 3


class Target(NamedTuple):
    """A task's first process, or one of its execs."""

    id: str
    exec_id: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.id if self.exec_id is None else f"{self.exec_id} in {self.id}"

    def start_filter(self) -> str:
        """Of the event that tells of its start."""
        if self.exec_id is None:
            return f"topic==/tasks/start,event.container_id=={self.id}"
        return f"topic==/tasks/exec-started,event.container_id=={self.id},event.exec_id=={self.exec_id}"


class Remote:
    """Asks something of a process that may not have started yet; each use has a client of its own."""

    def __init__(self, dial: Callable[[], Client], target: Target) -> None:
        self._dial = dial
        self.target = target

    def kill(self, number: int) -> None:
        """Send a signal, at once or right after its start."""
        self._do(lambda client: client.tasks.kill(self.target.id, number, exec_id=self.target.exec_id))

    def resize(self, width: int, height: int) -> None:
        """Its terminal, at once or right after its start."""
        self._do(lambda client: client.tasks.resize(self.target.id, width, height, exec_id=self.target.exec_id))

    def _do(self, deed: Callable[[Client], Any]) -> None:
        with self._dial() as client:
            try:
                deed(client)
            except (NotFound, FailedPrecondition):
                self._do_after_start(client, deed)

    def _do_after_start(self, client: Client, deed: Callable[[Client], Any]) -> None:
        """Look where the log of events is, try again, and only then wait: a start in between is not missed."""
        since = client.health()["events"]["last_seq"]
        try:
            deed(client)
        except (NotFound, FailedPrecondition):
            next(iter(client.events.stream(since=since, filters=[self.target.start_filter()])))
            deed(client)


class Forwarder:
    """Sends signals to one process."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._asked = 0
        self._over = False
        # What is ignored here, by nohup or a shell's &, is to be ignored: a blocked signal would be taken all the same.
        self._signals = {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}

    def start(self) -> None:
        """Block them in this thread and those that it starts, and forward. SIGTTIN, too: see ``passthrough.Inflow``."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {*self._signals, signal.SIGTTIN})
        threading.Thread(target=self._forward, name="signals", daemon=True).start()

    def stop(self) -> None:
        """The process has ended: signals are for this one again."""
        self._over = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)

    def kill(self, number: int) -> None:
        """Send one now; says so if it cannot be sent."""
        try:
            self._remote.kill(number)
        except ShimyardError as error:
            if not self._over:
                say(f"signal {number} was not sent: {error.message}")
                self._leave_if_asked_often()

    def _forward(self) -> None:
        while True:
            number = signal.sigwait(self._signals)
            if self._over:  # it came just before the end; the main thread takes it now
                os.kill(os.getpid(), number)
                return
            if number in _ASKING:
                self._asked += 1
                if self._asked >= _ENOUGH:
                    say(f"asked {self._asked} times, so {self._remote.target.name} is killed")
                    number = signal.SIGKILL
            self.kill(number)

    def _leave_if_asked_often(self) -> None:
        """Nobody answers, and the user insists: the task is the daemon's, who will know how it ends."""
        if self._asked >= _ENOUGH:
            target = self._remote.target
            say(f"leaving; {target.name} runs on, see: shimyard inspect {target.id}")
            os._exit(128 + signal.SIGINT)
