"""Signals that come to ``shimyard run`` go to its task.

They are blocked in every thread and taken by one with sigwait(3), so that nothing is interrupted and none is lost: one that
comes before the task has started is sent when it has. The third SIGINT or SIGTERM is sent as SIGKILL, since the first
process of a container ignores what it has no handler for (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

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


class Forwarder:
    """Sends signals to one task.

    Parameters
    ----------
    dial : makes a client; each use has its own, as the run's waits for the exit.
    """

    def __init__(self, dial: Callable[[], Client], task_id: str) -> None:
        self._dial = dial
        self._id = task_id
        self._asked = 0
        self._over = False
        # What is ignored here, by nohup or a shell's &, is to be ignored: a blocked signal would be taken all the same.
        self._signals = {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}

    def start(self) -> None:
        """Block them in this thread and those that it starts, and forward. SIGTTIN, too: see ``passthrough.Inflow``."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {*self._signals, signal.SIGTTIN})
        threading.Thread(target=self._forward, name="signals", daemon=True).start()

    def stop(self) -> None:
        """The task has ended: signals are for this process again."""
        self._over = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)

    def kill(self, number: int) -> None:
        """Send one now; says so if it cannot be sent."""
        try:
            self._send(number)
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
                    say(f"asked {self._asked} times, so {self._id} is killed")
                    number = signal.SIGKILL
            self.kill(number)

    def _send(self, number: int) -> None:
        with self._dial() as client:
            try:
                client.tasks.kill(self._id, number)
            except (NotFound, FailedPrecondition):
                self._send_after_start(client, number)

    def _send_after_start(self, client: Client, number: int) -> None:
        """Look where the log of events is, try again, and only then wait: a start in between is not missed."""
        since = client.health()["events"]["last_seq"]
        try:
            client.tasks.kill(self._id, number)
        except (NotFound, FailedPrecondition):
            filters = [f"topic==/tasks/start,event.container_id=={self._id}"]
            next(iter(client.events.stream(since=since, filters=filters)))
            client.tasks.kill(self._id, number)

    def _leave_if_asked_often(self) -> None:
        """Nobody answers, and the user insists: the task is the daemon's, who will know how it ends."""
        if self._asked >= _ENOUGH:
            say(f"leaving; {self._id} runs on, see: shimyard inspect {self._id}")
            os._exit(128 + signal.SIGINT)
