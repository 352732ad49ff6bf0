"""Who waits for a task's exit. A client may ask again and again with a short timeout, or go: that must not add up."""

from __future__ import annotations

from typing import Final

from actors.messages import Reply
from actors.records import Exit
from shimproc.errors import DeadlineExceeded
from shimproc.flow import Pending

_FEW: Final = 64
_LATE: Final = DeadlineExceeded("nobody waits any more")


class Waits:
    """Replies that are due when ``exit`` is there."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []
        self._most = _FEW

    def __len__(self) -> int:
        return len(self._replies)

    def add(self, exit_: Pending[Exit], reply: Reply) -> None:
        """At once, if it is there already. From time to time those are let go for whom nobody waits any more."""
        if exit_.done:
            _tell(reply, exit_)
            return
        if not self._replies:
            exit_.then(self._answer)
        self._replies.append(reply)
        if len(self._replies) > self._most:
            waiting, self._replies = self._replies, [one for one in self._replies if one.open]
            self._most = max(_FEW, 2 * len(self._replies))
            for one in waiting:
                if not one.open:
                    one.fail(_LATE)

    def _answer(self, exit_: Pending[Exit]) -> None:
        replies, self._replies = self._replies, []
        for reply in replies:
            _tell(reply, exit_)


def _tell(reply: Reply, exit_: Pending[Exit]) -> None:
    """How it ended; or that it never will, since it is gone."""
    if exit_.error is None:
        reply.ok(exit_.result())
    else:
        reply.fail(exit_.error)
