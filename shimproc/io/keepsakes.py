"""Descriptors that outlive a killed shim: the forkserver keeps duplicates, and the next shim goes on with them.

Without them a shim's death would break the task's pipes. Names: ``stdin.source`` and ``stdin.target`` (the named pipe and
the process's own), ``stdout`` and ``stderr`` (the reading ends), ``stdout.fifo`` and ``stderr.fifo`` (named pipes to clients),
``stdout.logger`` and ``stdout.logger.pid`` (a logger's pipe and pidfd),
``go`` and ``failed`` (a plain process that is held), ``console`` (a terminal's master). Those of an exec have its id and a
slash before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

STDIN = ("stdin.source", "stdin.target")
CONSOLE = "console"


class Keeper(Protocol):
    """Who keeps them."""

    def keep(self, pid: int, fds: Mapping[str, int]) -> None:
        """Duplicates of these, for as long as this shim or a later one is there. ``pid``: the process that they belong to,
        whose exit is to be collected if this shim dies; 0 while it is not made."""

    def drop(self, names: Sequence[str]) -> None:
        """These are closed now, and shall have no duplicate: somebody waits for the end of file."""

    def forget(self, pid: int, owner: str = "") -> None:
        """The exec ``owner`` has ended, that is journaled and its output delivered: nothing more of it is to be kept."""


class Nobody:
    """Keeps nothing: a service in the daemon has nobody behind it."""

    def keep(self, pid: int, fds: Mapping[str, int]) -> None:
        """Nothing."""

    def drop(self, names: Sequence[str]) -> None:
        """Nothing."""

    def forget(self, pid: int, owner: str = "") -> None:
        """Nothing."""


class ForExec:
    """A keeper for one exec: its names are told apart from those of init and of other execs."""

    def __init__(self, keeper: Keeper, exec_id: str) -> None:
        self._keeper = keeper
        self._exec_id = exec_id
        self._prefix = f"{exec_id}/"

    def keep(self, pid: int, fds: Mapping[str, int]) -> None:
        """See ``Keeper``."""
        self._keeper.keep(pid, {self._prefix + name: fd for name, fd in fds.items()})

    def drop(self, names: Sequence[str]) -> None:
        """See ``Keeper``."""
        self._keeper.drop([self._prefix + name for name in names])

    def forget(self, pid: int, owner: str = "") -> None:
        """See ``Keeper``."""
        self._keeper.forget(pid, owner or self._exec_id)


def taken_for(kept: dict[str, int], exec_id: str) -> dict[str, int]:
    """What of ``kept`` belongs to an exec, by its plain names; it is removed there."""
    prefix = f"{exec_id}/"
    names = [name for name in kept if name.startswith(prefix)]
    return {name.removeprefix(prefix): kept.pop(name) for name in names}
