"""Whether a shim answers. One whose answer is late is asked for a sign of life, which it can give whatever it is at; one that
gives none (stopped, starved, traced) is ``unknown``: it keeps its task, and is waited for. Nothing is asked of it otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from actors.shimlink import Answer, ShimLink
from shimproc.flow import Pending
from shimproc.loop import LoopLike
from shimproc.messages import Hello

log = logging.getLogger(__name__)
LATE_SECONDS = 1.0
FORCE_SECONDS = 5.0


class Vigil:
    """Over the shims of one task.

    Parameters
    ----------
    durable : the number of the last event that need not be told again.
    show : called with a shim and whether it is silent, whenever that changes.
    """

    def __init__(self, loop: LoopLike, durable: Callable[[], int], show: Callable[[ShimLink, bool], None]) -> None:
        self._loop = loop
        self._durable = durable
        self._show = show
        self._asked: ShimLink | None = None
        self._silent: ShimLink | None = None

    def over(self, shim: ShimLink, answer: Pending[Answer], *, force: bool = False) -> Pending[Answer]:
        """Look after it if ``answer`` is late; with ``force`` a silent shim is killed in the end, and the next one answers."""
        if shim.stands != "alive":  # there is no process
            return answer
        late = self._loop.call_later(LATE_SECONDS, lambda: self._doubt(shim))
        answer.then(lambda _: late.cancel())
        if force:
            last = self._loop.call_later(FORCE_SECONDS, lambda: self._give_up(shim))
            answer.then(lambda _: last.cancel())
        return answer

    def _doubt(self, shim: ShimLink) -> None:
        if self._asked is shim:
            return
        self._asked = shim
        silence = self._loop.call_later(LATE_SECONDS, lambda: self._change(shim, silent=True))

        def heard(outcome: Pending[Answer]) -> None:
            silence.cancel()
            self._asked = None
            if outcome.error is None:
                self._change(shim, silent=False)

        shim.call(Hello(self._durable())).then(heard)

    def _change(self, shim: ShimLink, *, silent: bool) -> None:
        if silent == (self._silent is shim):
            return
        self._silent = shim if silent else None
        log.warning("the shim %d %s", shim.pid, "does not answer: is it stopped?" if silent else "answers again")
        self._show(shim, silent)

    def _give_up(self, shim: ShimLink) -> None:
        if self._silent is shim:
            log.warning("the shim %d is killed: its task is to be removed by force, and it does not answer", shim.pid)
            shim.kill()
