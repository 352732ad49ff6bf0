"""Runs a command to its end, without a fork of Python: posix_spawn(3) is a vfork in glibc."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shimproc.errors import FailedPrecondition
from shimproc.reaper import Reaper

_DEFAULT: Final = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


@dataclass(frozen=True, slots=True)
class Command:
    """``stdin``, ``stdout``, ``stderr``: descriptors above 2. Every other descriptor is close-on-exec already."""

    argv: tuple[str, ...]
    stdin: int
    stdout: int
    stderr: int
    env: Mapping[str, str] | None = None


async def run(reaper: Reaper, command: Command) -> int:
    """Its exit status. ``FailedPrecondition`` when it cannot be started."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((command.stdin, command.stdout, command.stderr))]
    env = os.environ if command.env is None else command.env
    try:
        pid = os.posix_spawnp(
            command.argv[0], command.argv, env, file_actions=actions, setsigmask=(), setsigdef=_DEFAULT
        )
    except OSError as error:
        raise FailedPrecondition(f"{command.argv[0]} cannot be started: {error.strerror}") from error
    return (await reaper.watch(pid)).status
