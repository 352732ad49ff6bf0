"""A client at a process's streams (``tasks.attach``), sans-IO: what both clients' ``Attached`` have in common.

Output comes as it is written, from the moment of attaching on; what was written while the connection was lost is not sent
again by anybody, so a lost connection is told, or with ``reattach`` counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from actors.client.cursors import CREDIT, Reading
from actors.client.protocol import Exchanged
from actors.records import LogChunk
from actors.shape import lenient
from shimproc.errors import FailedPrecondition, InvalidArgument, NotFound, ShimyardError, Unavailable

PIECE: Final = 256 << 10
"""Bytes of input in one request: the process's shim takes 4 MiB that the process has not read yet (API.md, section 3)."""
_read_chunk = lenient(LogChunk)


class AttachmentLost(Unavailable):
    """The connection to the daemon was lost; the process runs on. Attach again: what it wrote meanwhile is not repeated."""


class Attaching:
    """One attachment, over any number of requests for it.

    Parameters
    ----------
    kills : a lost client takes the process with it.
    reattach : a lost connection is no error: ``losses`` counts it, and the output that was missed is missing.
    """

    method: Final = "tasks.attach"

    def __init__(self, id: str, exec_id: str | None, *, stdin: bool, reattach: bool, kills: bool) -> None:  # noqa: A002
        self.id = id
        self.exec_id = exec_id
        self._kills = kills
        self.losses = 0
        self._stdin = stdin
        self._reattach = reattach
        self._request: Exchanged | None = None
        self._reading: Reading[LogChunk] | None = None

    # -- a Cursor, for Reading

    def params(self) -> Mapping[str, Any]:
        """Of ``tasks.attach``."""
        given: dict[str, Any] = {"id": self.id, "exec_id": self.exec_id, "stdin": self._stdin, "credit": CREDIT}
        if self._kills:
            given["kill_on_disconnect"] = True
        return {name: value for name, value in given.items() if value is not None}

    def take(self, chunk: Mapping[str, Any]) -> LogChunk:
        """A piece of output."""
        return _read_chunk(chunk, "")

    def goes_on(self, error: ShimyardError | None) -> bool:
        """It has an end."""
        if error is not None:
            raise error
        return False

    # -- the request at hand

    def begin(self, request: Exchanged) -> None:
        """It is asked for with this."""
        self._request = request
        self._reading = Reading(request, self)

    @property
    def is_begun(self) -> bool:
        """Has it been asked for?"""
        return self._request is not None

    @property
    def reading(self) -> Reading[LogChunk]:
        """What has come."""
        if self._reading is None:
            raise InvalidArgument("not attached yet: use it in a with, or await it")
        return self._reading

    @property
    def settled(self) -> bool:
        """Is it attached, refused, or cut?"""
        request = self.reading.request
        return request.stream is not None or request.done or request.broken

    def is_attached(self) -> bool:
        """Once it is settled: False if it was cut before. Raises the refusal."""
        request = self.reading.request
        if request.done and request.stream is None:
            request.outcome()
        return not request.broken

    def is_over(self) -> bool:
        """With nothing left to read: has the process ended? Raises what ended the stream otherwise."""
        request = self.reading.request
        if request.done and not request.chunks:
            request.outcome()
            return True
        return False

    def check_lost(self) -> None:
        """It was cut: shall it be asked for again? ``AttachmentLost`` if not."""
        self.losses += 1
        if not self._reattach:
            raise AttachmentLost(f"the connection to the daemon was lost; {self.id} runs on: attach again")

    def ended_meanwhile(self, error: ShimyardError) -> bool:
        """Why it could not be attached again: since it has ended, which is no error?"""
        return self.losses > 0 and isinstance(error, (NotFound, FailedPrecondition))

    def end(self) -> None:
        """Nothing more will come: it has ended, or is let go of."""
        request = self.reading.request
        request.done, request.error = True, None
        request.chunks.clear()

    # -- input

    def write_params(self, through: Exchanged, data: bytes) -> Mapping[str, Any]:
        """Of ``tasks.attach.write``, through this attachment. ``FailedPrecondition`` once it has ended."""
        if through.done:
            raise FailedPrecondition(f"{self.id} takes no input any more: it has ended")
        return {"stream": through.stream, "data": data}

    def is_written(self, request: Exchanged, through: Exchanged) -> bool:
        """Did it get there? False if it did not, since the connection was lost before. Raises what went wrong."""
        if isinstance(request.error, NotFound) and not through.done:
            through.broken = True  # the daemon does not know the stream: it came over another connection
            return False
        if not request.broken:
            request.outcome()
            return True
        if request.sent:
            raise AttachmentLost(
                f"the connection to the daemon was lost; whether {self.id} has got the last bytes written is not known"
            )
        return False


def pieces(data: bytes | str) -> Iterator[bytes]:
    """Input in pieces of a good size; an empty one has none."""
    whole = data.encode() if isinstance(data, str) else data
    return (bytes(whole[at : at + PIECE]) for at in range(0, len(whole), PIECE))
