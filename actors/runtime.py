"""All tasks: the seed's ``linux/runtime.go`` as an actor. Create, get, list and delete; the rest goes to the task itself.

A create is: check, reserve the id, commit the intent, then a task actor makes it. An id that exists is refused before
anything of the existing task is touched.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import pykka

from actors import logfiles
from actors.bundle import Bundle
from actors.catalog import Catalog
from actors.dispatch import LoopActor, post
from actors.exchange import ExchangeClient
from actors.filters import compile_filters
from actors.messages import Begin, Begun, Call, Change, Changed, DropContainer, OwnCall, Removed, Restore, Undo
from actors.metadata import Metadata
from actors.methods import METHODS
from actors.records import Container, Stdio
from actors.registry import Entry, Registry
from actors.runtimes import Runtimes
from actors.shape import dump
from actors.spec import check_path, check_stdio, check_terminal
from actors.store.tasks import PutTask, TaskRow
from actors.supervision.book import Book
from actors.task.actor import TaskActor
from actors.task.events import CREATING
from actors.task.tools import Tools
from actors.task.view import last_known
from shimproc import flow
from shimproc.crash import point
from shimproc.errors import InvalidArgument, NotFound, ShimyardError, Unimplemented
from shimproc.flow import Pending
from shimproc.loop import LoopLike, after
from shimproc.runtimes.plain import NO_CHECKPOINT

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
AT_ONCE = 16
"""Tasks of former daemons that are taken up in one turn, before clients are heard again."""
Deed = Callable[[Call], Coroutine[Any, Any, Any]]
_SERVED_BY_TASKS = frozenset(
    {
        "tasks.start",
        "tasks.wait",
        "tasks.kill",
        "tasks.stop",
        "tasks.delete",
        "tasks.exec",
        "tasks.delete_process",
        "tasks.close_io",
        "tasks.resize",
        "tasks.attach",
        "tasks.pids",
        "tasks.metrics",
        "tasks.pause",
        "tasks.resume",
        "tasks.checkpoint",
        "tasks.update",
        "tasks.shim",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What the runtime is made of. ``runtimes`` comes later than the rest: probing takes its time."""

    catalog: Catalog
    registry: Registry
    exchange: ExchangeClient
    book: Book
    runtimes: Pending[Runtimes]
    no_shim: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Salvaged:
    """A task that the database does not know; ``container``: its own, if the database does not know that, either."""

    row: TaskRow
    container: Container | None


@dataclasses.dataclass(frozen=True, slots=True)
class Former:
    """A task of a former daemon, with the requests about it that were begun and not answered; ``known``: see ``Restore``."""

    row: TaskRow
    unanswered: tuple[Begun, ...]
    undo: bool
    salvaged: Salvaged | None = None
    known: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class TakeBack:
    """From the daemon's start: the tasks of former daemons."""

    tasks: tuple[Former, ...]


