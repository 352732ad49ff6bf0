"""What answers in place of a task's shim that can never be asked again: its bundle was removed by hand, or its host was started
again. It tells what the task's journal and the event log know, ends what still runs unseen, and then tells the ends that
nobody has told: truly where somebody knows them, else as ``shim-lost``.

A task that ended with its host, or with the whole of STATE, is deleted with that; one whose bundle alone was removed stays as
stopped until somebody deletes it, as does any that had stopped before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pykka

from actors.dispatch import post
from actors.messages import ShimEvent
from actors.records import Container
from actors.relics import Relics, Slain
from actors.shimlink import ShimLink
from actors.store.tasks import TaskRow
from actors.task.events import STOPPED, known_of, retold
from shimproc import flow
from shimproc.errors import FailedPrecondition, NotFound, ShimyardError, to_map
from shimproc.flow import Pending
from shimproc.messages import (
    Created,
    Delete,
    Deleted,
    DeleteProcess,
    ExecAdded,
    Exited,
    Hello,
    Kill,
    Message,
    Started,
    StartFailed,
    event_of,
    exec_of,
    request_of,
)

log = logging.getLogger(__name__)
LOST: Final = "shim-lost"
LOST_STATUS: Final = 255
BUNDLE_LOST: Final = "bundle-lost"


@dataclass(slots=True)
class Past:
    """What is known of one process."""

    pid: int = 0
    started: bool = False
    ended: Exited | StartFailed | None = None
    deleted: bool = False


@dataclass(slots=True)
class Story:
    """What is known of the task, by the numbers of its shim's events. ``last``: the newest's; ``latest``: of their times."""

    events: dict[int, Message] = field(default_factory=dict)
    processes: dict[str, Past] = field(default_factory=dict)
    last: int = 0
    latest: int = 0

    def add(self, n: int, event: Message) -> None:
        """One more."""
        self.events[n] = event
        self.last = max(self.last, n)
        self.latest = max(self.latest, getattr(event, "at", 0))
        process = exec_of(event)
        match event:
            case Created():
                self.processes[process] = Past(event.pid)
            case ExecAdded():
                self.processes[process] = Past()
            case Started() if process in self.processes:
                self.processes[process].pid, self.processes[process].started = event.pid, True
            case Exited() | StartFailed() if process in self.processes:
                self.processes[process].pid, self.processes[process].ended = event.pid, event
            case Deleted() if process in self.processes:
                self.processes[process].deleted = True


class Remains(ShimLink):
    """See the module; ``row`` and ``container``: the task's, as they are now."""

    stands = "gone"

    def __init__(self, relics: Relics, row: TaskRow, container: Container, owner: pykka.ActorRef[Any]) -> None:
        super().__init__(owner)
        self._relics = relics
        self._row = row
        self._spec = container.spec
        self._story: Story | None = None
        self._settling: Pending[Story] | None = None
        self._told = 0
        self.pid = row.shim_pid
        self._send = self._receive

    def close(self) -> None:
        """There is nothing to let go."""
        super().close()
        self._on_gone()

    def _receive(self, frame: Mapping[str, Any]) -> None:
        """Like a shim, not at once; acks need no answer."""
        if "q" in frame:
            request, number = request_of(frame), frame["q"]
            self._relics.loop.call_soon(
                lambda: flow.start(self._serve(request)).then(lambda outcome: self._answer(number, outcome))
            )

    def _answer(self, number: int, outcome: Pending[Any]) -> None:
        if outcome.error is None:
            self._on_frame({"a": number, "n": self.last, "ok": outcome.result()})
            return
        if not isinstance(outcome.error, ShimyardError):
            log.error("what is left of %s: a request failed", self._row.id, exc_info=outcome.error)
        self._on_frame({"a": number, "n": self.last, "error": to_map(outcome.error)})

    async def _serve(self, request: Message) -> dict[str, Any]:
        match request:
            case Hello():
                return await self._hello(request.acked)
            case Delete():
                self._delete(await self._settled(0))
            case DeleteProcess():
                self._delete_process(await self._settled(0), request.process)
            case Kill():
                raise NotFound("the process has already exited")
            case _:
                raise FailedPrecondition(f"the task has ended: {self._why()}; all that can be done is to delete it")
        return {}

    def _why(self) -> str:
        if self._relics.is_over(self._row):
            return "the host was started again since, or STATE was emptied"
        return f"its bundle {self._row.bundle} was removed by hand"

    async def _hello(self, acked: int) -> dict[str, Any]:
        story = await self._settled(acked)
        init = story.processes.get("")
        state = "new" if init is None else "deleted" if init.deleted else "stopped"
        return {"pid": self.pid, "version": 0, "started_at": 0, "state": state, "adopted": False}

    # -- what is known, and what is told

    def _settled(self, acked: int) -> Pending[Story]:
        """Everything is told, and nothing runs; once for all who ask."""
        if self._settling is None:
            self._settling = flow.start(self._settle(acked))
        return self._settling

    async def _settle(self, acked: int) -> Story:
        """Nothing is told before all is done, so that the ends are one commit: a daemon killed meanwhile does it again."""
        story = await self._recall()
        init = story.processes.get("")
        slain = Slain()
        if init is None or init.ended is None:
            log.warning("the task %s/%s has ended: %s", self._row.namespace, self._row.id, self._why())
            slain = await self._relics.slay(self._row)
        await self._relics.clean(self._row, self._spec)
        self._retell(story, acked)
        if init is not None:
            self._end(story, slain)
            if self._relics.is_over(self._row) and self._row.phase != STOPPED:
                self._delete(story)
        return story

    def _retell(self, story: Story, acked: int) -> None:
        self._told = acked
        for n in sorted(n for n in story.events if n > acked):
            self._tell(n, story.events[n])
        self.last = max(self.last, story.last, acked)

    async def _recall(self) -> Story:
        """The journal is best; what it has not is filled in from the event log and the task's row."""
        known: dict[int, Message] = {}
        last = 0
        for n, envelope in await self._relics.told(self._row):
            last = n
            if (event := retold(envelope)) is not None:
                known[n] = event
        for n, values in await self._relics.journal(self._row):
            known[n] = event_of(values)
        _complete(known, self._row)
        story = Story(last=last)
        for n in sorted(known):
            story.add(n, known[n])
        return story

    def _end(self, story: Story, slain: Slain) -> None:
        """The exits that nobody has told, init's the last."""
        at = max(time.time_ns(), story.latest)
        for process, past in sorted(story.processes.items(), reverse=True):
            if past.ended is not None or past.deleted or not (past.started if process else past.pid):
                continue
            known = None if process else slain.init
            reason = BUNDLE_LOST if slain.killed else None if known is not None else LOST
            status, when = (LOST_STATUS, at) if known is None else (known.status, max(known.at, story.latest))
            self._tell_new(story, Exited(when, past.pid, status, process, reason))

    def _delete(self, story: Story) -> None:
        """Its execs', then its own."""
        for process, past in sorted(story.processes.items(), reverse=True):
            if not past.deleted:
                self._tell_deleted(story, process, past)

    def _delete_process(self, story: Story, process: str) -> None:
        past = story.processes.get(process)
        if past is None or past.deleted:
            raise NotFound(f"the task {self._row.id} has no exec {process}")
        self._tell_deleted(story, process, past)

    def _tell_deleted(self, story: Story, process: str, past: Past) -> None:
        status, exited_at = (0, 0) if past.ended is None else (past.ended.status, past.ended.at)
        self._tell_new(story, Deleted(max(time.time_ns(), story.latest), past.pid, status, exited_at, process))

    def _tell_new(self, story: Story, event: Message) -> None:
        n = self.last + 1
        story.add(n, event)
        self._tell(n, event)

    def _tell(self, n: int, event: Message) -> None:
        post(self._owner, ShimEvent(n, event, self._told))
        self._told, self.last = n, max(self.last, n)


def _complete(known: dict[int, Message], row: TaskRow) -> None:
    """What the row knows and the rest does not stands where something is missing, or after it all."""
    kinds = {type(event) for event in known.values() if not exec_of(event)}
    missing = [event for event in known_of(row) if type(event) not in kinds]
    n = 0
    for event in missing:
        n += 1
        while n in known:
            n += 1
        known[n] = event
