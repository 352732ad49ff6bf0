"""``AsyncClient.tasks.attach``: a process's output as it is written, and its stdin, in one object.

    async with client.tasks.attach("web", stdin=True) as attached:
        await attached.write(b"status\\n")
        async for piece in attached: ...
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Self

from actors.client.aio_connection import AsyncConnection
from actors.client.attaching import Attaching, pieces
from actors.client.calls import Tasks, Wanted
from actors.records import LogChunk
from shimproc.errors import ShimyardError


class AsyncAttached:
    """A client at a process's streams, once it is awaited or in an ``async with``. Else as ``Attached``."""

    def __init__(
        self,
        attaching: Attaching,
        namespace: str,
        connect: Callable[[], AsyncConnection],
        ask: Callable[[Wanted[None]], Awaitable[None]],
    ) -> None:
        self._attaching = attaching
        self._namespace = namespace
        self._connect = connect
        self._ask = ask
        self._ready: deque[LogChunk] = deque()
        self._beginning = asyncio.Lock()

    @property
    def losses(self) -> int:
        """How often the connection was lost, and with it what the process wrote until it was attached again."""
        return self._attaching.losses

    def __aiter__(self) -> AsyncIterator[LogChunk]:
        return self

    async def __anext__(self) -> LogChunk:
        """The next piece of output. ``AttachmentLost``: the connection was lost; the process runs on."""
        while not self._ready:
            if self._attaching.is_over():
                raise StopAsyncIteration
            reading = self._attaching.reading
            if reading.request.broken and not reading.request.chunks:
                await self._begin_again()
                continue
            await self._connect().until(reading.request, lambda: reading.moved, None)  # noqa: B023 - done with at once
            self._ready.extend(reading.take())
            if not reading.request.done and (credit := reading.credit_due()) is not None:
                await self._connect().tell("stream.credit", credit)
        return self._ready.popleft()

    async def read(self) -> tuple[bytes, bytes]:
        """All that is left until its end: stdout and stderr."""
        kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        async for piece in self:
            kept[piece.stream].append(piece.data)
        return b"".join(kept["stdout"]), b"".join(kept["stderr"])

    async def write(self, data: bytes | str) -> None:
        """To its stdin, which has taken it then. ``FailedPrecondition``: it has none, has closed it, or has ended."""
        for piece in pieces(data):
            while not await self._write(piece):
                await self._begin_again()

    async def close_stdin(self) -> None:
        """End its stdin, after all that was written."""
        await self._ask(Tasks.close_io(self._attaching.id, exec_id=self._attaching.exec_id))

    async def resize(self, width: int, height: int) -> None:
        """Set its terminal's size, in characters."""
        await self._ask(Tasks.resize(self._attaching.id, width, height, exec_id=self._attaching.exec_id))

    async def close(self) -> None:
        """Let go of it; the process runs on. Harmless when it is done already."""
        reading, connection = self._attaching.reading, self._connect()
        stream = reading.open_stream
        self._attaching.end()
        connection.forget(reading.request)
        if stream is not None:
            await connection.tell("stream.cancel", stream)

    def __await__(self) -> Generator[Any, None, Self]:
        return self._begun().__await__()

    async def __aenter__(self) -> Self:
        return await self._begun()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _begun(self) -> Self:
        if not self._attaching.is_begun:
            await self._begin()
        return self

    async def _write(self, piece: bytes) -> bool:
        """Is it written? False if it could not be sent, since the connection is lost."""
        async with self._beginning:  # while another attaches again there is no stream to write to
            through = self._attaching.reading.request
        if through.broken:
            return False
        connection = self._connect()
        written = connection.request("tasks.attach.write", None, self._attaching.write_params(through, piece), None)
        try:
            await connection.send(written)
            await connection.until(written, lambda: written.done or written.broken, None)
        finally:
            connection.forget(written)
        return self._attaching.is_written(written, through)

    async def _begin(self) -> None:
        """Until it is attached."""
        attaching, connection = self._attaching, self._connect()
        while True:
            if attaching.is_begun:
                connection.forget(attaching.reading.request)
            request = connection.request(attaching.method, self._namespace, attaching.params(), None)
            attaching.begin(request)
            try:
                await connection.send(request)
                await connection.until(request, lambda: attaching.settled, None)
                if attaching.is_attached():
                    return
            except BaseException:
                connection.forget(request)
                request.broken = not request.done  # whoever comes next tries again
                raise

    async def _begin_again(self) -> None:
        """After a lost connection; if it cannot be, since the process has ended meanwhile, that is the end."""
        async with self._beginning:
            if not self._attaching.reading.request.broken:  # another was faster
                return
            self._attaching.check_lost()
            try:
                await self._begin()
            except ShimyardError as error:
                if not self._attaching.ended_meanwhile(error):
                    raise
                self._attaching.end()
