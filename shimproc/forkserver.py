"""Forks shims in about a millisecond, is their parent, and outlives the daemon.

``python -m shimproc.forkserver STATE``: takes the lock ``STATE/forkserver.lock``, goes into the background once it
listens, serves ``STATE/forkserver.sock`` to peers of its own uid or root, and runs until it is told to end or has been idle
without daemon and shims. It has imported what a shim needs, and nothing else, and frozen it (gc.freeze), so that a
forked shim shares almost all of its memory. As subreaper it inherits the init of a shim that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from shimproc import linux, shim
from shimproc.errors import InvalidArgument, ShimyardError, Unavailable, to_map
from shimproc.link import Link
from shimproc.loop import READ, Loop
from shimproc.messages import Fork, Shutdown, request_of

log = logging.getLogger(__name__)
SOCKET = "forkserver.sock"
LOCK = "forkserver.lock"
_FIRST_FD = 3
_LOCK_SECONDS = 10
_LAST_FD = 0xFFFFFFFF


class ForkServer:
    """One per state folder."""

    def __init__(self, listener: socket.socket, lock: int) -> None:
        self._loop = Loop()
        self._listener = listener
        self._lock = lock
        self._links: set[Link] = set()
        self._shims: dict[int, str] = {}
        self._loop.watch(listener.fileno(), READ, self._on_connection)
        self._loop.on_signal(signal.SIGCHLD, self._reap)

    def run(self) -> None:
        """Serve until told to end, or until there is nobody left to serve."""
        self._loop.run()

    def _on_connection(self, _: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return
        _, uid, _ = linux.peer_credentials(sock)
        if uid not in (0, os.getuid()):
            sock.close()
            return

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
            if not isinstance(request, Fork) or len(fds) != 1:
                raise InvalidArgument("the forkserver takes fork with one descriptor")
            pid = self._fork(request, fds[0])
        except (ShimyardError, OSError) as error:
            link.send({"a": number, "error": to_map(error)})
            return
        finally:
            for fd in fds:
                os.close(fd)
        pidfd = os.pidfd_open(pid)
        try:
            link.send({"a": number, "ok": {"pid": pid}}, [pidfd])
        finally:
            os.close(pidfd)

    def _fork(self, request: Fork, link_fd: int) -> int:
        try:
            pid = os.fork()
        except OSError as error:
            raise Unavailable(f"fork of a shim failed: {error.strerror}; raise the limit of processes or memory") from error
        if pid == 0:
            self._become_shim(request, link_fd)
        self._shims[pid] = request.bundle
        return pid

    def _become_shim(self, request: Fork, link_fd: int) -> NoReturn:
        """In the child: let go of all that is the forkserver's, then live as a shim. Never returns."""
        status = 1
        try:
            self._let_go()
            os.dup2(link_fd, _FIRST_FD, inheritable=False)
            linux.close_range(_FIRST_FD + 1, _LAST_FD)
            shim.main(request, socket.socket(fileno=_FIRST_FD))
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may climb back into the forkserver's loop
            _complain(request.bundle)
        finally:
            os._exit(status)

    def _let_go(self) -> None:
        """Python's own holders must forget their descriptors first, lest they close someone else's later."""
        self._loop.close()
        self._listener.detach()
        for link in self._links:
            link.close()

    def _reap(self) -> None:
        """Shims that ended are told of; an orphan that landed here is reaped."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if self._shims.pop(pid, None) is not None:
                for link in self._links:
                    link.send({"shim": pid, "status": os.waitstatus_to_exitcode(status)})
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._links and not self._shims:
            self._loop.stop()


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


def _listen(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - pathlib costs each shim memory
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def main(state: str) -> int:
    """Serve ``state``; 0 when done."""
    os.chdir(state)
    lock = _lock(LOCK)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        linux.set_name("shim-forkserver")
    listener = _listen(SOCKET)
    if os.fork():  # whoever spawned us learns by our end that the orphan listens
        os._exit(0)
    linux.set_child_subreaper()  # not inherited by a fork (prctl(2))
    server = ForkServer(listener, lock)
    gc.collect()
    gc.freeze()
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
