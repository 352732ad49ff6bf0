"""A client at a task's streams, by the wire alone: what it has heard, and what it sends."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.support.wire import RawClient


class Attached:
    """From its creation on it hears everything; it is known to be attached then."""

    def __init__(self, api: RawClient, **params: Any) -> None:
        self._api = api
        self._request = api.send("tasks.attach", **params)
        self._heard = b""
        self._over = False
        self.stream = int(api.reply(self._request)["stream"])

    def write(self, data: bytes) -> None:
        """To the process's stdin, which has taken it then."""
        self._api.call("tasks.attach.write", stream=self.stream, data=data)

    def until(self, text: bytes) -> bytes:
        """What was heard up to this text, which is not heard again."""
        self._read_while(lambda: text not in self._heard)
        before, found, self._heard = self._heard.partition(text)
        assert found, f"{text!r} is not in {before!r}"
        return before + found

    def until_bytes(self, count: int) -> bytes:
        """The next so many."""
        self._read_while(lambda: len(self._heard) < count)
        data, self._heard = self._heard[:count], self._heard[count:]
        return data

    def read_to_end(self) -> bytes:
        """All that is left."""
        self._read_while(lambda: True)
        data, self._heard = self._heard, b""
        return data

    def close(self) -> None:
        """Not attached any more."""
        if not self._over:
            self._api.call("stream.cancel", stream=self.stream)
            self._read_while(lambda: True)

    def _read_while(self, wanted: Callable[[], bool]) -> None:
        while not self._over and wanted():
            reply = self._api.reply(self._request)
            assert reply["ok"], reply
            self._over = not reply["more"]
            self._heard += (reply.get("chunk") or {}).get("data", b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
