"""Makes shims: asks the forkserver to fork one, starting the forkserver when none is there; or in process (``no_shim``)."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka

from actors.shimlink import LocalShim, RemoteShim, ShimLink
from shimproc import forkserver, linux, shim
from shimproc.door import connect_in
from shimproc.errors import FailedPrecondition, Unavailable, from_map, scarce
from shimproc.flow import Pending
from shimproc.flow import start as begin
from shimproc.journal import Journal
from shimproc.link import Link
from shimproc.loop import LoopLike, after
from shimproc.messages import Fork, request_frame
from shimproc.reaper import Reaper

log = logging.getLogger(__name__)
FORKSERVER_LOG = "forkserver.log"
SILENT_SECONDS = 2.0
_TRIES = 20
"""Forkservers killed one after the other while they make one shim."""


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """``program``: what is run in place of the built-in forkserver module, a path or a name; "" for the built-in."""

    state: Path
    program: str = ""
    debug: bool = False


class Launcher:
    """One connection to the forkserver, made when first needed and again when it was lost."""

    def __init__(self, loop: LoopLike, reaper: Reaper, settings: LaunchSettings) -> None:
        self._loop = loop
        self._reaper = reaper
        self._settings = settings
        self._line: Link | None = None
        self._connecting: Pending[Link] | None = None
        self._asked: dict[int, Pending[tuple[int, int]]] = {}
        self._number = 0

    async def launch(self, bundle: Path, name: str, cgroup: str | None, owner: pykka.ActorRef[Any]) -> ShimLink:
        """A new shim for ``bundle``, linked to ``owner``. ``Unavailable`` if none can be made."""
        return await self._link(Fork(str(bundle), name, cgroup, _oom_score(), self._settings.debug), owner)

    async def adopt(self, bundle: Path, name: str, cgroup: str | None, owner: pykka.ActorRef[Any]) -> ShimLink:
        """A shim in place of one that is gone: the one that has taken over already, or a new one; or itself, if it is not. While
        one lives and takes no connection, this waits: it is not proved dead. ``NotFound`` if the bundle is gone."""
        request = Fork(str(bundle), name, cgroup, _oom_score(), self._settings.debug, adopt=True)
        while True:
            try:
                return await self._link(request, owner)
            except Unavailable as error:
                if not error.details.get("silent"):
                    raise
                log.warning("%s", error)
                await after(self._loop, SILENT_SECONDS)

    async def _link(self, request: Fork, owner: pykka.ActorRef[Any]) -> ShimLink:
        """A forkserver that is killed while it forks is followed by another; a shim that it made then finds no task, and ends."""
        for _ in range(_TRIES):
            try:
                return await self._try(request, owner)
            except Unavailable as error:
                if not error.details.get("again"):
                    raise
                log.warning("%s", error)
        raise Unavailable("every forkserver that was started has ended while it made a shim; see its log")

    async def _try(self, request: Fork, owner: pykka.ActorRef[Any]) -> ShimLink:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise scarce(error, "the daemon cannot make a link to a shim") from error
        try:
            link = await self._connected()
            pid, pidfd = await self._ask(link, request, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        made = RemoteShim(self._loop, owner, ours)
        made.watch(pid, pidfd)
        return made

    def launch_here(self, bundle: Path, owner: pykka.ActorRef[Any]) -> ShimLink:
        """The service without a process. The container's orphans, its init among them, become the daemon's children."""
        linux.set_child_subreaper()
        return LocalShim(self._loop, owner, self._reaper, Journal(str(bundle / shim.JOURNAL)))

    def reconnect(self, bundle: Path, owner: pykka.ActorRef[Any]) -> RemoteShim:
        """A new link to the shim that serves ``bundle``, at once. ``Unavailable`` if there is none; if there is one, and it has
        let so many wait that it cannot be asked, ``silent`` is in the details."""
        sock = _connected_to(bundle, shim.SOCKET)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            try:
                pid, _, _ = linux.peer_credentials(sock)
                pidfd = os.pidfd_open(pid)
                undo.callback(os.close, pidfd)
                if _is_closed(sock):
                    raise ProcessLookupError(pid)
            except OSError as error:
                raise Unavailable(f"the shim of {bundle} has ended") from error
            undo.pop_all()
        made = RemoteShim(self._loop, owner, sock)
        made.watch(pid, pidfd)
        return made

    def ensure(self) -> None:
        """Have a forkserver, before one is needed."""
        self._connected()

    def close(self) -> None:
        """Let go of the forkserver; it lives on while it has shims."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _ask(self, link: Link, request: Fork, end: socket.socket) -> Pending[tuple[int, int]]:
        self._number += 1
        answer: Pending[tuple[int, int]] = Pending()
        self._asked[self._number] = answer
        link.send(request_frame(self._number, request), [end.fileno()])
        return answer

    def _connected(self) -> Pending[Link]:
        if self._connecting is None:
            connecting = self._connecting = begin(self._connect())
            connecting.then(self._forget_failure)  # now, if it has failed already
            return connecting
        return self._connecting

    def _forget_failure(self, outcome: Pending[Link]) -> None:
        if outcome.error is not None:
            self._connecting = None

    async def _connect(self) -> Link:
        try:
            sock = _connected_to(self._settings.state, forkserver.SOCKET)
        except Unavailable as error:
            if error.details.get("silent"):
                raise
            await self._start_forkserver()
            sock = self._connected_to_new()
        self._line = Link(self._loop, sock, self._on_message, self._on_close)
        return self._line

    def _connected_to_new(self) -> socket.socket:
        """It listened when it was last heard of; one that was killed since then is followed by another."""
        try:
            return _connected_to(self._settings.state, forkserver.SOCKET)
        except Unavailable as error:
            raise Unavailable(error.message, {"again": True, **error.details}) from error

    def _on_message(self, frame: dict[str, Any], fds: list[int]) -> None:
        answer = self._asked.pop(frame.get("a", 0), None)
        if answer is not None and "ok" in frame and len(fds) == 1:
            answer.set((int(frame["ok"]["pid"]), fds[0]))
            return
        for fd in fds:
            os.close(fd)
        if answer is not None and "ok" in frame:  # the descriptor was lost on its way: recvmsg(2), MSG_CTRUNC
            answer.fail(scarce(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "there is no room for a shim's descriptor"))
        elif answer is not None:
            answer.fail(from_map(frame.get("error") or {}))

    def _on_close(self) -> None:
        """It ended or was killed: running tasks go on, and another keeps what theirs would break without."""
        self._line = self._connecting = None
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.fail(Unavailable("the forkserver ended while it made a shim", {"again": True}))
        self._loop.call_soon(self.ensure)

    async def _start_forkserver(self) -> None:
        """Spawn it. The process that we spawn ends when the real one, orphaned, in its own session, listens."""
        argv = [*self._program(), str(self._settings.state)]
        state = self._settings.state
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(state / FORKSERVER_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ]
        ignored = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        try:
            pid = os.posix_spawn(  # noqa: ASYNC221 - it returns at once
                argv[0], argv, dict(os.environ), file_actions=actions, setsid=True, setsigdef=ignored, setsigmask=()
            )
        except OSError as error:
            raise scarce(error, f"the forkserver cannot be started, or {state / FORKSERVER_LOG} not be opened") from error
        ended = await self._reaper.watch(pid)
        if ended.status != 0:
            raise Unavailable(
                f"the forkserver ended with status {ended.status}; {state / FORKSERVER_LOG} may say why",
                {"command": shlex.join(argv), "exit_status": ended.status},
            )

    def _program(self) -> list[str]:
        """The command; ``-P``: nothing is imported from the folder that the daemon happens to stand in."""
        if not self._settings.program:
            return [sys.executable, "-P", "-m", "shimproc.forkserver"]
        found = shutil.which(self._settings.program)
        if found is None:
            raise FailedPrecondition(f"shim: {self._settings.program!r} is no program; correct the config's `shim`")
        return [found]


def _connected_to(folder: Path, name: str) -> socket.socket:
    """``Unavailable`` if nobody is there; with ``silent`` in its details if somebody is, and takes nobody in."""
    try:
        return connect_in(str(folder), name)
    except BlockingIOError as error:
        raise Unavailable(f"whoever serves {folder / name} takes no connection", {"silent": True}) from error
    except OSError as error:
        raise Unavailable(f"nobody serves {folder / name}: {error.strerror}") from error


def _is_closed(sock: socket.socket) -> bool:
    """Is the peer gone? Asked once there is a pidfd of it: if not, then that is its own."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _oom_score() -> int:
    """The shim goes before the daemon when memory ends: the daemon's score + 1."""
    return min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 1)
