"""A foreign client, written on ``actors/API.md`` alone with pyzmq and cbor2: nothing of the project's own client.

``RawClient`` has one DEALER socket. ``call`` waits for a result, ``refused`` for an error with the expected code,
``send`` and ``reply`` leave many requests in flight, ``stream`` reads a streaming answer. ``using(...)`` gives the same
socket with another namespace, idempotency key, time limit or version in the request.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import cbor2
import zmq

ANSWER_SECONDS = 30.0


class WireError(Exception):
    """An ``ok: false`` reply."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.details: dict[str, Any] = error["details"]


class NoAnswerError(Exception):
    """The daemon has not answered in time."""


@dataclass
class Connection:
    """The socket, and the replies that nobody has asked for yet, by their id."""

    socket: zmq.Socket[bytes]
    last_id: int = 0
    waiting: defaultdict[Any, deque[dict[str, Any]]] = field(default_factory=lambda: defaultdict(deque))

    def send(self, request: dict[str, Any]) -> int:
        """Send with a fresh id."""
        self.last_id += 1
        self.socket.send_multipart([b"", cbor2.dumps(request | {"id": self.last_id})])
        return self.last_id

    def reply(self, request_id: Any, seconds: float) -> dict[str, Any]:
        """The next reply to this request; others are kept for whoever asks for them."""
        deadline = time.monotonic() + seconds
        while not self.waiting[request_id]:
            left = deadline - time.monotonic()
            if not self.socket.poll(max(0, int(left * 1000))):
                raise NoAnswerError(f"no reply to request {request_id} within {seconds} seconds")
            delimiter, body = self.socket.recv_multipart()
            assert delimiter == b""
            answer = cbor2.loads(body)
            assert isinstance(answer, dict)
            self.waiting[answer["id"]].append(answer)
        found = self.waiting[request_id].popleft()
        if not self.waiting[request_id]:
            del self.waiting[request_id]
        return found


@dataclass(frozen=True)
class RawClient:
    """One client; also a context manager."""

    connection: Connection
    extras: dict[str, Any]

    @classmethod
    def connect(cls, address: str, namespace: str | None) -> RawClient:
        """A client of the daemon at ``address``; ``namespace`` goes into every request."""
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
            socket.setsockopt(option, 0)
        socket.connect(address)
        return cls(Connection(socket), {} if namespace is None else {"namespace": namespace})

    def using(self, **extras: Any) -> RawClient:
        """The same connection with other fields in the request; ``None`` leaves a field out."""
        merged = {name: value for name, value in (self.extras | extras).items() if value is not None}
        return replace(self, extras=merged)

    @property
    def namespace(self) -> str:
        """Where this client works."""
        return str(self.extras["namespace"])

    def send(self, method: str, /, **params: Any) -> int:
        """Send a request; its id."""
        return self.connection.send({"v": 1, "method": method, "params": params, **self.extras})

    def reply(self, request_id: Any, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The whole reply map."""
        return self.connection.reply(request_id, seconds)

    def result(self, request_id: int, seconds: float = ANSWER_SECONDS) -> Any:
        """The result of a request that was sent; ``WireError`` if it was refused."""
        answer = self.reply(request_id, seconds)
        if not answer["ok"]:
            raise WireError(answer["error"])
        return answer["result"]

    def call(self, method: str, /, **params: Any) -> Any:
        """Send, and wait for the result."""
        return self.result(self.send(method, **params))

    def refused(self, code: str, method: str, /, **params: Any) -> WireError:
        """Send, and wait for an error with this code."""
        answer = self.reply(self.send(method, **params))
        assert not answer["ok"], f"{method}: expected {code}, but it answered {answer!r}"
        error = WireError(answer["error"])
        assert error.code == code, f"{method}: expected {code}, got {error}"
        return error

    def stream(self, method: str, /, **params: Any) -> Iterator[dict[str, Any]]:
        """Every reply of a streaming method; ``WireError`` if it ends with one."""
        request_id = self.send(method, **params)
        yield from self.replies(request_id)

    def replies(self, request_id: int, seconds: float = ANSWER_SECONDS) -> Iterator[dict[str, Any]]:
        """Every reply to a streaming request that was sent, the last one included."""
        more = True
        while more:
            answer = self.reply(request_id, seconds)
            if not answer["ok"]:
                raise WireError(answer["error"])
            more = answer["more"]
            yield answer

    def chunks(self, method: str, /, **params: Any) -> list[dict[str, Any]]:
        """All chunks of a stream that ends by itself."""
        return [answer["chunk"] for answer in self.stream(method, **params) if answer.get("chunk") is not None]

    def chunks_arrived(self, request_id: int) -> list[dict[str, Any]]:
        """The chunks of a stream that have come unasked: a round trip makes sure that what was sent before is here."""
        assert self.call("health")["status"] == "ok"
        return [answer["chunk"] for answer in self.connection.waiting[request_id] if answer.get("chunk") is not None]

    def send_frames(self, *frames: bytes) -> None:
        """Send what is perhaps no request at all."""
        self.connection.socket.send_multipart(frames)

    def close(self) -> None:
        """Let go of the socket."""
        self.connection.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
