"""A daemon that is started again whenever it dies, as a service manager would do it."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterator

from tests.support.daemon import Daemon, DaemonError


@contextlib.contextmanager
def followed(daemon: Daemon) -> Iterator[None]:
    """Inside, the daemon is started again when it has died, also when it dies while it starts; afterwards it runs."""
    over, tell = os.pipe()
    follower = threading.Thread(target=_follow, args=(daemon, over))
    follower.start()
    try:
        yield
    finally:
        os.close(tell)
        follower.join()
        os.close(over)


def _follow(daemon: Daemon, over: int) -> None:
    while not _ends_before(daemon.pid, over):
        assert daemon.process is not None
        daemon.process.wait()
        daemon.process = None
        with contextlib.suppress(DaemonError):
            daemon.restart()
        if daemon.process is None:  # once more: who is told to die while it starts is told so once
            daemon.restart()


def _ends_before(pid: int, over: int) -> bool:
    """Does ``over`` come to its end before the process? Not yet reaped, so its pid is its own."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(over)
        return pidfd not in dict(poll.poll())
    finally:
        os.close(pidfd)
