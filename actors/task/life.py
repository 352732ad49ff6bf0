"""The deeds of a task that take several steps: make, stop, delete. Each is read from top to bottom.

Every step may be the last that this process does: the intent (the task's row) is committed by the runtime before
``make`` begins, and the next daemon finishes or undoes what it finds.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pykka

from actors.bundle import Bundle
from actors.records import Container
from actors.shape import dump
from actors.shimlink import Answer, ShimLink
from actors.store.tasks import TaskRow
from actors.task.events import CREATING, forgotten
from actors.task.failures import named, program_of
from actors.task.origin import origin_of
from actors.task.progress import Progress
from actors.task.remains import Remains
from actors.task.tools import Tools
from actors.task.vigil import Vigil
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import AlreadyExists, NotFound, ResourceExhausted, ShimyardError, Unavailable, Unknown, scarce
from shimproc.loop import LoopLike, after
from shimproc.messages import Create, Delete, Hello

log = logging.getLogger(__name__)
SHIM_END_SECONDS = 5.0
RETRY_SECONDS = 1.0
_ALL = 1 << 62
"""More events than there are: none is to be told again."""
_TRIES = 100
"""Shims killed one after the other while they make, or undo, one task: so many are no chance, the host is at fault."""
_FEW = 3


class Life:
    """One incarnation's bundle and shim.

    Parameters
    ----------
    owner : the task actor; its shim's events and death are posted there.
    """

    def __init__(self, tools: Tools, row: TaskRow, container: Container, owner: pykka.ActorRef[Any]) -> None:
        self._tools = tools
        self._row = row
        self._container = container
        self._owner = owner
        self._bundle = Bundle(Path(row.bundle))
        self.shim: ShimLink | None = None
        self.ending = False
        self.removed = False

    async def make(self, progress: Progress) -> None:
        """Bundle, shim, and the shim's create; done when TaskCreate is durable. A failure leaves nothing."""
        try:
            mounted = bool(self._container.rootfs)
            await self._tools.disk.do(lambda: self._prepare(mounted=mounted))
            point("daemon: bundle made")
            self.shim = await self._launch()
            point("daemon: shim forked")
            answer = await self._create(self.shim, progress)
            point("daemon: created by the shim")
            await progress.until(answer.n)
        except BaseException as error:
            progress.mute()
            await self._unmake(progress.loop, ours=not isinstance(error, AlreadyExists))
            raise

    async def remove(self, loop: LoopLike) -> None:
        """What is left once the shim has deleted the task: itself, then the bundle."""
        self.ending = True
        if self.shim is not None:
            await self._end_shim(self.shim, loop)
        point("daemon: shim ended")
        await self._remove_bundle(loop)
        point("daemon: bundle removed")
        self.removed = True

    def reconnect(self) -> ShimLink:
        """A link to the shim that a former daemon made; ``Unavailable`` if it has ended."""
        self.shim = self._tools.launcher.reconnect(self._bundle.path, self._owner)
        return self.shim

    async def adopt(self) -> ShimLink:
        """A link to a shim that has taken over from one that is gone. ``NotFound`` if its bundle is."""
        cgroup = self._row.runtime["options"].get("shim_cgroup")
        self.shim = await self._tools.launcher.adopt(self._bundle.path, self._row.id, cgroup, self._owner)
        return self.shim

    def is_former(self, row: TaskRow) -> bool:
        """Was it made in another run of the host?"""
        return self._tools.relics.is_former(row)

    def remains(self, row: TaskRow) -> ShimLink:
        """What answers for a task that can have no shim any more."""
        self.shim = Remains(self._tools.relics, row, self._container, self._owner)
        return self.shim

    async def undo(self, loop: LoopLike) -> None:
        """What a former daemon had begun and not finished: a create that nobody was told of."""
        self.ending = True
        if self._row.phase == CREATING or self._bundle.path.is_dir():
            try:
                self.reconnect()
            except Unavailable:
                log.debug("no shim lives for %s", self._row.id)
                if self.is_former(self._row):
                    self.remains(self._row)
            await self._undo_in_shim(loop)
        await self._remove_bundle(loop)
        await self._drop_row()

    async def _launch(self) -> ShimLink:
        if self._row.no_shim:
            return self._tools.launcher.launch_here(self._bundle.path, self._owner)
        cgroup = self._row.runtime["options"].get("shim_cgroup")
        return await self._tools.launcher.launch(self._bundle.path, self._row.id, cgroup, self._owner)

    async def _create(self, shim: ShimLink, progress: Progress) -> Answer:
        """By this shim, or, if it is killed meanwhile, by the one that takes over: that has undone it, or has seen it done."""
        for _ in range(_TRIES):
            try:
                return await shim.call(self._create_request())
            except Unavailable as error:
                log.warning("the shim %d of %s was gone before it had made it: %s", shim.pid, self._row.id, error)
                await shim.gone
            except ShimyardError as error:
                raise named(error, *self._program()) from None
            shim = await self.adopt()
            try:
                answer = await shim.call(Hello(progress.durable))
            except Unavailable:
                continue
            if answer.result["state"] != "new":
                return answer
        raise Unavailable("every shim that was made for the task was killed; try again")

    def _program(self) -> tuple[str, str]:
        return program_of(self._container.spec.get("process") or {}), "spec.process"

    def _create_request(self) -> Create:
        row = self._row
        return Create(
            runtime_id=f"{row.id}-{row.incarnation}",
            bundle=row.bundle,
            runtime=row.runtime,
            stdio=row.stdio,
            mounts=tuple(dump(mount) for mount in self._container.rootfs),
            log=self._tools.log_settings(row.namespace, row.id),
            capture=row.extra.get("capture"),
            checkpoint=row.extra.get("checkpoint"),
            origin=origin_of(row, self._container),
        )

    def _prepare(self, *, mounted: bool) -> None:
        self._bundle.make(self._container.spec, mounted=mounted)
        if "log:" in (self._row.stdio["stdout"], self._row.stdio["stderr"]):
            log_path = self._tools.log_path(self._row.namespace, self._row.id)
            try:
                for folder in reversed(log_path.parents[:3]):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise scarce(error, f"cannot make the folder of logs {log_path.parent}") from error

    async def _unmake(self, loop: LoopLike, *, ours: bool) -> None:
        """``ours``: is the bundle, as far as there is one?"""
        self.ending = self.removed = True
        if self.shim is not None:
            await self._undo_in_shim(loop)
        if ours:
            flow.spawn(self._remove_bundle(loop), f"removal of the bundle of {self._row.id}")
            await self._tools.disk.do(_nothing)  # once it was tried: who asked is not kept waiting for more than that
        await self._drop_row()

    async def _remove_bundle(self, loop: LoopLike) -> None:
        """Again and again: a host that is at a bound leaves it for a while."""
        while True:
            try:
                await self._tools.disk.do(self._bundle.remove)
            except (OSError, ShimyardError) as error:
                log.error("the bundle %s is not removed yet: %s", self._bundle.path, error)
                await after(loop, RETRY_SECONDS)
            else:
                return

    async def _undo_in_shim(self, loop: LoopLike) -> None:
        """Whatever there is of it goes; if the shim is killed meanwhile, its successor does that. One that does not answer is
        killed: nobody was told of its task."""
        vigil = Vigil(loop, lambda: _ALL, _unseen)
        try:
            for _ in range(_TRIES):
                if await self._is_undone(vigil, loop):
                    break
        except ShimyardError as error:
            log.warning("undo of %s: %s", self._row.id, error)
        if self.shim is not None:
            await self._end_shim(self.shim, loop)

    async def _adopt_or_bury(self) -> ShimLink:
        try:
            return await self.adopt()
        except NotFound:
            return self.remains(self._row)

    async def _is_undone(self, vigil: Vigil, loop: LoopLike) -> bool:
        """A host that is at a bound leaves it for a while: until then something is left, and whoever asked is not answered. A
        runtime that failed without a reason is asked a few times more."""
        failures = 0
        while True:
            try:
                shim = self.shim or await self._adopt_or_bury()
                try:
                    await vigil.over(shim, shim.call(Delete(force=True)), force=True)
                except Unavailable:
                    shim.close()
                    self.shim = None
                    return False
            except (ResourceExhausted, Unknown) as error:
                failures += isinstance(error, Unknown)
                if failures > _FEW:
                    raise
                log.error("what there is of %s is not undone yet: %s", self._row.id, error)
                await after(loop, RETRY_SECONDS)
            else:
                return True

    async def _drop_row(self) -> None:
        row = self._row
        if row.extra.get("run") or row.rm:  # it goes with its container
            return
        try:
            await self._tools.exchange.publish(changes=forgotten(row))
        except ShimyardError as error:  # a full disk: the row says "creating", and the next daemon undoes it
            log.error("the row of %s stays until the next start: %s", row.id, error)

    async def _end_shim(self, shim: ShimLink, loop: LoopLike) -> None:
        """The shim of a deleted task ends when its link is closed; it is proved gone before its bundle is."""
        timer = loop.call_later(SHIM_END_SECONDS, shim.kill)
        shim.close()
        await shim.gone
        timer.cancel()


def _unseen(_shim: ShimLink, _silent: bool) -> None:
    """The task is shown to nobody."""


def _nothing() -> None:
    """Done after what was to be done on the disk before."""
