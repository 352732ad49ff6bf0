"""The shim process: one task's parent. Forked by the forkserver, one thread, no zmq, no asyncio.

It is its session's leader, a subreaper (init and orphans become its children), has a mount namespace of its own (what
it mounts goes with it) and serves ``shim.sock`` in the bundle to peers of its own uid or root. Its first link is a
socket that the daemon made, so nobody waits for the path socket to appear.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

from shimproc import linux, mounts
from shimproc.crash import point
from shimproc.door import Door, listening
from shimproc.journal import Journal
from shimproc.keeper import ForkserverLine
from shimproc.link import Link
from shimproc.loop import Loop
from shimproc.messages import Fork
from shimproc.process.estate import Estate
from shimproc.reaper import Reaper
from shimproc.service import Service

log = logging.getLogger(__name__)
SOCKET = "shim.sock"
JOURNAL = "journal"
LOG = "shim.log"
LOCK = "shim.lock"
_BACKLOG = 8


@dataclass(slots=True)
class Inherited:
    """What the forkserver gives its child: the daemon's link if one waits, its own line, and what a killed shim has left."""

    first: socket.socket | None
    line: socket.socket
    estate: Estate | None = None


class Shim:
    """Wires loop, reaper, journal, service and links."""

    def __init__(self, request: Fork, inherited: Inherited) -> None:
        loop = self._loop = Loop()
        reaper = Reaper(loop)
        loop.on_signal(signal.SIGCHLD, reaper.sweep)
        journal = Journal(os.path.join(request.bundle, JOURNAL))  # noqa: PTH118 - pathlib costs the shim memory
        self._request = request
        self._line = ForkserverLine(loop, self._adopt, reaper.learn)
        self._line.connect(Link(loop, inherited.line, _unread, _nothing))
        self._service = Service(loop, reaper, journal, self._line, loop.stop)
        self._link: Link | None = None
        # bound by a relative name: a bundle's path may be longer than the 107 bytes of sun_path (unix(7))
        self._door = Door(loop, listening(SOCKET, _BACKLOG), self._on_connection)
        if inherited.first is not None:
            self._adopt(inherited.first)
        if inherited.estate is not None:
            self._service.adopt(request.bundle, inherited.estate)

    def run(self) -> None:
        """Serve until the task is deleted."""
        self._loop.run()
        self._line.leave()

    def _on_connection(self, sock: socket.socket) -> None:
        link = Link(self._loop, sock, lambda frame, _fds: self._on_first(link, frame), _nothing)

    def _on_first(self, link: Link, frame: dict[str, Any]) -> None:
        """A daemon asks something; a new forkserver says that it is one."""
        if "line" not in frame:
            self._serve(link)
            self._service.receive(frame)
            return
        self._line.connect(link)
        self._line.introduce(self._request)
        self._service.entrust()

    def _adopt(self, sock: socket.socket) -> None:
        self._serve(Link(self._loop, sock, _unread, _nothing))

    def _serve(self, link: Link) -> None:
        """The newest link is the daemon's: an older one belongs to a daemon that is gone."""
        if self._link is not None:
            self._link.close()
        self._link = link
        link.hand_over(lambda frame, _fds: self._service.receive(frame), self._on_close)
        self._service.attach(link.send)

    def _on_close(self) -> None:
        self._link = None
        self._service.detach()


def _unread(_frame: dict[str, Any], _fds: list[int]) -> None:
    """Nothing has come yet: the link is handed over at once."""


def _nothing() -> None:
    """Somebody came, and went without a word."""


def take_place() -> bool:
    """Is this the bundle's only shim? The place is taken until this process ends, and whoever comes meanwhile has to go.

    A forkserver that is killed right after it has forked a shim leaves one that the next forkserver does not know of. The lock
    (F_SETLK in fcntl(2)) is no child's, and gone with its holder before anyone hears of that one's end.
    """
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True


def main(request: Fork, inherited: Inherited) -> None:
    """The life of a shim, in the forked child; returns when it is over. Everything else is closed already."""
    os.setsid()
    os.umask(0o022)
    _settle_signals()
    linux.set_child_subreaper()
    with contextlib.suppress(OSError):
        linux.set_name(f"shim:{request.name}"[:15])
    _join_cgroup(request.cgroup)
    _adjust_oom(request.oom_score_adj)
    mounts.private_namespace()
    os.chdir(request.bundle)
    point("shim: born")
    if request.debug:
        logging.basicConfig(filename=LOG, level=logging.DEBUG, force=True, format="%(asctime)s %(name)s %(message)s")
    if take_place():
        Shim(request, inherited).run()


def _settle_signals() -> None:
    """A shim ends when its task is deleted, by nothing less than SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _join_cgroup(path: str | None) -> None:
    if path is None:
        return
    with open(os.path.join(path, "cgroup.procs"), "w") as procs:  # noqa: PTH118, PTH123
        procs.write("0")


def _adjust_oom(score: int | None) -> None:
    if score is None:
        return
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as adj:  # noqa: PTH123
        adj.write(str(score))
