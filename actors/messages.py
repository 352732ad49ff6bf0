"""Every message between the daemon's actors, on one page. Frozen; a message carries its return address.

    client ─▶ FrontEnd ─Call─▶ Runtime ─Call─▶ Task ─(shim frames)─▶ shim
    shim ─(frames)─▶ Task ─Publish─▶ Exchange ─Commit─▶ Store ─Committed─▶ Exchange ─Delivered─▶ subscribers
                                                                              └─ receipt.set ─▶ Task
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pykka

from actors.records import Envelope, Task
from shimproc.flow import Pending
from shimproc.messages import Message


class Stream(Protocol):
    """The sending side of a streaming reply. All on the loop's thread."""

    number: int
    cancelled: bool
    """Has the client itself ended it, and is not just gone?"""

    def room(self) -> int:
        """How many chunks may be sent now: what is left of the client's credit, or of the bounded queue."""

    def send(self, chunk: Mapping[str, Any]) -> None:
        """Send one chunk. Only while ``room()`` is positive."""

    def end(self, error: BaseException | None = None) -> None:
        """Send the closing reply, once; later calls do nothing."""


class Change(Protocol):
    """A change of the metadata, applied in the store's thread inside a transaction."""

    def apply(self, db: sqlite3.Connection) -> None:
        """Carry it out. An exception rolls back the commit that it came in, and no other."""


class Reply(Protocol):
    """Where a request's answer goes; exactly one of ``ok``, ``fail`` and ``stream`` is called, once. All on the loop's thread."""

    @property
    def key(self) -> str:
        """The request's idempotency key; "" for none."""

    @property
    def open(self) -> bool:
        """Does anybody still wait for it? Not when its deadline has passed or its client is gone."""

    def ok(self, result: Any) -> None:
        """Answer with a map or a record of ``actors.records``."""

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""

    def kept(self, result: Any) -> tuple[Change, ...]:
        """What is to be committed with the deed, so that this answer is known to whoever repeats the request with its key."""

    def stream(
        self,
        credit: int | None,
        on_room: Callable[[], None],
        on_gone: Callable[[], None],
        on_write: Callable[[bytes, Reply], None] | None = None,
    ) -> Stream:
        """Begin a streaming answer. ``on_room`` is called when ``room()`` grew from 0, ``on_gone`` once when the
        client cancelled or vanished: the producer then lets go of what it holds. ``on_write`` gets what the client sends
        to the stream (``tasks.attach.write``), and answers that."""


class Unanswered(Reply, Protocol):
    """The answer to a request that a former daemon had begun: its client may ask again, with the same key."""

    def drop(self) -> None:
        """It was not done: whoever asks again has it done."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A request about a task that a former daemon had begun, and where its answer goes. ``exec_id``: "" for the task itself."""

    method: str
    exec_id: str
    reply: Unanswered


@dataclass(frozen=True, slots=True)
class Call:
    """A client's request, checked: ``params`` is the method's record from ``actors.methods``."""

    method: str
    namespace: str
    params: Any
    reply: Reply


@dataclass(frozen=True, slots=True)
class OwnCall:
    """To the runtime: a request of the daemon's own. It waits for no restart, since it may be a part of one, and is nobody's
    purpose."""

    call: Call


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that has no number yet. ``source`` = (incarnation, n) makes it count once however often it is told."""

    namespace: str
    topic: str
    type: str
    event: Mapping[str, Any]
    timestamp: int
    source: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A durable event and its encoded envelope. ``repeated``: it was durable before; not to be published again."""

    envelope: Envelope
    frame: bytes
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """To the exchange: commit ``changes`` and ``events`` as one, publish, then set ``receipt``."""

    events: tuple[NewEvent, ...]
    changes: tuple[Change, ...]
    receipt: Pending[tuple[Published, ...]]


@dataclass(frozen=True, slots=True)
class Commit:
    """To the store (another thread): one atomic piece of a grouped commit; ``token`` comes back in ``Committed``."""

    token: Publish


@dataclass(frozen=True, slots=True)
class Committed:
    """From the store: outcomes of a group, in order; each a tuple of events, or the error that rolled it back."""

    outcomes: tuple[tuple[Publish, tuple[Published, ...] | BaseException], ...]


@dataclass(frozen=True, slots=True)
class Read:
    """To the store: run ``query`` on its connection in its thread, then call ``deliver`` in the loop's thread."""

    query: Callable[[sqlite3.Connection], Any]
    receipt: Pending[Any]


@dataclass(frozen=True, slots=True)
class Subscribe:
    """To the exchange: every later event is posted to ``subscriber`` as ``Delivered``."""

    subscriber: pykka.ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """To the exchange: no more."""

    subscriber: pykka.ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Delivered:
    """From the exchange: events in order of ``seq``."""

    events: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class HowBusy:
    """From the metrics, to front end and exchange: what is under way there, as ``actors.measures`` has it."""

    receipt: Pending[Any]


@dataclass(frozen=True, slots=True)
class ShimEvent:
    """To a task: its shim's event number ``n`` (``shimproc.messages``); journaled there, not yet durable here.

    ``after``: the number of the one before it, as far as those are kept.
    """

    n: int
    event: Message
    after: int


@dataclass(frozen=True, slots=True)
class ShimOutput:
    """To a task: what a process wrote, for an attached client, as its shim has framed it (``shimproc.messages``)."""

    frame: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShimGone:
    """To a task: its shim has ended, asked to or not."""

    pid: int


@dataclass(frozen=True, slots=True)
class Changed:
    """To the runtime: what ``tasks.get`` and ``tasks.list`` show of a task from now on."""

    task: Task


@dataclass(frozen=True, slots=True)
class Removed:
    """To the runtime: nothing is left of the task; ``heard`` is set then: its id is free."""

    namespace: str
    id: str
    heard: Pending[None] | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """To the monitor: ``task`` runs since ``started`` (``shimproc.reaper.boottime``) and may do so for ``timeout`` seconds."""

    namespace: str
    id: str
    task: pykka.ActorRef[Any]
    started: int
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Expired:
    """From the monitor, to a task: its time is over."""


@dataclass(frozen=True, slots=True)
class Begin:
    """From the runtime, to a new task whose intent is on disk: make it, as ``tasks.create`` or ``tasks.run`` asks."""

    call: Call


@dataclass(frozen=True, slots=True)
class Probed:
    """To a task: its health, as it is to be shown; ``changed`` if its status is another one."""

    health: Mapping[str, Any]
    changed: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """Try again to get a shim for a task that has lost its own."""


@dataclass(frozen=True, slots=True)
class Restore:
    """From the runtime, to a task that a former daemon made: find its shim again and hear how the task stands.

    ``unanswered``: the requests about it that the former daemon had begun; ``known``: the number of the last event of its shim
    that need not be heard again, as the row tells it all; 0: from the beginning.
    """

    unanswered: tuple[Begun, ...] = ()
    known: int = 0


@dataclass(frozen=True, slots=True)
class Undo:
    """From the runtime, to a task whose create, or removal, was cut off: let nothing be left, and say when that is ``done``."""

    done: Pending[None]
    unanswered: tuple[Begun, ...] = ()


@dataclass(frozen=True, slots=True)
class DropContainer:
    """From a task, to the runtime: the container of a task that is gone is not wanted any more.

    ``created_at`` is the container's: a later one with the same id is another's.
    ``changes`` are committed with that: the task's own row, so that a daemon killed in between finds both, or neither.
    """

    namespace: str
    id: str
    created_at: int
    changes: tuple[Change, ...]
    receipt: Pending[None]
