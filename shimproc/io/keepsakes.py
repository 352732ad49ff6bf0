"""Descriptors that outlive a killed shim: the forkserver keeps duplicates, and the next shim goes on with them.

Without them a shim's death would break the task's pipes. Names: ``stdin.source`` and ``stdin.target`` (the named pipe and
the process's own), ``stdout`` and ``stderr`` (the reading ends), ``stdout.fifo`` and ``stderr.fifo`` (named pipes to clients),
``go`` and ``failed`` (a plain process that is held).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

STDIN = ("stdin.source", "stdin.target")


class Keeper(Protocol):
    """Who keeps them."""

    def keep(self, pid: int, fds: Mapping[str, int]) -> None:
        """Duplicates of these, for as long as this shim or a later one is there; ``pid`` is the init they belong to."""

    def drop(self, names: Sequence[str]) -> None:
        """These are closed now, and shall have no duplicate: somebody waits for the end of file."""


class Nobody:
    """Keeps nothing: a service in the daemon has nobody behind it."""

    def keep(self, pid: int, fds: Mapping[str, int]) -> None:
        """Nothing."""

    def drop(self, names: Sequence[str]) -> None:
        """Nothing."""
