"""Clients of the simulated daemon: they ask, repeat with the same key, lose their connection with each daemon that dies."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import cbor2

from shimproc.flow import Pending
from tests.simulation.kernel import Process
from tests.simulation.loop import SimLoop
from tests.simulation.stage import STAGE
from tests.simulation.wire import Frame, SimZmq

LOST: dict[str, Any] = {"ok": False, "error": {"code": "lost", "message": "the daemon died before it answered"}}


_LONG = ("bundle", "spec", "runtime", "stdio", "execs", "tasks", "containers")


@dataclass
class Ask:
    """A request in flight. ``sent_to``: the socket it went to; None while there is no daemon."""

    body: dict[str, Any]
    answer: Pending[dict[str, Any]] = field(default_factory=Pending)
    sent_to: SimZmq | None = None
    asked_at: int = 0

    @property
    def keyed(self) -> bool:
        """May it be repeated?"""
        return "key" in self.body


class Client:
    """One connection."""

    def __init__(self, process: Process, number: int) -> None:
        world = STAGE.world
        self.kernel = world.kernel
        self.random = world.random
        self.identity = b"client%d" % number
        self.fd = number
        with self.kernel.running(process):
            self.loop = SimLoop()
        self.asked: dict[int, Ask] = {}
        self._number = 0
        world.clients[self.identity] = self

    async def ask(  # its timeout is the daemon's to keep
        self, method: str, params: dict[str, Any], namespace: str = "n1", *, key: str | None = None, timeout: float = 0  # noqa: ASYNC109
    ) -> dict[str, Any]:
        """The reply; ``LOST`` if there will be none. One with a key is asked again until there is one, and sometimes twice."""
        body: dict[str, Any] = {"v": 1, "method": method, "namespace": namespace, "params": params}
        if timeout:
            body["timeout"] = timeout
        if key is not None:
            body["key"] = key
        first = self._send(body)
        if key is not None and not timeout and self.random.random() < 0.2:
            again = self._later(body)
            reply = await first.answer
            repeated = await again
            if told(reply) != told(repeated):
                STAGE.world.complain(f"{method} with key {key} was answered {told(reply)}, and then {told(repeated)}")
            return reply
        return await first.answer

    def pause(self, seconds: float) -> Pending[None]:
        """Done after at most that."""
        over: Pending[None] = Pending()
        self.loop.call_later(self.random.random() * seconds, lambda: over.set(None))
        return over

    def _later(self, body: dict[str, Any]) -> Pending[dict[str, Any]]:
        answer: Pending[dict[str, Any]] = Pending()

        def send() -> None:
            self._send(body).answer.then(lambda got: answer.set(got.result()))

        self.loop.call_later(self.random.random() * 0.3, send)
        return answer

    def _send(self, body: dict[str, Any]) -> Ask:
        self._number += 1
        ask = self.asked[self._number] = Ask({**body, "id": self._number}, asked_at=self.kernel.now)
        self.loop.call_soon(self._flush)
        return ask

    def _flush(self) -> None:
        api = STAGE.world.api
        if api is None:
            return
        for ask in self.asked.values():
            if ask.sent_to is None:
                ask.sent_to = api
                api.put([Frame(self.identity, self.fd), Frame(b"", self.fd), Frame(cbor2.dumps(ask.body), self.fd)])

    # -- of the world

    def on_served(self) -> None:
        """There is a daemon."""
        self.loop.call_soon(self._flush)

    def on_lost(self) -> None:
        """Its daemon is gone; what was answered before comes before this."""
        self.loop.call_soon(self._lose)

    def _lose(self) -> None:
        for number, ask in list(self.asked.items()):
            if ask.sent_to is None or ask.sent_to is STAGE.world.api:
                continue
            if ask.keyed:
                ask.sent_to = None
            else:
                del self.asked[number]
                ask.answer.set(LOST)
        self._flush()

    def deliver(self, _api: SimZmq, body: bytes) -> None:
        """A reply on its way."""
        self.loop.call_soon(lambda: self._on_reply(cbor2.loads(body)))

    def _on_reply(self, reply: dict[str, Any]) -> None:
        ask = self.asked.pop(reply["id"], None)
        if ask is None:
            return  # the same request had been sent to two daemons
        if self.kernel.trace is not None:
            self.kernel.say(f"{self.identity.decode()} {ask.body['method']} {brief(ask.body)} -> {told(reply)}")
        ask.answer.set(reply)


def brief(body: dict[str, Any]) -> str:
    """What a request is about."""
    params = body["params"]
    return "/".join(str(part) for part in (body["namespace"], params.get("id"), params.get("exec_id"), body.get("key")) if part)


def told(reply: dict[str, Any]) -> str:
    """A reply in short; folders differ between machines."""
    if reply["ok"]:
        result = reply["result"]
        state = STAGE.world.folder
        if isinstance(result, dict):
            result = {name: value for name, value in result.items() if name not in _LONG}
        return str(result).replace(str(state), "")
    message = str(reply["error"]["message"]).replace(str(STAGE.world.folder), "").replace(os.sep, "/")
    return f"{reply['error']['code']}: {message[:160]}"
