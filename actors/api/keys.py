"""Idempotency keys: a repeated request does nothing twice and gets the first one's reply, over restarts of the daemon.

(namespace, method, key) is on disk as begun before the request goes on, and its reply is there with the deed's own commit or
before it is sent; a long one is there only. What a killed daemon had begun and not answered is finished by whoever takes its
task back (``begun_before``), or dropped, if it was not done: a repeat waits for that. A reply is kept for ten minutes after
it was given, by a clock that nobody sets; one timer forgets for all.

What ends a task is not refused because there is no room on the disk for its key: that may be what makes room. Such a key is
known to this daemon alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
import pykka

from actors.api.replies import ClientReply
from actors.api.requests import Request
from actors.dispatch import post
from actors.exchange import ExchangeClient
from actors.messages import Begun, Change, Read
from actors.shape import dump
from actors.store.idempotency import LONGEST, ON_DISK, DropKey, KeyRow, PutKey, load_reply
from shimproc.errors import InvalidArgument, ResourceExhausted, to_map
from shimproc.flow import Pending
from shimproc.loop import LoopLike

KEEP_SECONDS: Final = 600
_SWEEP_SECONDS: Final = 60.0
_ENDING: Final = frozenset(("tasks.kill", "tasks.stop", "tasks.delete"))
Name = tuple[str, str, str]
GoOn = Callable[["KeyedReply"], None]


@dataclass(slots=True)
class Known:
    """A key's state: its reply, or those who wait for it; ``since``: when that was given, in seconds of the loop's clock."""

    fingerprint: bytes
    at: int
    target: str
    reply: bytes | None = None
    since: float = 0.0
    waiting: list[tuple[Request, ClientReply, GoOn]] = field(default_factory=list)

    def row(self, name: Name, reply: bytes | None) -> KeyRow:
        """As it is on disk."""
        return KeyRow(*name, self.fingerprint, reply, self.at, self.target)


class Keys:
    """All keys of the last ten minutes.

    Parameters
    ----------
    limit : how many there may be.
    clock : seconds that only grow (``time.monotonic``).
    """

    def __init__(
        self,
        loop: LoopLike,
        exchange: ExchangeClient,
        store: pykka.ActorRef[Any],
        rows: Iterable[KeyRow],
        limit: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._exchange = exchange
        self._store = store
        self._limit = limit
        self._clock = clock
        self._known: dict[Name, Known] = {
            (row.namespace, row.method, row.key): Known(row.fingerprint, row.at, row.target, row.reply, clock() - _age(row))
            for row in rows
        }
        self._sweep()

    def begun_before(self, tasks: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[Begun]]:
        """By task, what a former daemon had begun; what is about none of ``tasks`` is dropped."""
        found: dict[tuple[str, str], list[Begun]] = {task: [] for task in tasks}
        for name, known in list(self._known.items()):
            if known.reply is None:
                task_id, _, exec_id = known.target.partition("/")
                if (name[0], task_id) in found:
                    found[name[0], task_id].append(Begun(name[1], exec_id, KeyedReply(self, name)))
                else:
                    self.drop(name)
        return found

    def serve(self, request: Request, reply: ClientReply, go_on: GoOn) -> None:
        """Answer a repeated request, or let a first one go on, once it is on disk that it was begun."""
        assert request.key is not None
        name = (request.namespace, request.method, request.key)
        fingerprint = hashlib.sha256(cbor2.dumps(request.raw, canonical=True)).digest()
        known = self._known.get(name)
        if known is None and len(self._known) >= self._limit:
            many = f"{self._limit} idempotency keys of the last {KEEP_SECONDS // 60} minutes are kept"
            reply.fail(ResourceExhausted(f"key: {many}; ask without a key, or raise api.keys"))
        elif known is None:
            target = "/".join(str(request.raw[name]) for name in ("id", "exec_id") if request.raw.get(name))
            self._begin(name, Known(fingerprint, time.time_ns(), target, waiting=[(request, reply, go_on)]), go_on)
        elif known.fingerprint != fingerprint:
            reply.fail(InvalidArgument("key: it was used before with other params; take a fresh key for each request"))
        elif known.reply is None:
            known.waiting.append((request, reply, go_on))
        elif known.reply == ON_DISK:
            self._answer_from_disk(name, request, reply, go_on)
        else:
            reply.body(_addressed(known.reply, request.id))

    def change(self, name: Name, reply: bytes) -> Change:
        """What puts the reply on disk."""
        known = self._known[name]
        known.at = time.time_ns()
        return PutKey(known.row(name, reply))

    def settle(self, name: Name, reply: bytes, *, kept: bool) -> None:
        """The reply: on disk first, unless it was kept there with the deed, then to all who wait."""
        known = self._known[name]

        def answer(committed: Pending[Any] | None) -> None:  # also after a failed commit: the deed is done, and is told
            only_here = committed is not None and committed.error is not None
            known.reply = reply if len(reply) <= LONGEST or only_here else ON_DISK
            known.since = self._clock()
            waiting, known.waiting = known.waiting, []
            for request, waits, _go_on in waiting:
                waits.body(_addressed(reply, request.id))

        if kept:
            answer(None)
        else:
            self._exchange.publish(changes=(self.change(name, reply),)).then(answer)

    def drop(self, name: Name) -> None:
        """It was begun, and not done: who waits begins it anew."""
        known = self._known.pop(name)
        self._exchange.publish(changes=(DropKey(*name),))
        for request, reply, go_on in known.waiting:
            self.serve(request, reply, go_on)

    def _answer_from_disk(self, name: Name, request: Request, reply: ClientReply, go_on: GoOn) -> None:
        receipt: Pending[bytes | None] = Pending()

        def answer(found: Pending[bytes | None]) -> None:
            if found.error is not None:
                reply.fail(found.error)
            elif (body := found.result()) is not None:
                reply.body(_addressed(body, request.id))
            else:  # its time is over, just now
                self._known.pop(name, None)
                self.serve(request, reply, go_on)

        receipt.then(answer)
        post(self._store, Read(lambda db: load_reply(db, name), receipt))

    def _begin(self, name: Name, known: Known, go_on: GoOn) -> None:
        self._known[name] = known

        def begun(outcome: Any) -> None:
            full = isinstance(outcome.error, ResourceExhausted)
            if outcome.error is None or (full and name[1] in _ENDING):
                go_on(KeyedReply(self, name))
                return
            del self._known[name]
            for _, reply, _go_on in known.waiting:
                reply.fail(outcome.error)

        self._exchange.publish(changes=(PutKey(known.row(name, None)),)).then(begun)

    def _sweep(self) -> None:
        before = self._clock() - KEEP_SECONDS
        old = [name for name, known in self._known.items() if known.reply is not None and known.since <= before]
        for name in old:
            del self._known[name]
        if old:
            self._exchange.publish(changes=tuple(DropKey(*name) for name in old))
        self._loop.call_later(_SWEEP_SECONDS, self._sweep)


class KeyedReply:
    """``actors.messages.Unanswered``: the reply of a request with a key; such a request does not stream."""

    def __init__(self, keys: Keys, name: Name) -> None:
        self._keys = keys
        self._name = name
        self._kept = False
        self._over = False

    @property
    def key(self) -> str:
        """The client's."""
        return self._name[2]

    @property
    def open(self) -> bool:
        """It is kept for whoever asks again."""
        return not self._over

    def ok(self, result: Any) -> None:
        """Keep and send the result."""
        self._settle({"ok": True, "result": dump(result)}, kept=self._kept)

    def fail(self, error: BaseException) -> None:
        """Keep and send the error."""
        self._settle({"ok": False, "error": to_map(error)}, kept=False)

    def kept(self, result: Any) -> tuple[Change, ...]:
        """The change that keeps the result; ``ok`` with the same only sends it."""
        self._kept = True
        return (self._keys.change(self._name, cbor2.dumps({"ok": True, "result": dump(result)})),)

    def drop(self) -> None:
        """Begin it anew, if anyone asks again."""
        if not self._over:
            self._over = True
            self._keys.drop(self._name)

    def stream(self, *_: object) -> Any:
        """Never: the front end refuses a key for a streaming method."""
        raise InvalidArgument("key: a streaming method takes none")

    def _settle(self, outcome: Mapping[str, Any], *, kept: bool) -> None:
        if not self._over:
            self._over = True
            self._keys.settle(self._name, cbor2.dumps(outcome), kept=kept)


def _addressed(encoded: bytes, request_id: Any) -> bytes:
    return cbor2.dumps({"id": request_id, **cbor2.loads(encoded)})


def _age(row: KeyRow) -> float:
    """Seconds, by the host's clock: all that a former daemon's row tells. It may have been set back since then."""
    return min(max(0.0, (time.time_ns() - row.at) / 1e9), KEEP_SECONDS)
