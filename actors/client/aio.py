"""``AsyncClient``: the API for asyncio, with any number of calls at once on one connection, for one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from actors import locations
from actors.client import calls
from actors.client.aio_attach import AsyncAttached
from actors.client.aio_connection import AsyncConnection
from actors.client.attaching import Attaching
from actors.client.calls import Wanted
from actors.client.cursors import Cursor, EventCursor, LogCursor
from actors.client.execs import Chosen, ExecOptions, Execution, process_of
from actors.client.line import PATIENCE, Curve
from actors.client.rooms import Room
from actors.client.runs import CompletedTask, Input, Options, RunOptions, completed, params_of, runtime_of
from actors.records import Envelope, Exit, LogChunk
from shimproc.errors import AlreadyExists, FailedPrecondition, NotFound, ShimyardError

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
_GIVE_UP_SECONDS = 5.0


def _awaitable(make: Callable[P, Wanted[T]]) -> Callable[Concatenate[Room[AsyncClient], P], Awaitable[T]]:
    """The call that ``make`` describes, to be awaited."""

    def method(room: Room[AsyncClient], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return room.client.perform(make(*args, **kwargs))

    functools.update_wrapper(method, make)
    return method


class NamespaceRoom(Room["AsyncClient"]):
    """``client.namespaces``."""

    create = _awaitable(calls.Namespaces.create)
    update = _awaitable(calls.Namespaces.update)
    list = _awaitable(calls.Namespaces.list)
    delete = _awaitable(calls.Namespaces.delete)


class ContainerRoom(Room["AsyncClient"]):
    """``client.containers``."""

    create = _awaitable(calls.Containers.create)
    get = _awaitable(calls.Containers.get)
    list = _awaitable(calls.Containers.list)
    update = _awaitable(calls.Containers.update)
    delete = _awaitable(calls.Containers.delete)


class TaskRoom(Room["AsyncClient"]):
    """``client.tasks``."""

    create = _awaitable(calls.Tasks.create)
    start = _awaitable(calls.Tasks.start)
    run = _awaitable(calls.Tasks.run)
    get = _awaitable(calls.Tasks.get)
    list = _awaitable(calls.Tasks.list)
    wait = _awaitable(calls.Tasks.wait)
    kill = _awaitable(calls.Tasks.kill)
    stop = _awaitable(calls.Tasks.stop)
    delete = _awaitable(calls.Tasks.delete)
    exec = _awaitable(calls.Tasks.exec)
    delete_process = _awaitable(calls.Tasks.delete_process)
    resize = _awaitable(calls.Tasks.resize)
    close_io = _awaitable(calls.Tasks.close_io)
    pids = _awaitable(calls.Tasks.pids)
    pause = _awaitable(calls.Tasks.pause)
    resume = _awaitable(calls.Tasks.resume)
    checkpoint = _awaitable(calls.Tasks.checkpoint)
    update = _awaitable(calls.Tasks.update)
    metrics = _awaitable(calls.Tasks.metrics)
    shim = _awaitable(calls.Tasks.shim)

    def logs(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        exec_id: str | None = None,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> AsyncIterator[LogChunk]:
        """What it has written to its managed log; with ``follow`` until it ends. ``since``: ns since the epoch."""
        return self.client.stream(LogCursor(calls.log_params(id, exec_id, follow, tail, since)))

    def attach(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        exec_id: str | None = None,
        stdin: bool = False,
        reattach: bool = False,
        kill_on_disconnect: bool = False,
    ) -> AsyncAttached:
        """Its streams, once it is awaited or used in an ``async with``; see ``Client``'s."""
        return self.client.attach(Attaching(id, exec_id, stdin=stdin, reattach=reattach, kills=kill_on_disconnect))


class EventRoom(Room["AsyncClient"]):
    """``client.events``; called, it is the stream itself."""

    publish = _awaitable(calls.Events.publish)
    replay = _awaitable(calls.Events.replay)

    async def __call__(
        self, since: int | None = None, filters: Sequence[str] | None = None
    ) -> AsyncIterator[Envelope]:
        """Every event after ``since`` (default: from its first step on), once and in order; see ``Client.events``."""
        if since is None:
            since = int((await self.client.health())["events"]["last_seq"])
        async with contextlib.aclosing(self.client.stream(EventCursor(since, filters))) as events:
            async for event in events:
                yield event

    stream = __call__


