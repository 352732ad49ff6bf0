"""A daemon in the background for ``shimyard run``, where there is none.

It is started in a session of its own, logs to ``ROOT/daemon.log``, and says itself when it is ready (sd_notify(3)). A lock
lets one command line start it while others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from actors.cli.connection import address_of, is_served, state_of
from actors.cli.output import say
from actors.config import load
from shimproc.errors import FailedPrecondition

READY_SECONDS: Final = 30.0
LOG: Final = "daemon.log"
_LOCK: Final = "start.lock"
_READY: Final = b"READY=1"


def start_daemon(arguments: Namespace) -> None:
    """Start one, and wait until it serves; ``FailedPrecondition`` with its last words if it does not."""
    state = state_of(arguments)
    log = load({"state": str(state)}).root / LOG
    try:
        for folder in (state, log.parent):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        with _only_one(state):
            if is_served(address_of(arguments)):  # another command line was faster
                return
            pid = _start(state, log)
    except OSError as error:
        raise FailedPrecondition(f"no daemon can be started: {error}; start one yourself: shimyard daemon") from error
    say(f"started a daemon in the background (pid {pid}, log {log}); stop it with: shimyard daemon stop")


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    lock = os.open(state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _start(state: Path, log: Path) -> int:
    ready_path = state / f"start-{os.getpid()}.sock"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
        open(log, "ab", opener=_private) as output,
    ):
        ready.bind(str(ready_path))
        try:
            begin = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "actors", "daemon", "--state", str(state)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "NOTIFY_SOCKET": str(ready_path)},
                start_new_session=True,
                cwd="/",
            )
            if not _is_ready(ready, process):
                process.kill()
                process.wait()
                raise FailedPrecondition(f"the daemon did not start: {_last_words(log, begin)}")
            return process.pid
        finally:
            ready_path.unlink(missing_ok=True)


def _is_ready(ready: socket.socket, process: subprocess.Popen[bytes]) -> bool:
    """Waits for its word, or for its end; False also when neither comes in time."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while found := dict(poll.poll(READY_SECONDS * 1000)):
            if ready.fileno() not in found:
                return False
            if _READY in ready.recv(4096).splitlines():
                return True
        return False
    finally:
        os.close(pidfd)


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read()[-4096:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{last.removeprefix('shimyard: ')} (log: {log})"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
