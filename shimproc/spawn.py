"""Runs a command to its end, without a fork of Python: posix_spawn(3) is a vfork in glibc.

The command is in a session of its own, so that no key pressed at the daemon's terminal reaches it, has every signal at
its default and none blocked, and holds nothing but its three descriptors: all others are close-on-exec (PEP 446).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shimproc.errors import ResourceExhausted, scarce
from shimproc.reaper import Reaper

_DEFAULT: Final = tuple(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP))
_OWN: Final = frozenset(
    ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")
)
"""What systemd tells the daemon (sd_notify(3), sd_listen_fds(3)): a runtime would hand it on to the container."""


@dataclass(frozen=True, slots=True)
class Command:
    """``stdin``, ``stdout``, ``stderr``: descriptors above 2. ``env``, ``umask``: this process's own if None."""

    argv: tuple[str, ...]
    stdin: int
    stdout: int
    stderr: int
    env: Mapping[str, str] | None = None
    umask: int | None = None


async def run(reaper: Reaper, command: Command) -> int:
    """Its exit status: 0 to 255, 128 + n for a signal.

    ``FailedPrecondition``, which names the command, when it cannot be started; ``ResourceExhausted`` when the host is at a bound;
    both with ``started: False`` in their details.
    """
    pid = _spawn(command)
    try:
        ended = reaper.watch(pid)
    except OSError as error:  # no descriptor for a pidfd: it is ours and not reaped, so the bare pid is still its own
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise ResourceExhausted(f"{command.argv[0]} was started and cannot be watched: {error.strerror}") from error
    return (await ended).status


def launch(argv: tuple[str, ...], fds: Mapping[int, int], env: Mapping[str, str]) -> int:
    """Start what goes on by itself; its pid, the caller's to reap.

    Parameters
    ----------
    fds : its number -> ours, which is above all of its numbers; 0, 1 and 2 are /dev/null. ``FailedPrecondition`` and
        ``ResourceExhausted`` as in ``run``.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _posix_spawn(argv, {0: null, 1: null, 2: null, **fds}, env)
    finally:
        os.close(null)


def environment() -> dict[str, str]:
    """This process's own, less what is the daemon's alone."""
    return {name: value for name, value in os.environ.items() if name not in _OWN}


def _spawn(command: Command) -> int:
    fds = dict(enumerate((command.stdin, command.stdout, command.stderr)))
    env = os.environ if command.env is None else command.env
    if command.umask is None:
        return _posix_spawn(command.argv, fds, env)
    before = os.umask(command.umask)
    try:
        return _posix_spawn(command.argv, fds, env)
    finally:
        os.umask(before)


def _posix_spawn(argv: tuple[str, ...], fds: Mapping[int, int], env: Mapping[str, str]) -> int:
    try:
        return os.posix_spawnp(
            argv[0],
            argv,
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in fds.items()],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT,
        )
    except OSError as error:
        failed = scarce(error, f"{argv[0]} cannot be started")
        raise type(failed)(failed.message, {"started": False}) from error
