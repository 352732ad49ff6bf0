"""Forks shims in about a millisecond, is their parent, and outlives the daemon.

``python -m shimproc.forkserver STATE``: takes the lock ``STATE/forkserver.lock``, goes into the background once it
listens, serves ``STATE/forkserver.sock`` to peers of its own uid or root, and runs until it is told to end or has been idle
without daemon and shims. It has imported what a shim needs, and nothing else, and frozen it (gc.freeze), so that a
forked shim shares almost all of its memory.

A shim that is killed is followed by another: as subreaper the forkserver inherits the init and learns its status, it has kept
duplicates of the task's descriptors, so no pipe breaks, and the new shim finds the rest in the bundle (``Service.adopt``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from shimproc import linux, shim
from shimproc.crash import point
from shimproc.door import Door, connect_in, listening
from shimproc.errors import InvalidArgument, NotFound, ShimyardError, Unavailable, scarce, to_map
from shimproc.link import Link
from shimproc.loop import READ, Loop
from shimproc.messages import Fork, Shutdown, request_of
from shimproc.process.estate import Estate
from shimproc.reaper import Exited, exit_status
from shimproc.ward import Ward, carried_over, close_all, listed

log = logging.getLogger(__name__)
SOCKET = "forkserver.sock"
LOCK = "forkserver.lock"
_MOST_DEATHS = 100
_BACKLOG = 64
_RETRY_SECONDS = 1.0
_FIRST_SECONDS = 20.0
_STRANGERS = 1024
_LOCK_SECONDS = 10


class ForkServer:
    """One per state folder."""

    def __init__(self, listener: socket.socket, lock: int) -> None:
        self._loop = Loop()
        self._door = Door(self._loop, listener, self._on_connection)
        self._lock = lock
        self._links: set[Link] = set()
        self._wards: dict[int, Ward] = {}
        self._bundles: dict[str, Ward] = {}
        self._members: dict[int, Ward] = {}
        self._bereft: dict[str, Ward] = {}
        self._silent: set[str] = set()
        self._strangers: dict[int, Exited] = {}
        self._loop.on_signal(signal.SIGCHLD, self._reap)

    def run(self) -> None:
        """Serve until told to end, or until there is nobody left to serve; whoever has started it may have been killed."""
        self._loop.call_later(_FIRST_SECONDS, self._end_if_idle)
        self._loop.run()

    def gather(self) -> None:
        """The shims of a former forkserver: whatever they need kept is kept here from now on."""
        for namespace in listed("tasks"):
            for name in listed(f"tasks/{namespace}"):
                self._look_for(f"{os.getcwd()}/tasks/{namespace}/{name}")  # noqa: PTH109 - pathlib costs memory

    def _look_for(self, bundle: str) -> Ward | None:
        """The shim of a bundle, if one that we have not forked lives there; one that takes nobody in is tried again."""
        self._silent.discard(bundle)
        try:
            ward = self._take_in(bundle)
        except BlockingIOError:
            self._silent.add(bundle)
            self._loop.call_later(_RETRY_SECONDS, lambda: self._look_again(bundle))
        except OSError:
            log.debug("no shim lives in %s", bundle)
        else:
            point("forkserver: former shim taken in")
            return ward
        return None

    def _look_again(self, bundle: str) -> None:
        if bundle in self._silent:
            self._look_for(bundle)
            self._end_if_idle()

    def _take_in(self, bundle: str) -> Ward:
        sock = connect_in(bundle, shim.SOCKET)
        pid, _, _ = linux.peer_credentials(sock)
        pidfd = os.pidfd_open(pid)

        def on_message(frame: dict[str, Any], fds: list[int]) -> None:
            self._on_shims_message(ward, frame, fds)

        ward = Ward(Fork(bundle, ""), pid, Link(self._loop, sock, on_message, _nothing), pidfd=pidfd)
        self._wards[pid] = self._bundles[bundle] = ward
        self._loop.watch(pidfd, READ, lambda _: self._on_strangers_end(ward))
        ward.line.send({"line": True})
        return ward

    def _on_strangers_end(self, ward: Ward) -> None:
        """It is no child of ours: no status, but it has said so if it left on purpose."""
        assert ward.pidfd is not None
        self._loop.unwatch(ward.pidfd)
        os.close(ward.pidfd)
        del self._wards[ward.pid]
        ward.line.read()
        self._on_shims_end(ward, 0 if ward.left else signal.SIGKILL)
        self._end_if_idle()

    # -- daemons

    def _on_connection(self, sock: socket.socket) -> None:
        def on_message(frame: dict[str, Any], fds: list[int]) -> None:
            self._on_message(link, frame, fds)

        def on_close() -> None:
            self._links.discard(link)
            self._end_if_idle()

        link = Link(self._loop, sock, on_message, on_close)
        self._links.add(link)

    def _on_message(self, link: Link, frame: Mapping[str, Any], fds: list[int]) -> None:
        number = frame.get("q")
        try:
            request = request_of(frame)
            if isinstance(request, Shutdown):
                self._loop.stop()
                return
            if not isinstance(request, Fork):
                raise InvalidArgument("the forkserver takes fork, with one descriptor")
            if len(fds) != 1:  # recvmsg(2), MSG_CTRUNC: it had room for none
                raise scarce(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "the forkserver can take no more links")
            pid = self._serve(request, fds.pop())
            fds.append(_pidfd_of_shim(pid))  # if not: the shim ends by itself, as its daemon lets go of the link
            link.send({"a": number, "ok": {"pid": pid}}, fds)
        except (ShimyardError, OSError) as error:
            link.send({"a": number, "error": to_map(error)})
        finally:
            close_all(fds)

    def _serve(self, request: Fork, link_fd: int) -> int:
        """The pid of the shim that serves the link from now on; the descriptor is closed here."""
        try:
            if not request.adopt:
                return self._fork(request, link_fd, None).pid
            if (dead := self._bereft.pop(request.bundle, None)) is not None:
                return self._succeed(dead, link_fd).pid
            if (ward := self._bundles.get(request.bundle) or self._look_for(request.bundle)) is not None:
                ward.line.send({"link": True}, [link_fd])
                return ward.pid
            self._refuse_what_may_not_be(request.bundle)
            return self._fork(request, link_fd, Estate()).pid
        finally:
            os.close(link_fd)

    def _refuse_what_may_not_be(self, bundle: str) -> None:
        """A shim follows only one that is proved dead, and only where there is something to go on with."""
        if bundle in self._silent:
            raise Unavailable(f"the shim of {bundle} lives, and takes no connection", {"silent": True})
        if not os.path.isdir(bundle):  # noqa: PTH112 - pathlib costs each shim memory
            raise NotFound(f"the bundle {bundle} is gone: somebody has removed it", {"bundle": bundle})

    # -- shims

    def _fork(self, request: Fork, link_fd: int | None, estate: Estate | None) -> Ward:
        point("forkserver: asked for a shim")
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise scarce(error, "a shim cannot be made") from error
        try:
            pid = self._born(request, link_fd, theirs, estate)
        except OSError as error:
            ours.close()
            theirs.close()
            raise scarce(error, "a shim cannot be forked") from error
        point("forkserver: shim forked")
        theirs.close()

        def on_message(frame: dict[str, Any], fds: list[int]) -> None:
            self._on_shims_message(ward, frame, fds)

        ward = Ward(request, pid, Link(self._loop, ours, on_message, _nothing))
        self._wards[pid] = self._bundles[request.bundle] = ward
        return ward

    def _born(self, request: Fork, link_fd: int | None, line: socket.socket, estate: Estate | None) -> int:
        """The pid of a child that lives as a shim. ``OSError`` of fork(2)."""
        pid = os.fork()
        if pid == 0:
            self._become_shim(request, link_fd, line, estate)
        return pid

    def _become_shim(
        self, request: Fork, link_fd: int | None, line: socket.socket, estate: Estate | None
    ) -> NoReturn:
        """In the child: let go of all that is the forkserver's, then live as a shim. Never returns."""
        status = 1
        try:
            self._let_go()
            shim.main(request, carried_over(link_fd, line, estate))
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may climb back into the forkserver's loop
            _complain(request.bundle)
        finally:
            os._exit(status)

    def _let_go(self) -> None:
        """Python's own holders must forget their descriptors first, lest they close someone else's later."""
        self._loop.close()
        self._door.forget()
        for link in self._links:
            link.close()
        for ward in self._wards.values():
            ward.line.close()

    def _on_shims_message(self, ward: Ward, frame: Mapping[str, Any], fds: list[int]) -> None:
        if "keep" in frame:
            names, pid = frame["keep"], int(frame["pid"])
            ward.keep(names, fds[: len(names)], pid)
            fds = fds[len(names) :]
            if pid in self._strangers:  # it ended before it was known
                self._tell_end(ward, pid, self._strangers.pop(pid))
            elif pid:
                self._members[pid] = ward
        if "ward" in frame:
            ward.request = Fork.from_map(frame["ward"])
        ward.left = ward.left or "leave" in frame
        for name in frame.get("drop", ()):
            ward.drop(name)
        if "forget" in frame:
            ward.forget(int(frame["pid"]), str(frame["forget"]))
            self._members.pop(int(frame["pid"]), None)
        for fd in fds:
            os.close(fd)

    # -- deaths

    def _reap(self) -> None:
        """Shims that ended are told of, and followed if they were killed; of what was inherited the status is passed on."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ward = self._wards.pop(pid, None)
            if ward is None:
                self._on_orphan(pid, status)
            else:
                self._on_shims_end(ward, status)
        self._end_if_idle()

    def _on_orphan(self, pid: int, status: int) -> None:
        ended = Exited(exit_status(status), time.time_ns())
        ward = self._members.pop(pid, None)
        if ward is None:  # perhaps of a shim whose last words are not read yet
            self._strangers[pid] = ended
            if len(self._strangers) > _STRANGERS:
                del self._strangers[next(iter(self._strangers))]
        else:
            self._tell_end(ward, pid, ended)

    def _tell_end(self, ward: Ward, pid: int, ended: Exited) -> None:
        ward.exits[pid] = ended
        ward.line.send({"exited": pid, "status": ended.status, "at": ended.at})

    def _on_shims_end(self, ward: Ward, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        for link in self._links:
            link.send({"shim": ward.pid, "status": code})
        ward.line.read()  # what it has told last
        ward.line.close()
        newest = self._bundles.get(ward.request.bundle) is ward  # else one was made anew in the same place meanwhile
        if newest:
            del self._bundles[ward.request.bundle]
        for member in ward.members:
            self._members.pop(member, None)
            if (ended := self._strangers.pop(member, None)) is not None:
                ward.exits[member] = ended
        if newest and code != 0 and ward.deaths < _MOST_DEATHS:
            self._members |= dict.fromkeys(ward.members - ward.exits.keys(), ward)
            self._bereft[ward.request.bundle] = ward
            self._follow(ward)
        else:
            close_all(ward.kept.values())

    def _follow(self, dead: Ward) -> None:
        """A new shim for what a killed one has left. Its pipes stay open until there can be one: so long the task goes on."""
        if self._bereft.pop(dead.request.bundle, None) is not dead:
            return
        point("forkserver: shim to be followed")
        if not os.path.isdir(dead.request.bundle):  # noqa: PTH112 - pathlib costs each shim memory
            for member in dead.members:
                self._members.pop(member, None)
            close_all(dead.kept.values())
            self._end_if_idle()
            return
        try:
            self._succeed(dead, None)
        except ShimyardError as error:
            log.error("%s", error)

    def _succeed(self, dead: Ward, link_fd: int | None) -> Ward:
        """The next shim; it gets duplicates, as it may be killed, too. ``ShimyardError``: it is tried again."""
        estate = dead.estate(self._strangers)
        try:
            ward = self._fork(dataclasses.replace(dead.request, adopt=True), link_fd, estate)
        except ShimyardError:
            self._bereft[dead.request.bundle] = dead
            self._loop.call_later(_RETRY_SECONDS, lambda: self._follow(dead))
            raise
        finally:
            for pidfd in estate.pidfds.values():
                os.close(pidfd)
        point("forkserver: successor forked")
        ward.inherit(dead)
        self._members |= dict.fromkeys(ward.members - ward.exits.keys(), ward)
        return ward

    def _end_if_idle(self) -> None:
        if not self._links and not self._wards and not self._bereft and not self._silent:
            self._loop.stop()


def _pidfd_of_shim(pid: int) -> int:
    """A shim that is no child of ours may be gone, and that not be heard yet: then there is another in a moment."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise Unavailable(f"the shim {pid} has just ended", {"again": True}) from error


def _nothing() -> None:
    """Its death is told by SIGCHLD."""


def _complain(bundle: str) -> None:
    with contextlib.suppress(OSError), open(os.path.join(bundle, shim.LOG), "a") as out:  # noqa: PTH118, PTH123
        traceback.print_exc(file=out)


def _lock(path: str) -> int:
    """Take the lock; one that is just ending is waited for, a live one for ``_LOCK_SECONDS`` (then SIGALRM ends us)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    signal.alarm(_LOCK_SECONDS)
    fcntl.flock(fd, fcntl.LOCK_EX)
    signal.alarm(0)
    return fd


def main(state: str) -> int:
    """Serve ``state``; 0 when done."""
    os.chdir(state)
    lock = _lock(LOCK)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        linux.set_name("shim-forkserver")
    listener = listening(SOCKET, _BACKLOG)
    if os.fork():  # whoever spawned us learns by our end that the orphan listens
        os._exit(0)
    linux.set_child_subreaper()  # not inherited by a fork (prctl(2))
    server = ForkServer(listener, lock)
    server.gather()
    gc.collect()
    gc.freeze()
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
