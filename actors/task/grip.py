"""A task's hold on its shim: requests that outlive the shim's death, and the adoption of the task by another shim.

A killed shim costs nothing but time: the forkserver has made, or makes, another one, which knows from journal and bundle what
the dead one knew. Requests wait for it; one that was on its way is sent again, unless events say that it was done.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pykka

from actors.dispatch import post
from actors.exchange import ExchangeClient
from actors.messages import Adopt, Change, NewEvent
from actors.shimlink import Answer, ShimLink
from actors.store.tasks import PutTask, TaskRow
from actors.task.events import DELETED, shim_adopted, shim_lost
from actors.task.life import Life
from actors.task.progress import Progress
from actors.task.vigil import Vigil
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import NotFound, ShimyardError, Unavailable
from shimproc.flow import Pending
from shimproc.loop import after
from shimproc.messages import Hello, Message

log = logging.getLogger(__name__)
RETRY_SECONDS = 5.0
_TRIES = 100
"""Shims killed one after the other before one was heard."""
Told = tuple[NewEvent, tuple[Change, ...]] | None


class Grip:
    """Of one task.

    Parameters
    ----------
    owner : gets ``Adopt`` when it is time to try again.
    show : called with the shim's state, ``alive``, ``unknown`` or ``lost``, and its pid; the row as it is then.
    """

    def __init__(
        self,
        life: Life,
        progress: Progress,
        exchange: ExchangeClient,
        owner: pykka.ActorRef[Any],
        show: Callable[[str, int], TaskRow],
    ) -> None:
        self._life = life
        self._progress = progress
        self._exchange = exchange
        self._owner = owner
        self._show = show
        self._state = "alive"
        self._pid = 0
        self._lost_pid = 0
        self.heard = self.checkpoint = ""
        self.settled: Pending[None] = Pending()
        self.settled.set(None)
        self._told: Pending[None] = flow.done(None)
        self._vigil = Vigil(progress.loop, lambda: progress.durable, self._on_silence)

    @property
    def is_lost(self) -> bool:
        """Is there no shim now, and none that could be asked?"""
        return self._state == "lost"

    @property
    def is_gone(self) -> bool:
        """Can there be none any more?"""
        return self._state == "gone"

    @property
    def is_deleting(self) -> bool:
        """Is the shim at a delete that a former daemon had asked for?"""
        return self.heard == "deleting"

    @property
    def is_starting(self) -> bool:
        """Is the shim at a start that a former daemon had asked for?"""
        return self.heard == "starting"

    def hold(self, shim_pid: int) -> None:
        """The task is made, by this shim."""
        self._pid = shim_pid

    async def ask(self, request: Message, *, over: Callable[[], bool] = lambda: False, force: bool = False) -> Answer:
        """The shim's answer; if it is killed meanwhile, that of the one that takes over, unless it is ``over`` by then. One
        that does not answer is waited for; with ``force`` it is killed in the end."""
        while True:
            shim = self._life.shim
            if shim is None or (self._state == "lost" and shim.gone.done):
                raise Unavailable("the task has no shim now; another is being made, try again")
            try:
                return await self._vigil.over(shim, shim.call(request), force=force)
            except Unavailable:
                await shim.gone
                if self._life.ending:
                    raise
                await self.replaced()
                if over():
                    return Answer(self._progress.durable, {})

    def tell(self, frame: Mapping[str, Any]) -> None:
        """Say something that needs no answer; to nobody, if there is no shim now."""
        if self._life.shim is not None:
            self._life.shim.tell(frame)

    def recover(self, former_pid: int) -> Pending[None]:
        """After a restart of the daemon: the shim of before, or one that takes over from it."""
        self.settled = flow.start(self._recover(former_pid))
        return self.settled

    def replaced(self) -> Pending[None]:
        """Done when another shim has taken over from one that is gone, or could not; one adoption for one death."""
        if self.settled.done:
            self._replace()
        else:
            self.settled.then(lambda _: self._replace())
        return self.settled

    def _replace(self) -> None:
        """Unless it has been, by now."""
        shim = self._life.shim
        if self.settled.done and self._state != "lost" and shim is not None and shim.gone.done:
            self.settled = flow.start(self._adopt(self._pid, dead=shim.dead))

    def retry(self) -> None:
        """Try again, if there is still none."""
        if self._state == "lost" and self.settled.done:
            self.settled = flow.start(self._adopt(self._pid, dead=False))

    async def loosen(self) -> None:
        """The task ends: an adoption that is under way is waited for, so that no shim comes after this."""
        self._life.ending = True
        while not self.settled.done:
            with contextlib.suppress(ShimyardError):
                await self.settled

    async def _recover(self, former_pid: int) -> None:
        self._pid = former_pid
        try:
            shim = self._life.reconnect()
        except Unavailable as error:  # by this way; the forkserver may know another
            log.debug("%s", error)
            if error.details.get("silent") or not self._life.is_former(row := self._show("unknown", former_pid)):
                await self._adopt(former_pid, dead=False)
                return
            shim = self._life.remains(row)
        try:
            await self._hear(shim)
        except Unavailable:
            await self._adopt(former_pid, dead=shim.dead)
        else:
            point("daemon: shim heard again")
            self._tell_succession(former_pid)

    async def _take_up(self) -> None:
        """One that takes over may be killed, too."""
        for _ in range(_TRIES):
            shim = await self._next()
            point("daemon: adoption asked")
            try:
                await self._hear(shim)
                point("daemon: successor heard")
                if self.heard == "new":  # it has found nothing to go on with: somebody has emptied the bundle
                    shim.close()
                    await self._hear(await self._bury())
                return
            except Unavailable as error:
                log.debug("a shim was gone before it was heard: %s", error)
        raise Unavailable("every shim that was made is gone again")

    async def _next(self) -> ShimLink:
        try:
            return await self._life.adopt()
        except NotFound as error:
            log.error("%s", error)
            return await self._bury()

    async def _bury(self) -> ShimLink:
        """No shim can follow."""
        await self._progress.settled()
        return self._life.remains(self._show(self._shown(), self._pid))

    async def _hear(self, shim: ShimLink) -> None:
        """What a shim has to tell that is not known yet."""
        answer = await self._vigil.over(shim, shim.call(Hello(self._progress.durable)))
        await self._progress.until(answer.n)
        self.heard, self.checkpoint = str(answer.result["state"]), str(answer.result.get("checkpoint", ""))
        self._set(shim.stands, shim.pid)

    async def _adopt(self, former_pid: int, *, dead: bool) -> None:
        """If there can be none now, it is tried again. ``dead``: is the former one proved to be?"""
        row = self._set("unknown", former_pid)
        if dead:
            log.warning("the shim %d of %s/%s is gone", former_pid, row.namespace, row.id)
            self._lose(former_pid)
        try:
            await self._take_up()
        except ShimyardError as error:
            log.error("no shim for %s/%s: %s", row.namespace, row.id, error)
            self._set("lost", former_pid)
            self._progress.loop.call_later(RETRY_SECONDS, lambda: post(self._owner, Adopt()))
        else:
            self._tell_succession(former_pid)

    def _tell_succession(self, former_pid: int) -> None:
        """Another has taken over, unless the former one was found again, or there is nothing left to take over."""
        row = self._show(self._shown(), self._pid)
        if former_pid not in (0, self._pid) and row.phase != DELETED:
            self._lose(former_pid)
            self._tell(lambda: self._adopted(former_pid))

    def _lose(self, pid: int) -> None:
        """Tell the loss of a shim, once."""
        if self._lost_pid != pid:
            self._lost_pid = pid
            row = self._show(self._shown(), self._pid)
            self._tell(lambda: (shim_lost(row, pid), ()))

    def _on_silence(self, shim: ShimLink, silent: bool) -> None:
        """A living shim that answers no more, or again."""
        if shim is self._life.shim and not shim.gone.done and self._state in ("alive", "unknown"):
            self._set("unknown" if silent else "alive", shim.pid)

    def _adopted(self, dead_pid: int) -> Told:
        """As the row is by then. If it had deleted the task before it died, the row is gone, and shall not come back."""
        row = self._show(self._shown(), self._pid)
        return None if row.phase == DELETED else (shim_adopted(row, dead_pid), (PutTask(row),))

    def _tell(self, told: Callable[[], Told]) -> None:
        """In order, and again until there is room; a full disk must not keep a task from its next shim."""
        self._told = flow.start(self._publish(told, self._told))

    async def _publish(self, told: Callable[[], Told], before: Pending[None]) -> None:
        await before
        while (what := told()) is not None:
            try:
                await self._exchange.publish(what[0], changes=what[1])
            except ShimyardError as error:
                log.error("the loss of a shim waits to be told: %s", error)
                await after(self._progress.loop, RETRY_SECONDS)
                continue
            if what[1]:
                point("daemon: adoption durable")
            else:
                point("daemon: loss durable")
            return

    def _set(self, state: str, pid: int) -> TaskRow:
        self._state, self._pid = state, pid
        return self._show(self._shown(), pid)

    def _shown(self) -> str:
        """``lost`` is only what is proved to be."""
        if self._state == "gone":
            return "lost"
        return "unknown" if self._state == "lost" and self._lost_pid != self._pid else self._state
