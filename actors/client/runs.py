"""``client.run``: a command in a container of its own, in the habit of ``subprocess.run``; here is all of it but the asking.

Underneath it is one ``tasks.run`` with ``rm``, ``wait`` and ``capture``, so that nothing is half-done whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict

from actors.records import Exit, Map, Mount, RunResult, Runtime, Stdio, Stop
from actors.specs import default_spec, host_rootfs
from shimproc.errors import InvalidArgument

CAPTURE: Final = 8 << 20
PLAIN: Final = "process"


class RunOptions(TypedDict, total=False):
    """What ``run`` takes beside its command, for type checkers and editors; see ``Client.run``."""

    input: bytes | str | None
    check: bool
    timeout: float | None
    env: Mapping[str, str] | None
    cwd: str | os.PathLike[str] | None
    name: str | None
    runtime: str | Runtime | None
    spec: Map | None
    rootfs: Sequence[Mount] | None
    labels: Mapping[str, str] | None
    capture: int


@dataclass(frozen=True, slots=True)
class Options:
    """``RunOptions`` with what holds for those that are not given."""

    input: bytes | str | None = None
    check: bool = False
    timeout: float | None = None
    env: Mapping[str, str] | None = None
    cwd: str | os.PathLike[str] | None = None
    name: str | None = None
    runtime: str | Runtime | None = None
    spec: Map | None = None
    rootfs: Sequence[Mount] | None = None
    labels: Mapping[str, str] | None = None
    capture: int = CAPTURE


@dataclass(frozen=True, slots=True)
class CompletedTask:
    """How it went. ``returncode`` is 0 to 255; death by a signal is 128 + its number. ``truncated``: more was written."""

    args: Sequence[str]
    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    exit: Exit

    def check_returncode(self) -> None:
        """``TaskFailed`` unless it was 0."""
        if self.returncode:
            raise TaskFailed(self)


class TaskFailed(Exception):  # noqa: N818 - what happened, as subprocess.TimeoutExpired is named
    """The command ran, and its status was not 0. ``result`` has it all."""

    def __init__(self, result: CompletedTask) -> None:
        last = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        why = result.exit.reason or last
        super().__init__(f"{' '.join(result.args)}: exit status {result.returncode}" + (f" ({why})" if why else ""))
        self.result = result


class TaskTimeout(TaskFailed):
    """Its time was over, so it was stopped; ``result`` has what it wrote until then."""


def runtime_of(options: Options, default: str) -> Runtime:
    """The runtime that it will have: what may be in a spec depends on it."""
    if isinstance(options.runtime, Runtime):
        return options.runtime
    return Runtime(options.runtime or default)


def params_of(args: Sequence[str], options: Options, runtime: Runtime, stdin: str) -> dict[str, Any]:
    """The params of ``tasks.run``. A spec of the caller's own is taken as it is, with what the options say on top."""
    if isinstance(args, str) or not args:
        raise InvalidArgument("args: expected a list of words, such as ['echo', 'hello']; for a shell: ['sh', '-c', '...']")
    plain = runtime.name == PLAIN
    spec = dict(options.spec) if options.spec is not None else dict(default_spec(list(args), host=plain))
    process = spec["process"] = dict(spec.get("process") or {})
    process["args"] = list(args)
    if options.env is not None:
        own = [entry for entry in process.get("env") or () if entry.partition("=")[0] not in options.env]
        process["env"] = own + [f"{name}={value}" for name, value in options.env.items()]
    if options.cwd is not None:
        process["cwd"] = os.fspath(options.cwd)
    rootfs = options.rootfs
    if rootfs is None:
        rootfs = () if plain or options.spec is not None else host_rootfs()
    return {
        "id": options.name or f"run-{os.urandom(6).hex()}",
        "spec": spec,
        "rootfs": tuple(rootfs),
        "runtime": runtime,
        "stdio": Stdio(stdin=stdin),
        "labels": options.labels,
        "timeout": options.timeout,
        "stop": Stop("SIGKILL", 0.0),  # at its timeout, as subprocess.run has it
        "rm": True,
        "wait": True,
        "capture": options.capture,
    }


class Input:
    """The command's stdin as a file that the shim opens; gone when the run is over."""

    def __init__(self, content: bytes | str | None) -> None:
        self._path: Path | None = None
        self._content = content.encode() if isinstance(content, str) else content

    def __enter__(self) -> str:
        if self._content is None:
            return ""
        import tempfile  # noqa: PLC0415 - heavy, and only for a run with input

        fd, path = tempfile.mkstemp(prefix="shimyard-input-")
        self._path = Path(path)
        with os.fdopen(fd, "wb") as file:
            file.write(self._content)
        return f"file://{path}"

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def completed(args: Sequence[str], options: Options, answer: RunResult) -> CompletedTask:
    """The result; raises ``TaskTimeout``, and with ``check`` ``TaskFailed``."""
    result = CompletedTask(
        list(args),
        answer.exit.exit_status,
        answer.stdout or b"",
        answer.stderr or b"",
        bool(answer.truncated),
        answer.exit,
    )
    if answer.exit.reason == "timeout":
        raise TaskTimeout(result)
    if options.check:
        result.check_returncode()
    return result
