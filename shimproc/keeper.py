"""A shim's line to the forkserver, which outlives it: what to keep for the next shim, and what it says to this one.

    shim -> forkserver    {"keep": names, "pid": pid} + descriptors       duplicates to be kept
                          {"drop": names}                                 these are closed
                          {"forget": exec's id, "pid"}                    it has ended, which is journaled
                          {"ward": fork}, {"leave": true}                 to one that has not forked this shim
    forkserver -> shim    {"line": true}                                  on shim.sock: this is not a daemon
                          {"link": true} + 1 fd                           a daemon's link: serve it
                          {"exited": pid, "status", "at"}                 how a process that it inherited has ended
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shimproc.link import Link
from shimproc.loop import LoopLike
from shimproc.messages import Fork
from shimproc.reaper import Exited


class ForkserverLine:
    """See the module; ``shimproc.io.keepsakes.Keeper``. When the forkserver was killed, the next one connects again.

    Parameters
    ----------
    on_link : called with a link's socket, the callee's from then on.
    on_exited : called with (pid, how it ended).
    """

    def __init__(
        self,
        loop: LoopLike,
        on_link: Callable[[socket.socket], None],
        on_exited: Callable[[int, Exited], None],
    ) -> None:
        self._loop = loop
        self._on_link = on_link
        self._on_exited = on_exited
        self._dropped: list[str] = []
        self._link: Link | None = None
        self._introduced = False

    def connect(self, link: Link) -> None:
        """The forkserver is at the other end of this one."""
        link.hand_over(self._on_message, _go_on)
        self._link = link

    def introduce(self, request: Fork) -> None:
        """To a forkserver that has not forked us: how the next shim is to be made."""
        self._introduced = True
        self._send({"ward": request.to_map()})

    def leave(self) -> None:
        """The task is gone, and this shim with it: nobody is to follow. Its own parent sees that by its exit status."""
        if self._introduced:
            self._send({"leave": True})

    def keep(self, pid: int, fds: Mapping[str, int]) -> None:
        """One message for all of them."""
        self._send({"keep": list(fds), "pid": pid}, list(fds.values()))

    def drop(self, names: Sequence[str]) -> None:
        """At the end of this turn: what ends, ends together."""
        if not self._dropped:
            self._loop.call_soon(self._tell_dropped)
        self._dropped += names

    def forget(self, pid: int, owner: str = "") -> None:
        """No successor has to care for it."""
        self._send({"forget": owner, "pid": pid})

    def _tell_dropped(self) -> None:
        names, self._dropped = self._dropped, []
        self._send({"drop": names})

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        if self._link is not None:
            self._link.send(message, fds)

    def _on_message(self, frame: Mapping[str, Any], fds: list[int]) -> None:
        if "exited" in frame:
            self._on_exited(int(frame["exited"]), Exited(int(frame["status"]), int(frame["at"])))
        elif "link" in frame and len(fds) == 1:
            self._on_link(socket.socket(fileno=fds.pop()))
        for fd in fds:
            os.close(fd)


def _go_on() -> None:
    """The forkserver is gone; a running task does not need it."""
