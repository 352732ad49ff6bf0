"""The clients of the ROUTER: what each has in flight, and what waits for one that does not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

STREAM_QUEUE: Final = 4096
"""Frames that may wait for one client before its streams pause."""
MAX_BACKLOG_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Peer:
    """One connected client, by its routing identity. ``fd``: its connection; ``in_flight``: requests not done with."""

    identity: bytes
    fd: int | None = None
    in_flight: int = 0
    backlog: deque[bytes] = field(default_factory=deque)
    backlog_bytes: int = 0
    streams: dict[int, Callable[[], None]] = field(default_factory=dict)
    room: dict[int, Callable[[], None]] = field(default_factory=dict)
    gone: bool = False

    @property
    def idle(self) -> bool:
        """Is there nothing to remember of it?"""
        return not (self.in_flight or self.backlog or self.streams)

    def queue(self, body: bytes) -> bool:
        """Keep a frame that cannot be sent now; False when the client has too much waiting already."""
        self.backlog.append(body)
        self.backlog_bytes += len(body)
        return self.backlog_bytes <= MAX_BACKLOG_BYTES

    def sent(self) -> None:
        """The oldest waiting frame went out."""
        self.backlog_bytes -= len(self.backlog.popleft())
