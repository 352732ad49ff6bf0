"""``client.tasks.attach``: a process's output as it is written, and its stdin, in one object.

    with client.tasks.attach("web", stdin=True) as attached:
        attached.write(b"status\\n")
        for piece in attached:
            print(piece.stream, piece.data)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from actors.client.attaching import Attaching, pieces
from actors.client.calls import Tasks, Wanted
from actors.client.shared import SharedConnection
from actors.records import LogChunk
from shimproc.errors import ShimyardError


class Asks(Protocol):
    """What an attachment asks by the way, on its client."""

    def __call__(self, wanted: Wanted[None], /) -> None:
        """Ask, and wait for the answer."""
        ...


class Attached:
    """A client at a process's streams; iterating gives ``LogChunk``s until the process has ended.

    One thread may read while others write. What it writes is bounded by how fast the process reads: ``write`` returns once
    that has taken all. Output that is not read waits, up to some megabytes; then the iteration ends with ``ResourceExhausted``.
    ``losses`` counts the lost connections, with ``reattach``.
    """

    def __init__(self, attaching: Attaching, namespace: str, connect: Callable[[], SharedConnection], ask: Asks) -> None:
        self._attaching = attaching
        self._namespace = namespace
        self._ask = ask
        self._ready: deque[LogChunk] = deque()
        self._beginning = threading.Lock()
        self._connection = connect()
        try:
            self._begin()
        except BaseException:
            self._connection.close()
            raise

    @property
    def losses(self) -> int:
        """How often the connection was lost, and with it what the process wrote until it was attached again."""
        return self._attaching.losses

    def __iter__(self) -> Iterator[LogChunk]:
        return self

    def __next__(self) -> LogChunk:
        """The next piece of output, waited for. ``AttachmentLost``: the connection was lost; the process runs on."""
        while not self._ready:
            if self._attaching.is_over():
                raise StopIteration
            reading = self._attaching.reading
            if reading.request.broken and not reading.request.chunks:
                self._begin_again()
                continue
            self._connection.until(lambda: reading.moved)  # noqa: B023 - done with at once
            self._ready.extend(reading.take())
            if not reading.request.done and (credit := reading.credit_due()) is not None:
                self._connection.tell("stream.credit", credit)
        return self._ready.popleft()

    def read(self) -> tuple[bytes, bytes]:
        """All that is left until its end: stdout and stderr."""
        kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for piece in self:
            kept[piece.stream].append(piece.data)
        return b"".join(kept["stdout"]), b"".join(kept["stderr"])

    def write(self, data: bytes | str) -> None:
        """To its stdin, which has taken it on return. ``FailedPrecondition``: it has none, has closed it, or has ended."""
        for piece in pieces(data):
            while not self._write(piece):
                self._begin_again()

    def close_stdin(self) -> None:
        """End its stdin, after all that was written."""
        self._ask(Tasks.close_io(self._attaching.id, exec_id=self._attaching.exec_id))

    def resize(self, width: int, height: int) -> None:
        """Set its terminal's size, in characters."""
        self._ask(Tasks.resize(self._attaching.id, width, height, exec_id=self._attaching.exec_id))

    def close(self) -> None:
        """Let go of it; the process runs on. Harmless when it is done already."""
        self._connection.close()  # the daemon ends the stream with it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write(self, piece: bytes) -> bool:
        """Is it written? False if it could not be sent, since the connection is lost."""
        with self._beginning:  # while another thread attaches again there is no stream to write to
            through = self._attaching.reading.request
        if through.broken:
            return False
        written = self._connection.request("tasks.attach.write", None, self._attaching.write_params(through, piece))
        try:
            self._connection.until(lambda: written.done or written.broken)
        finally:
            self._connection.forget(written)
        return self._attaching.is_written(written, through)

    def _begin(self) -> None:
        """Until it is attached."""
        attaching, connection = self._attaching, self._connection
        while True:
            request = connection.request(attaching.method, self._namespace, attaching.params())
            attaching.begin(request)
            try:
                connection.until(lambda: attaching.settled)
            except BaseException:
                connection.forget(request)
                request.broken = True  # whoever comes next tries again
                raise
            if attaching.is_attached():
                return

    def _begin_again(self) -> None:
        """After a lost connection; if it cannot be, since the process has ended meanwhile, that is the end."""
        with self._beginning:
            if not self._attaching.reading.request.broken:  # another thread was faster
                return
            self._attaching.check_lost()
            try:
                self._begin()
            except ShimyardError as error:
                if not self._attaching.ended_meanwhile(error):
                    raise
                self._attaching.end()