class RuntimeActor(LoopActor):
    """The front end's ``Call``s for namespaces, containers and tasks end up here."""

    def __init__(self, loop: LoopLike, parts: Parts, tools: Callable[[pykka.ActorRef[Any]], Tools]) -> None:
        super().__init__(loop)
        self._parts = parts
        self._registry = parts.registry
        self._former: deque[Entry] = deque()
        self._tools = tools(self.actor_ref)
        metadata = self._metadata = Metadata(parts.catalog, parts.exchange, parts.registry)
        self._deeds: Mapping[str, Deed] = {
            "namespaces.create": metadata.create_namespace,
            "namespaces.update": metadata.update_namespace,
            "namespaces.list": metadata.list_namespaces,
            "namespaces.delete": metadata.delete_namespace,
            "containers.create": metadata.create_container,
            "containers.get": metadata.get_container,
            "containers.list": metadata.list_containers,
            "containers.update": metadata.update_container,
            "containers.delete": self._delete_container,
            "tasks.get": self._get_task,
            "tasks.list": self._list_tasks,
        }

    def on_call(self, call: Call) -> None:
        """A client's checked request; its answer comes when it is done."""
        before = self._parts.book.before(call)
        if before is None:
            self._serve(call)
        else:
            before.then(lambda outcome: self._serve_after(call, outcome))

    def on_own_call(self, message: OwnCall) -> None:
        """One of the daemon's own."""
        self._serve_after(message.call, flow.done(None))

    def _serve_after(self, call: Call, before: Pending[None]) -> None:
        try:
            before.result()
            self._serve(call)
        except ShimyardError as error:
            call.reply.fail(error)

    def _serve(self, call: Call) -> None:
        if call.method in ("tasks.create", "tasks.run"):
            make = self._create if call.method == "tasks.create" else self._run
            flow.start(make(call)).then(lambda outcome: _fail(call, outcome))
        elif call.method in self._deeds:
            flow.start(self._deeds[call.method](call)).then(lambda outcome: _answer(call, outcome))
        elif call.method in _SERVED_BY_TASKS:
            post(self._registry.ref(call.namespace, call.params.id), call)
        else:
            known = "is not served by this version" if call.method in METHODS else "is unknown"
            raise Unimplemented(f"{call.method} {known}")

    def on_changed(self, message: Changed) -> None:
        """A task shows itself anew."""
        entry = self._registry.find(message.task.namespace, message.task.id)
        if entry is not None:
            entry.task = message.task

    def on_removed(self, message: Removed) -> None:
        """Nothing is left of a task; its id is free."""
        self._registry.remove(message.namespace, message.id)
        if message.heard is not None:
            message.heard.set(None)

    def on_drop_container(self, message: DropContainer) -> None:
        """The container of a ``tasks.run`` goes with its task."""
        flow.start(self._drop_for_task(message)).then(lambda dropped: _hand_on(dropped, message.receipt))

    def on_take_back(self, message: TakeBack) -> None:
        """The rows that a former daemon left, each handed to a task actor: to be restored, or to be undone. All are shown at
        once, and taken up some at a time, those that are asked for first: nobody waits for all of them."""
        for former in message.tasks:
            row = former.row
            entry = self._registry.reserve(row.namespace, row.id)
            if former.undo:
                self._take_up(entry, former, self._registry.undo(row.namespace, row.id))
            else:
                entry.task = last_known(row)
                entry.begin = partial(self._take_up, entry, former)
                self._former.append(entry)
        self._take_up_some()

    def _take_up_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._former))):
            self._former.popleft().begun()
        if self._former:
            self.loop.call_soon(self._take_up_some)

    def _take_up(self, entry: Entry, former: Former, undone: Pending[None] | None = None) -> None:
        row = former.row
        container = self._parts.catalog.find(row.namespace, row.id) or Container(row.id, row.namespace, {})
        entry.ref = TaskActor.start(self.loop, self._tools, row, container)
        if undone is not None:
            post(entry.ref, Undo(undone, former.unanswered))
        elif former.salvaged is None:
            post(entry.ref, Restore(former.unanswered, former.known))
        else:
            flow.spawn(self._salvage(entry.ref, former.salvaged), f"the salvage of {row.id}")

    async def _salvage(self, ref: pykka.ActorRef[Any], found: Salvaged) -> None:
        """On disk first, as if it had been made now; a full disk is waited for."""
        row = found.row
        while True:
            try:
                if found.container is None:
                    await self._parts.exchange.publish(changes=(PutTask(row),))
                else:
                    await self._metadata.commit(found.container, PutTask(row))
            except ShimyardError as error:
                log.error("%s/%s waits to be recorded: %s", row.namespace, row.id, error)
                await after(self.loop, RETRY_SECONDS)
            else:
                post(ref, Restore())
                return

    # -- tasks

    async def _create(self, call: Call) -> None:
        params = call.params
        await self._registry.vacant(call.namespace, params.id)
        container = self._parts.catalog.container(call.namespace, params.id)
        if params.stdio is not None:
            check_stdio(params.stdio)
            check_terminal(container.spec.get("process") or {}, params.stdio, "spec.process")
        self._registry.reserve(call.namespace, params.id)
        try:
            restarts = self._parts.book.find((call.namespace, params.id)).restarts
            extra = {"by": call.reply.key, **({"restarts": restarts} if restarts else {}), **self._restored_from(call, container)}
            row = await self._row(container, params.stdio, extra)
            if params.checkpoint is not None and row.runtime["name"] == "process":
                raise Unimplemented(f"checkpoint: {NO_CHECKPOINT}")
            await self._parts.exchange.publish(changes=(PutTask(row),))
        except BaseException:
            self._registry.remove(call.namespace, params.id)
            raise
        self._begin(call, row, container)

    def _restored_from(self, call: Call, container: Container) -> Mapping[str, Any]:
        """What the start restores, if that is asked for."""
        params = call.params
        check_path(params.checkpoint, "checkpoint")
        check_path(params.parent_checkpoint, "parent_checkpoint")
        if params.checkpoint is None:
            if params.parent_checkpoint is not None:
                raise InvalidArgument("parent_checkpoint: it is the parent of a checkpoint; give checkpoint, too")
            return {}
        work_path = self._tools.criu_path(call.namespace, container.id)
        return {"checkpoint": {"path": params.checkpoint, "parent": params.parent_checkpoint, "work_path": work_path}}

    async def _run(self, call: Call) -> None:
        container = self._metadata.propose(call.namespace, call.params)
        await self._registry.vacant(call.namespace, container.id)
        self._parts.catalog.reserve_new(call.namespace, container.id)
        try:
            self._registry.reserve(call.namespace, container.id)
            try:
                extra = {"by": call.reply.key, "run": True, "wait": call.params.wait, "capture": call.params.capture}
                row = await self._row(container, None, extra, rm=call.params.rm)
                await self._metadata.commit(container, PutTask(row))
            except BaseException:
                self._registry.remove(call.namespace, container.id)
                raise
        finally:
            self._parts.catalog.release(call.namespace, container.id)
        self._begin(call, row, container)

    async def _row(
        self, container: Container, stdio: Stdio | None, extra: Mapping[str, Any], *, rm: bool = False
    ) -> TaskRow:
        """The intent: all that a later daemon needs to finish or undo what this one begins."""
        runtimes = await self._parts.runtimes
        options = container.runtime.options
        return TaskRow(
            namespace=container.namespace,
            id=container.id,
            incarnation=secrets.token_hex(8),
            bundle=str(Bundle.of(self._tools.state, container.namespace, container.id).path),
            phase=CREATING,
            runtime=runtimes.resolve(container.runtime),
            stdio=dump(stdio or container.stdio),
            created_at=time.time_ns(),
            rm=rm,
            no_shim=self._parts.no_shim if options.no_shim is None else options.no_shim,
            extra=extra,
            boot=self._tools.relics.boot.id,
        )

    def _begin(self, call: Call, row: TaskRow, container: Container) -> None:
        point("daemon: intent committed")
        entry = self._registry.find(row.namespace, row.id)
        assert entry is not None
        entry.ref = TaskActor.start(self.loop, self._tools, row, container)
        post(entry.ref, Begin(call))

    async def _get_task(self, call: Call) -> Any:
        return self._registry.get(call.namespace, call.params.id)

    async def _list_tasks(self, call: Call) -> Mapping[str, Any]:
        filters = call.params.filters or ()
        matches = compile_filters(filters)
        found = []
        for task in (*self._registry.all(call.namespace), *self._parts.book.between(call.namespace)):
            shown = dump(task)
            if not filters or matches(shown | self._labels(task.namespace, task.id)):
                found.append(shown)
        return {"tasks": found}

    def _labels(self, namespace: str, container_id: str) -> Mapping[str, Any]:
        """Tasks are filtered by their container's labels, too."""
        try:
            return {"labels": self._parts.catalog.container(namespace, container_id).labels}
        except NotFound:
            return {}

    async def _delete_container(self, call: Call) -> Mapping[str, Any]:
        await self._drop(call.namespace, call.params.id, *call.reply.kept({}))
        return {}

    async def _drop_for_task(self, message: DropContainer) -> None:
        """Another client may have removed it before, and made a new one; a row beside that one is not this task's."""
        await self._parts.catalog.free(message.namespace, message.id)
        found = self._parts.catalog.find(message.namespace, message.id)
        if found is not None and found.created_at == message.created_at:
            await self._drop(message.namespace, message.id, *message.changes)
        elif not self._registry.has(message.namespace, message.id):
            await self._parts.exchange.publish(changes=message.changes)

    async def _drop(self, namespace: str, container_id: str, *changes: Change) -> None:
        """The container, then its logs: files without a record are only waste, a record without its logs would lie."""
        await self._metadata.drop(namespace, container_id, *changes)
        point("daemon: container dropped")
        logs = self._tools.log_path(namespace, container_id).parent
        await self._tools.disk.do(lambda: logfiles.remove(logs))


def _answer(call: Call, outcome: Pending[Any]) -> None:
    if outcome.error is None:
        call.reply.ok(outcome.result())
    else:
        _fail(call, outcome)


def _fail(call: Call, outcome: Pending[Any]) -> None:
    if outcome.error is not None:
        if not isinstance(outcome.error, ShimyardError):
            log.error("%s failed", call.method, exc_info=outcome.error)
        call.reply.fail(outcome.error)


def _hand_on(outcome: Pending[Any], receipt: Pending[None]) -> None:
    if outcome.error is None:
        receipt.set(None)
    else:
        receipt.fail(outcome.error)
