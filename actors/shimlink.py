"""The daemon's side of one shim: requests with their answers, events, acks, and its death.

The owner is a task actor: it is posted ``ShimEvent`` for each event and ``ShimGone`` once when the shim has ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pykka

from actors.dispatch import post
from actors.messages import ShimEvent, ShimGone, ShimOutput
from shimproc.errors import Unavailable, from_map
from shimproc.flow import Pending
from shimproc.io.keepsakes import Nobody
from shimproc.journal import Journal
from shimproc.link import Link
from shimproc.loop import READ, LoopLike
from shimproc.messages import Message, event_of, request_frame
from shimproc.reaper import Reaper
from shimproc.service import Service

_DEATH_SECONDS = 5.0
"""How long after its link a shim may take to end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A shim's answer; it may be relied on once event ``n`` is durable."""

    n: int
    result: Mapping[str, Any]


class ShimLink:
    """Requests and answers over whatever ``send`` leads to. ``stands``: how it is with the shim behind it, once it was heard."""

    stands = "alive"

    def __init__(self, owner: pykka.ActorRef[Any]) -> None:
        self._owner = owner
        self._asked: dict[int, Pending[Answer]] = {}
        self._number = 0
        self._send: Callable[[Mapping[str, Any]], None] | None = None
        self.pid = 0
        self.last = 0  # the number of the newest event heard
        self.gone: Pending[None] = Pending()
        self.dead = False

    def call(self, request: Message) -> Pending[Answer]:
        """Ask; fails with the shim's error, or ``Unavailable`` when the shim goes before it answers."""
        answer: Pending[Answer] = Pending()
        if self._send is None:
            answer.fail(_away())
            return answer
        self._number += 1
        self._asked[self._number] = answer
        self._send(request_frame(self._number, request))
        return answer

    def ack(self, n: int) -> None:
        """All events up to ``n`` are durable."""
        self.tell({"ack": n})

    def tell(self, frame: Mapping[str, Any]) -> None:
        """Something that needs no answer."""
        if self._send is not None:
            self._send(frame)

    def close(self) -> None:
        """Let go; a shim whose task is deleted ends then. Nothing is posted any more for frames on the way."""
        self._send = None
        self._fail_asked()

    def kill(self) -> None:
        """End the shim itself, whatever it does. Its container is not touched."""

    def _on_frame(self, frame: Mapping[str, Any]) -> None:
        if "a" in frame:
            self._on_answer(frame)
        elif "attached" in frame:
            post(self._owner, ShimOutput(frame))
        else:
            self.last = int(frame["n"])
            post(self._owner, ShimEvent(self.last, event_of(frame["event"]), int(frame.get("after", self.last - 1))))

    def _on_answer(self, frame: Mapping[str, Any]) -> None:
        answer = self._asked.pop(frame["a"], None)
        if answer is None:
            return
        if "error" in frame:
            answer.fail(from_map(frame["error"]))
        else:
            answer.set(Answer(int(frame["n"]), frame["ok"]))

    def _on_gone(self) -> None:
        if self.gone.done:
            return
        self._send = None
        self.gone.set(None)
        self._fail_asked()
        post(self._owner, ShimGone(self.pid))

    def _fail_asked(self) -> None:
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.fail(_away())


class RemoteShim(ShimLink):
    """A shim process: a stream socket, and a pidfd that tells its death (a closed socket alone does not)."""

    def __init__(self, loop: LoopLike, owner: pykka.ActorRef[Any], sock: socket.socket) -> None:
        super().__init__(owner)
        self._loop = loop
        self._pidfd: int | None = None
        self._link = Link(loop, sock, lambda frame, _: self._on_frame(frame), self._on_link_closed)
        self._send = self._link.send

    def watch(self, pid: int, pidfd: int) -> None:
        """The shim is ``pid``; ``pidfd`` is ours from now on."""
        self.pid, self._pidfd = pid, pidfd
        self._loop.watch(pidfd, READ, lambda _: self._on_death())

    def close(self) -> None:
        """Close the link; the pidfd is kept until the shim has ended."""
        super().close()
        self._link.close()

    def forget(self) -> None:
        """Let go of everything, the shim living on (the daemon stops)."""
        self.close()
        self._drop_pidfd()

    def kill(self) -> None:
        """SIGKILL by pidfd."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _on_link_closed(self) -> None:
        """Usually death is next. Frames that were read already are served before it. One that lives on (it was too far behind
        with its reading) can be linked to anew, once it is given up as this link's end."""
        self._send = None
        self._fail_asked()
        self._loop.call_later(_DEATH_SECONDS, self._on_cut)

    def _on_cut(self) -> None:
        if self._pidfd is not None:
            self._drop_pidfd()
            self._on_gone()

    def _on_death(self) -> None:
        self.dead = True
        self._drop_pidfd()
        if not self._link.closed:
            self._loop.call_soon(self._on_dead)  # what it sent last is read first
        else:
            self._on_gone()

    def _on_dead(self) -> None:
        self._link.close()
        self._on_gone()

    def _drop_pidfd(self) -> None:
        if self._pidfd is not None:
            self._loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


class LocalShim(ShimLink):
    """The service in the daemon itself (``no_shim``): no process, no isolation from the daemon's death."""

    def __init__(self, loop: LoopLike, owner: pykka.ActorRef[Any], reaper: Reaper, journal: Journal) -> None:
        super().__init__(owner)
        self._loop = loop
        self._journal = journal
        self.pid = os.getpid()
        self._service = Service(loop, reaper, journal, Nobody(), self._on_end)
        self._service.attach(lambda frame: loop.call_soon(lambda: self._on_frame(frame)))
        self._send = lambda frame: loop.call_soon(lambda: self._service.receive(frame))

    def close(self) -> None:
        """The service ends if its task is gone."""
        super().close()
        self._service.detach()

    def _on_end(self) -> None:
        self._journal.close()
        self._on_gone()


def _away() -> Unavailable:
    return Unavailable("the task's shim is away; its state is kept, and the same request may succeed later")