class AsyncClient:
    """A client of one daemon. Use it in an ``async with``, or ``close`` it. Parameters and errors are those of ``Client``."""

    def __init__(
        self,
        address: str | None = None,
        *,
        namespace: str = "default",
        timeout: float | None = None,
        patience: float = PATIENCE,
        curve: Curve | None = None,
    ) -> None:
        self._address = address or locations.api_address(locations.state_dir().absolute())
        self._namespace = namespace
        self._timeout = timeout
        self._patience = patience
        self._curve = curve
        self._connection: AsyncConnection | None = None
        self._default_runtime: str | None = None
        self.namespaces = NamespaceRoom(self)
        self.containers = ContainerRoom(self)
        self.tasks = TaskRoom(self)
        self.events = EventRoom(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection; calls that wait are cancelled."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def version(self) -> Awaitable[Mapping[str, Any]]:
        """What the daemon is, and which runtimes it can use."""
        return self.perform(calls.version())

    def health(self) -> Awaitable[Mapping[str, Any]]:
        """How the daemon is."""
        return self.perform(calls.health())

    async def run(self, args: Sequence[str], **options: Unpack[RunOptions]) -> CompletedTask:
        """Run a command in a container of its own and wait for its end; see ``Client.run``. A cancelled one is removed."""
        chosen = Options(**options)
        if chosen.runtime is None and self._default_runtime is None:
            self._default_runtime = str((await self.version())["default_runtime"])
        runtime = runtime_of(chosen, self._default_runtime or "")
        with Input(chosen.input) as stdin:
            params = params_of(args, chosen, runtime, stdin)
            try:
                answer = await self.tasks.run(**params)
            except asyncio.CancelledError:
                with contextlib.suppress(ShimyardError, TimeoutError):
                    removed = self.tasks.delete(params["id"], force=True)
                    await asyncio.shield(asyncio.wait_for(removed, _GIVE_UP_SECONDS))
                raise
        return completed(args, chosen, answer)

    async def exec(
        self,
        id: str,  # noqa: A002 - the wire's name
        args: Sequence[str],
        **options: Unpack[ExecOptions],
    ) -> CompletedTask:
        """Run a command inside a running task and wait for its end; see ``Client.exec``. A cancelled one is removed."""
        chosen = Chosen(**options)
        with Input(chosen.input) as stdin:
            process = process_of((await self.containers.get(id)).spec, args, chosen, await self.tasks.get(id))
            run = Execution(id, process, chosen, stdin)
            try:
                ended = await self._execute(run, chosen.timeout)
                await self.perform(run.remove())
            except AlreadyExists:  # another's
                raise
            except BaseException:
                with contextlib.suppress(ShimyardError, TimeoutError):
                    await asyncio.shield(asyncio.wait_for(self._discard(run), _GIVE_UP_SECONDS))
                raise
        return run.completed(ended)

    async def _execute(self, run: Execution, timeout: float | None) -> Exit:  # noqa: ASYNC109 - what was written is kept
        await self.perform(run.add())
        await self.perform(run.start())
        try:
            async with asyncio.timeout(timeout):
                await self._read(run)
        except TimeoutError:
            run.is_late = True
            with contextlib.suppress(NotFound):
                await self.perform(run.kill())
            await self._read(run)
        return await self.perform(run.wait())

    async def _read(self, run: Execution) -> None:
        async with contextlib.aclosing(self.stream(run.cursor)) as pieces:
            async for piece in pieces:
                run.take(piece)

    async def _discard(self, run: Execution) -> None:
        try:
            await self.perform(run.remove())
        except FailedPrecondition:  # it runs
            with contextlib.suppress(NotFound):
                await self.perform(run.kill())
            await self.perform(run.wait())
            await self.perform(run.remove())

    def attach(self, attaching: Attaching) -> AsyncAttached:
        """See ``client.tasks.attach``."""
        return AsyncAttached(attaching, self._namespace, self._connected, self.perform)

    async def perform(self, wanted: Wanted[T]) -> T:
        """Ask, and read the answer."""
        return wanted.read(await self._connected().ask(wanted.method, self._namespace, wanted.params, self._timeout))

    def stream(self, cursor: Cursor[S]) -> AsyncGenerator[S, None]:
        """What a streaming method sends, from the cursor's place on."""
        return self._connected().stream(self._namespace, cursor)

    def _connected(self) -> AsyncConnection:
        if self._connection is None:
            self._connection = AsyncConnection(self._address, self._patience, self._curve)
        return self._connection
