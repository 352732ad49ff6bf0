"""``client.exec``: a command in a running task, in the habit of ``subprocess.run``; here is all of it but the asking.

Its output goes through a managed log of its own, so that nothing is lost whatever happens to the daemon or this process, and
however fast it writes; the log goes with the exec.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from actors.client.calls import Tasks, Wanted, log_params
from actors.client.cursors import LogCursor
from actors.client.runs import CAPTURE, CompletedTask, TaskTimeout
from actors.records import Exit, LogChunk, Map, Process, Stdio, Task
from actors.specs import every_capability
from actors.users import resolve_user
from shimproc.errors import InvalidArgument

_PASSED_ON: Final = (
    *("env", "cwd", "user", "capabilities", "noNewPrivileges", "rlimits"),
    *("apparmorProfile", "selinuxLabel", "oomScoreAdj", "ioPriority", "scheduler"),
)


class ExecOptions(TypedDict, total=False):
    """What ``exec`` takes beside task and command, for type checkers and editors; see ``Client.exec``."""

    input: bytes | str | None
    check: bool
    timeout: float | None
    env: Mapping[str, str] | None
    cwd: str | os.PathLike[str] | None
    user: str | int | Map | None
    privileged: bool
    name: str | None
    capture: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """``ExecOptions`` with what holds for those that are not given."""

    input: bytes | str | None = None
    check: bool = False
    timeout: float | None = None
    env: Mapping[str, str] | None = None
    cwd: str | os.PathLike[str] | None = None
    user: str | int | Map | None = None
    privileged: bool = False
    name: str | None = None
    capture: int = CAPTURE


def made_up_exec_id() -> str:
    """One that nobody has."""
    return f"exec-{os.urandom(6).hex()}"


def process_of(spec: Map, args: Sequence[str], chosen: Chosen, task: Task) -> dict[str, Any]:
    """An OCI process for an exec: as the container's own is, but for the command and what is chosen.

    Parameters
    ----------
    task : its files tell who a user is, and its shim what privileges there are.
    """
    if isinstance(args, str) or not args:
        raise InvalidArgument("args: expected a list of words, such as ['ls', '/']; for a shell: ['sh', '-c', '...']")
    own = spec.get("process") or {}
    process: dict[str, Any] = {name: own[name] for name in _PASSED_ON if name in own}
    process |= {"args": list(args), "cwd": own.get("cwd") or "/"}
    if chosen.env is not None:
        kept = [entry for entry in own.get("env") or () if entry.partition("=")[0] not in chosen.env]
        process["env"] = kept + [f"{name}={value}" for name, value in chosen.env.items()]
    if chosen.cwd is not None:
        process["cwd"] = os.fspath(chosen.cwd)
    if isinstance(chosen.user, Mapping):
        process["user"] = dict(chosen.user)
    elif chosen.user is not None:
        process["user"] = dict(resolve_user(str(chosen.user), Path("/proc", str(task.pid), "root")))
    if chosen.privileged:
        process |= {"capabilities": every_capability(task.shim_pid), "noNewPrivileges": False}
    return process


class Execution:
    """One exec with its output captured: what to ask, one after the other, and what has come of it."""

    def __init__(self, id: str, process: Map, chosen: Chosen, stdin: str) -> None:  # noqa: A002
        self._id = id
        self._process = process
        self._chosen = chosen
        self._stdio = Stdio(stdin, "log:", "log:")
        self._exec_id = chosen.name or made_up_exec_id()
        self._kept = {"stdout": bytearray(), "stderr": bytearray()}
        self._truncated = False
        self.is_late = False
        self.cursor = LogCursor(log_params(id, self._exec_id, follow=True, tail=None, since=None))

    def add(self) -> Wanted[Process]:
        """The first."""
        return Tasks.exec(self._id, self._exec_id, self._process, stdio=self._stdio)

    def start(self) -> Wanted[Any]:
        """The second; from then on ``cursor`` reads what it writes, to its end."""
        return Tasks.start(self._id, exec_id=self._exec_id)

    def take(self, piece: LogChunk) -> None:
        """A piece of output."""
        kept = self._kept[piece.stream]
        room = self._chosen.capture - len(kept)
        kept += piece.data[:room] if room > 0 else b""
        self._truncated = self._truncated or len(piece.data) > room

    def kill(self) -> Wanted[None]:
        """Its time is over."""
        return Tasks.kill(self._id, "SIGKILL", exec_id=self._exec_id)

    def wait(self) -> Wanted[Exit]:
        """How it ended."""
        return Tasks.wait(self._id, exec_id=self._exec_id)

    def remove(self) -> Wanted[Exit]:
        """The last. ``FailedPrecondition`` while it runs."""
        return Tasks.delete_process(self._id, self._exec_id)

    def completed(self, ended: Exit) -> CompletedTask:
        """The result; raises ``TaskTimeout``, and with ``check`` ``TaskFailed``."""
        stdout, stderr = (bytes(self._kept[stream]) for stream in ("stdout", "stderr"))
        result = CompletedTask(self._process["args"], ended.exit_status, stdout, stderr, self._truncated, ended)
        if self.is_late:
            raise TaskTimeout(result)
        if self._chosen.check:
            result.check_returncode()
        return result
