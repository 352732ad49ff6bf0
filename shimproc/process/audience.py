"""The clients that are attached to a task's processes, by the numbers that the daemon gives them."""

from __future__ import annotations

from typing import Any

from shimproc.io.attach import Attachment, Send
from shimproc.messages import Attach
from shimproc.process.exec import Exec
from shimproc.process.init import Init


class Audience:
    """Of one task, for one daemon: when another comes, its clients attach anew.

    Parameters
    ----------
    send : takes a map for the daemon.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._attached: dict[int, tuple[Attachment, Init | Exec]] = {}

    def add(self, process: Init | Exec, request: Attach) -> dict[str, Any]:
        """One more. ``FailedPrecondition`` or ``NotFound``: there is nothing to attach to."""
        attachment = Attachment(request.number, self._send)
        process.attach(attachment)
        self._attached[request.number] = (attachment, process)
        return {}

    def give_credit(self, number: int, n: int) -> None:
        """It takes n more chunks; harmless when it is gone."""
        if number in self._attached:
            self._attached[number][0].add_credit(n)

    def remove(self, number: int) -> dict[str, Any]:
        """It is gone."""
        _, process = self._attached.pop(number, (None, None))
        if process is not None:
            process.detach(number)
        return {}

    def clear(self) -> None:
        """All are gone, with their daemon."""
        for number in list(self._attached):
            self.remove(number)
