"""A connection for asyncio: one DEALER socket, one task that reads it and one that hears of the line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar

import zmq
import zmq.asyncio

from actors.client.cursors import CREDIT, Cursor, Reading
from actors.client.line import EVENTS, GRACE, Curve, Line, dial
from actors.client.protocol import Exchanged, Session

T = TypeVar("T")


class AsyncConnection:
    """See the module. ``patience``: seconds to wait for a daemon that is away."""

    def __init__(self, address: str, patience: float, curve: Curve | None) -> None:
        self._session = Session()
        self._line = Line(address, patience)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._monitor = self._socket.get_monitor_socket(EVENTS)
        self._moved: dict[int, asyncio.Event] = {}
        try:
            dial(self._socket, address, curve)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._hear())]

    async def close(self) -> None:
        """Let go of the socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    async def ask(self, method: str, namespace: str | None, params: Mapping[str, Any], timeout: float | None) -> Any:  # noqa: ASYNC109 - the daemon is told, too
        """A request and its result, or its error raised."""
        request = self._session.request(method, namespace, params, timeout)
        deadline = None if timeout is None else time.monotonic() + timeout + GRACE
        try:
            await self.send(request)
            await self.until(request, lambda: request.done, deadline)
        finally:
            self.forget(request)
        return request.outcome()

    async def stream(self, namespace: str | None, cursor: Cursor[T]) -> AsyncGenerator[T, None]:
        """What a streaming method sends, over any number of lost connections."""
        goes_on = True
        while goes_on:
            request = self._session.request(cursor.method, namespace, {**cursor.params(), "credit": CREDIT}, None)
            reading = Reading(request, cursor)
            try:
                await self.send(request)
                while not (request.done or request.broken) or request.chunks:
                    await self.until(request, lambda: reading.moved, None)  # noqa: B023 - awaited at once
                    for item in reading.take():
                        yield item
                    if not request.done and (due := reading.credit_due()) is not None:
                        await self.tell("stream.credit", due)
                goes_on = request.broken or cursor.goes_on(request.error)
            finally:
                self.forget(request)
                if (params := reading.open_stream) is not None:
                    await self.tell("stream.cancel", params)

    def request(
        self, method: str, namespace: str | None, params: Mapping[str, Any], timeout: float | None
    ) -> Exchanged:
        """A new one, to be sent."""
        return self._session.request(method, namespace, params, timeout)

    async def send(self, request: Exchanged) -> None:
        """Now, or once the line is up."""
        self._moved[request.id] = asyncio.Event()
        if self._line.up:
            request.sent = True
            await self._socket.send_multipart((b"", request.body))
        else:
            self._line.hope()

    async def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """A request whose answer nobody waits for, if the line is up."""
        if self._line.up:
            await self._socket.send_multipart((b"", self._session.notice(method, params)))

    async def until(self, request: Exchanged, reached: Callable[[], bool], deadline: float | None) -> None:
        """Wait for what this request brings. ``DeadlineExceeded``, or ``Unavailable`` for a daemon that stays away."""
        moved = self._moved[request.id]
        while not reached():
            moved.clear()
            try:
                async with asyncio.timeout(self._line.left(deadline)):
                    await moved.wait()
            except TimeoutError:
                self._line.left(deadline)  # raises what it is; if the line has come up meanwhile, wait on

    def forget(self, request: Exchanged) -> None:
        """Nobody waits for it any more."""
        self._session.forget(request)
        moved = self._moved.pop(request.id, None)
        if moved is not None:
            moved.set()

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            request = self._session.receive(frames[-1])
            if request is not None and request.id in self._moved:
                self._moved[request.id].set()

    async def _hear(self) -> None:
        while True:
            if self._line.observe(await self._monitor.recv_multipart()):
                self._session.cut_streams()
                for request in list(self._session.unanswered()):
                    await self._socket.send_multipart((b"", request.body))
            for moved in self._moved.values():
                moved.set()
