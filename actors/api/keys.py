"""Idempotency keys: a repeated request does nothing twice and gets the first one's reply, over restarts of the daemon.

(namespace, method, key) is on disk as begun before the request goes on, and with its reply before that is sent. Kept for
ten minutes; one timer forgets for all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2

from actors.api.replies import ClientReply
from actors.api.requests import Request
from actors.exchange import ExchangeClient
from actors.shape import dump
from actors.store.idempotency import DropKeys, KeyRow, PutKey
from shimproc.errors import InvalidArgument, to_map
from shimproc.loop import LoopLike

KEEP_SECONDS: Final = 600
_SWEEP_SECONDS: Final = 60.0
Name = tuple[str, str, str]


@dataclass(slots=True)
class Known:
    """A key's state: its reply, or those who wait for it."""

    fingerprint: bytes
    at: int
    reply: bytes | None = None
    waiting: list[tuple[Any, ClientReply]] = field(default_factory=list)


class Keys:
    """All keys of the last ten minutes."""

    def __init__(self, loop: LoopLike, exchange: ExchangeClient, rows: Iterable[KeyRow]) -> None:
        self._loop = loop
        self._exchange = exchange
        self._known: dict[Name, Known] = {
            (row.namespace, row.method, row.key): Known(row.fingerprint, row.at, row.reply)
            for row in rows
            if row.reply is not None  # one that was only begun did nothing that anybody was told of
        }
        self._sweep()

    def serve(self, request: Request, reply: ClientReply, go_on: Callable[[KeyedReply], None]) -> None:
        """Answer a repeated request, or let a first one go on, once it is on disk that it was begun."""
        assert request.key is not None
        name = (request.namespace, request.method, request.key)
        fingerprint = hashlib.sha256(cbor2.dumps(request.raw, canonical=True)).digest()
        known = self._known.get(name)
        if known is None:
            self._begin(name, Known(fingerprint, time.time_ns(), None, [(request.id, reply)]), go_on)
        elif known.fingerprint != fingerprint:
            reply.fail(InvalidArgument("key: it was used before with other params; take a fresh key for each request"))
        elif known.reply is None:
            known.waiting.append((request.id, reply))
        else:
            reply.body(_addressed(known.reply, request.id))

    def settle(self, name: Name, outcome: Mapping[str, Any]) -> None:
        """The reply: on disk first, then to all who wait."""
        known = self._known[name]
        encoded = cbor2.dumps(outcome)
        row = KeyRow(*name, known.fingerprint, encoded, known.at)

        def answer(_: Any) -> None:  # also after a failed commit: the deed is done, and is told
            known.reply = encoded
            waiting, known.waiting = known.waiting, []
            for request_id, reply in waiting:
                reply.body(_addressed(encoded, request_id))

        self._exchange.publish(changes=(PutKey(row),)).then(answer)

    def _begin(self, name: Name, known: Known, go_on: Callable[[KeyedReply], None]) -> None:
        self._known[name] = known
        row = KeyRow(*name, known.fingerprint, None, known.at)

        def begun(outcome: Any) -> None:
            if outcome.error is None:
                go_on(KeyedReply(self, name))
                return
            del self._known[name]
            for _, reply in known.waiting:
                reply.fail(outcome.error)

        self._exchange.publish(changes=(PutKey(row),)).then(begun)

    def _sweep(self) -> None:
        before = time.time_ns() - KEEP_SECONDS * 1_000_000_000
        old = [name for name, known in self._known.items() if known.at < before and known.reply is not None]
        for name in old:
            del self._known[name]
        if old:
            self._exchange.publish(changes=(DropKeys(before),))
        self._loop.call_later(_SWEEP_SECONDS, self._sweep)


class KeyedReply:
    """``actors.messages.Reply`` of a request with a key; such a request does not stream."""

    def __init__(self, keys: Keys, name: Name) -> None:
        self._keys = keys
        self._name = name
        self._over = False

    def ok(self, result: Any) -> None:
        """Keep and send the result."""
        self._settle({"ok": True, "result": dump(result)})

    def fail(self, error: BaseException) -> None:
        """Keep and send the error."""
        self._settle({"ok": False, "error": to_map(error)})

    def stream(self, *_: object) -> Any:
        """Never: the front end refuses a key for a streaming method."""
        raise InvalidArgument("key: a streaming method takes none")

    def _settle(self, outcome: Mapping[str, Any]) -> None:
        if not self._over:
            self._over = True
            self._keys.settle(self._name, outcome)


def _addressed(encoded: bytes, request_id: Any) -> bytes:
    return cbor2.dumps({"id": request_id, **cbor2.loads(encoded)})
