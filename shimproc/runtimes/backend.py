"""What a shim asks of whatever makes its container's processes: an OCI runtime, or plain processes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shimproc.cgroups import Cgroup
from shimproc.io.console import Console
from shimproc.messages import Checkpoint


@dataclass(frozen=True, slots=True)
class Images:
    """A checkpoint to restore from. ``work_path``: where CRIU's log goes; ``options``: those that it was made with, by the
    names that ``Checkpoint`` has for them; ``outside``: what ``Backend.outside`` had told."""

    path: str
    work_path: str
    options: Mapping[str, Any]
    outside: Mapping[str, int]


class ExecFiles:
    """An exec's files in the bundle: ``process``, its OCI process as JSON, and ``pid_file``, once it is made."""

    def __init__(self, bundle: str, exec_id: str) -> None:
        self.bundle = bundle
        self.process = f"{bundle}/exec.{exec_id}.json"
        self.pid_file = f"{bundle}/exec.{exec_id}.pid"

    def write(self, process: Mapping[str, Any]) -> None:
        """The intent: what it shall be."""
        _write(self.process, json.dumps(process).encode())

    def write_pid(self, pid: int) -> None:
        """It is made."""
        _write(self.pid_file, str(pid).encode())

    def pid(self) -> int | None:
        """What the pid file says; None if it is not there, or not whole."""
        try:
            with open(self.pid_file, "rb") as file:  # noqa: PTH123 - pathlib costs the shim memory
                return int(file.read())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Remove them, as far as they are there."""
        self.unmake()
        unlink(self.process)

    def unmake(self) -> None:
        """It is not made, after all."""
        unlink(self.pid_file)


class Added(Protocol):
    """An exec: one more process of a container."""

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Make it with these as its 0, 1 and 2, or with a terminal; returns its pid, which is on disk by then (``made``).

        To be called while the reaper is ``expecting``. An OCI runtime's process runs from here on, a plain one is held.
        An error with ``details.kind`` ``not_found_executable`` or ``not_executable``: no program ran.
        """

    async def start(self) -> None:
        """Let it go, if it is held. Errors as those of ``create``."""

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """Descriptors without which the next shim could not go on."""

    def made(self) -> int | None:
        """After a shim's death: the pid of what it had made; None if it had not."""

    def adopt(self, kept: dict[str, int]) -> None:
        """Go on with what a killed shim made. ``kept``: its ``keepsakes``; those taken are removed."""

    def is_started(self) -> bool:
        """Was an adopted one let go?"""

    def let_go(self) -> None:
        """It is not wanted any more: a held one ends."""

    def ended(self) -> None:
        """It has ended, and is not reaped yet."""


class Backend(Protocol):
    """One container."""

    async def create(self, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Make init with these as its 0, 1 and 2, or with a terminal, held before the user's program; returns its pid.

        To be called while the reaper is ``expecting``. After a failure ``delete`` removes what there is of it.
        """

    def add(self, files: ExecFiles) -> Added:
        """One more process; what it shall be is written down already."""

    async def settle(self, seconds: float | None = None) -> None:
        """Let what was begun come to its end: by a killed shim, or by this one. ``seconds``: then a command of the runtime is
        killed; None for as long as its kind may take."""

    def adopt(self, pid: int, kept: dict[str, int]) -> None:
        """Go on with init ``pid``, which a killed shim made. ``kept``: its ``keepsakes``; those taken are removed."""

    async def is_started(self) -> bool:
        """Was an adopted init let go?"""

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """Descriptors without which the next shim could not go on."""

    @property
    def cgroup(self) -> Cgroup | None:
        """The cgroups that it has for its own, if any; once it is made."""

    async def start(self) -> None:
        """Let it go. An error with ``details.kind`` ``not_found_executable`` or ``not_executable``: no program ran."""

    async def pause(self) -> None:
        """Freeze every process of the container. ``Unimplemented``, and why, where that cannot be."""

    def thaw(self) -> None:
        """Let them go on, if they are frozen. What was sent SIGKILL needs it, too: on v1 a frozen process does not die."""

    def outside(self) -> Mapping[str, int]:
        """Files that its processes have open from outside of it, by CRIU's names; each with the number of the one of init's
        first three descriptors that stands for it."""

    async def checkpoint(self, request: Checkpoint, outside: Mapping[str, int]) -> None:
        """Write init and its descendants down; they go on, or are ended, as it says. ``Unimplemented``, and why, where that
        cannot be; a failure leaves them as they were, but perhaps frozen (``thaw``). ``outside``: told just before."""

    async def restore(self, images: Images, fds: tuple[int, int, int], console: Console | None = None) -> int:
        """Make init as a checkpoint has it, running; returns its pid. Otherwise like ``create``."""

    def restored(self) -> int | None:
        """After a shim's death: the pid of what it had restored; None if it had not, or not to the end."""

    async def update(self, resources: Mapping[str, Any]) -> None:
        """Change the limits of OCI ``linux.resources`` that are named."""

    async def delete(self, *, force: bool) -> None:
        """Remove what the runtime keeps of the container; that it keeps nothing is success."""

    def pids(self) -> list[int]:
        """Every process of the container now. Only until init is reaped."""

    def signal_all(self, number: int) -> None:
        """Signal every process of the container, without a fork. Only until init is reaped."""

    def kill_leftovers(self) -> None:
        """After init's exit: SIGKILL to what is left."""


def _write(path: str, data: bytes) -> None:
    """0600: an environment may hold secrets."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


def unlink(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - pathlib costs the shim memory
