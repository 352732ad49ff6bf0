"""Clients at a task's streams: from the shim to each client at the client's pace, and from the clients to stdin.

The shim sends only what it has credit for, and that follows the room of the client's stream, so nothing piles up here; what
a slow client has not taken waits in the shim, bounded there (``shimproc.io.attach``). A shim that is killed is followed by
another: the clients are attached to that one, and notice nothing but the block that died with the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from signal import SIGKILL
from typing import Any, Final

from actors.messages import Call, Reply, Stream
from actors.task.grip import Grip
from shimproc.errors import FailedPrecondition, ShimyardError, from_map
from shimproc.flow import spawn, start
from shimproc.messages import Attach, Detach, Kill, Write

WINDOW: Final = 64
"""Chunks that may be on their way from the shim to one client."""


@dataclass(slots=True)
class Client:
    """One of them."""

    number: int
    process: str
    stream: Stream
    granted: int = 0
    takes_with_it: bool = False


class Attachments:
    """All clients at one task's processes."""

    def __init__(self, grip: Grip) -> None:
        self._grip = grip
        self._clients: dict[int, Client] = {}
        self._last = 0

    async def open(self, call: Call, process: str) -> None:
        """Begin a stream. ``process``: "" for init, else an exec's id. Fails with the shim's refusal."""
        self._last += 1
        number = self._last
        await self._grip.ask(Attach(number, process))
        takes_input = call.params.stdin

        def on_write(data: bytes, reply: Reply) -> None:
            if not takes_input:
                raise FailedPrecondition("stream: it takes no input; attach with stdin: true")
            start(self._write(process, data)).then(lambda outcome: _answer(reply, outcome.error))

        stream = call.reply.stream(
            call.params.credit, lambda: self._grant(number), lambda: self._close(number), on_write
        )
        self._clients[number] = Client(number, process, stream, takes_with_it=call.params.kill_on_disconnect)
        self._grant(number)

    def take(self, frame: Mapping[str, Any]) -> None:
        """From the shim: a piece of output, or the end."""
        client = self._clients.get(frame["attached"])
        if client is None:
            return
        if "end" in frame:
            del self._clients[client.number]
            client.stream.end(None if frame["end"] is None else from_map(frame["end"]))
            return
        client.granted -= 1
        client.stream.send({"stream": frame["stream"], "timestamp": frame["at"], "data": frame["data"]})
        self._grant(client.number)

    def renew(self) -> None:
        """Another shim has taken over: it does not know them yet."""
        for client in self._clients.values():
            spawn(self._renew(client), "attaching to a new shim")

    def end(self) -> None:
        """The task is gone."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.stream.end()

    async def _renew(self, client: Client) -> None:
        try:
            await self._grip.ask(Attach(client.number, client.process))
        except ShimyardError as error:
            if self._clients.pop(client.number, None) is not None:
                client.stream.end(error)
            return
        client.granted = 0
        self._grant(client.number)

    async def _write(self, process: str, data: bytes) -> None:
        await self._grip.ask(Write(data, process))

    def _grant(self, number: int) -> None:
        """More credit, once half of it is used: not a frame for each chunk."""
        client = self._clients.get(number)
        if client is None:
            return
        wanted = min(client.stream.room(), WINDOW) - client.granted
        if wanted > 0 and client.granted <= WINDOW // 2:
            client.granted += wanted
            self._grip.tell({"grant": number, "n": wanted})

    def _close(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is not None:
            spawn(self._detach(client), "detaching")

    async def _detach(self, client: Client) -> None:
        """One that is gone, and had asked for that, takes its process with it."""
        if client.takes_with_it and not client.stream.cancelled:
            with suppress(ShimyardError):  # it has ended
                await self._grip.ask(Kill(SIGKILL, process=client.process))
        await self._grip.ask(Detach(client.number, client.process))


def _answer(reply: Reply, error: BaseException | None) -> None:
    if error is None:
        reply.ok({})
    else:
        reply.fail(error)
