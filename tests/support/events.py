"""What a subscriber hears, and the order that it must have.

``Subscriber`` is a SUB socket that is known to be subscribed (it has had its ``_/hello``) before the test goes on, so
it hears every event from then on. ``check_order`` holds the rule of API.md, section 5, against a list of envelopes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import cbor2
import zmq

Envelope = dict[str, Any]
HEAR_SECONDS = 20.0
_RANK = {
    "TaskCreate": 0,
    "TaskExecAdded": 0,
    "TaskStart": 1,
    "TaskExecStarted": 1,
    "TaskExit": 2,
    "TaskDelete": 3,
}
_EXITED, _DELETED = 2, 3


class Subscriber:
    """Hears everything from its creation on."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.subscribe(b"")
        self._socket.connect(address)
        self.heard: list[Envelope] = []
        self.heartbeats: list[Envelope] = []
        self.hello: Envelope = {}
        self._until(lambda: bool(self.hello), "_/hello")

    @property
    def seq(self) -> int:
        """The last number that was heard, or that the hello told."""
        return int(self.heard[-1]["seq"]) if self.heard else int(self.hello["last_seq"])

    def up_to(self, seq: int) -> list[Envelope]:
        """All that was heard, once event number ``seq`` is among it."""
        self._until(lambda: self.seq >= seq, f"event {seq}")
        return self.heard

    def until(self, kind: str, container_id: str, nth: int = 1) -> Envelope:
        """The first (or n-th) event of this type of this container; waits for it."""
        found: list[Envelope] = []
        seen = 0

        def look() -> bool:
            nonlocal seen
            found.extend(one for one in self.heard[seen:] if one["type"] == kind and concerns(one, container_id))
            seen = len(self.heard)
            return len(found) >= nth

        self._until(look, f"{kind} of {container_id}")
        return found[nth - 1]

    def heartbeat(self) -> Envelope:
        """The next heartbeat."""
        before = len(self.heartbeats)
        self._until(lambda: len(self.heartbeats) > before, "a heartbeat")
        return self.heartbeats[-1]

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _until(self, enough: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + HEAR_SECONDS
        while not enough():
            if not self._socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                last = [(one["seq"], one["topic"]) for one in self.heard[-5:]]
                raise AssertionError(f"{what} was not heard within {HEAR_SECONDS} seconds; the last: {last}")
            topic, body = self._socket.recv_multipart()
            self._take(topic, cbor2.loads(body))

    def _take(self, topic: bytes, body: Envelope) -> None:
        if topic == b"_/hello":
            self.hello = body
        elif topic == b"_/heartbeat":
            self.heartbeats.append(body)
        else:
            assert topic.decode() == body["namespace"] + body["topic"]
            self.heard.append(body)


def concerns(envelope: Envelope, container_id: str) -> bool:
    """Is it about this container or its task?"""
    event = envelope["event"]
    return container_id in (event.get("container_id"), event.get("id"))


def of(envelopes: Iterable[Envelope], container_id: str) -> list[Envelope]:
    """Those about one container."""
    return [one for one in envelopes if concerns(one, container_id)]


def topics(envelopes: Iterable[Envelope]) -> list[str]:
    """Their topics, in order."""
    return [str(one["topic"]) for one in envelopes]


def check_order(envelopes: list[Envelope]) -> None:
    """Numbers unbroken; each process create (or added) < start < exit < delete, each once at most; init's exit last.

    A process that was never started may be deleted after its creation, with or without an exit.
    """
    numbers = [one["seq"] for one in envelopes]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"the numbers have a hole: {numbers}"
    reached: dict[tuple[str, str, str], int] = {}
    for one in envelopes:
        rank = _RANK.get(one["type"])
        if rank is None:
            continue
        event = one["event"]
        container = event["container_id"]
        process = (one["namespace"], container, str(event.get("exec_id") or event.get("id") or container))
        before = reached.get(process)
        if before is None:
            assert rank == 0, f"{process}: {one['type']} (seq {one['seq']}) before its creation"
        else:
            anew = rank == 0 and before == _DELETED
            assert rank > before or anew, f"{process}: {one['type']} (seq {one['seq']}) out of order"
        init = (one["namespace"], container, container)
        if process != init and rank < _DELETED:
            assert reached.get(init, 0) < _EXITED, f"{process}: {one['type']} after its container's init had ended"
        reached[process] = rank
