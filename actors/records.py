"""The public data of API.md section 3, as frozen records. Field names are the wire's names; times are ns since the epoch.

``actors.shape`` turns maps into these and back; server and clients use the same records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Map = Mapping[str, Any]
"""A map that is passed on as it came: an OCI spec, an event's body."""
HEALTH_EXECS = "health-"
"""The ids of the execs that probe a task's health begin so."""
LEFT_OUT = "left_out"
"""Metadata of a field that the wire's map does not have while it is None."""


def _left_out() -> Any:
    return field(default=None, metadata={LEFT_OUT: True})


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount over the bundle's rootfs, as mount(8) takes it."""

    type: str
    source: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a process's streams go: ``""``, ``/fifo``, ``fifo:///path``, ``file:///path`` or ``log:``."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What a runtime takes beside its name."""

    root: str | None = None
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    systemd_cgroup: bool = False
    criu_path: str | None = None
    shim_cgroup: str | None = None
    no_shim: bool | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """Which runtime runs a container; no name is the daemon's default."""

    name: str = ""
    options: RuntimeOptions = RuntimeOptions()


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart policy: ``no``, ``always``, ``on-failure`` or ``unless-stopped``."""

    policy: str = "no"
    max_retries: int | None = None
    backoff: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """How a task is stopped: the signal that asks, the seconds until SIGKILL."""

    signal: str | int = "SIGTERM"
    grace: float = 10.0


@dataclass(frozen=True, slots=True)
class Health:
    """A health probe run inside the task; times in seconds."""

    args: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0


@dataclass(frozen=True, slots=True)
class Namespace:
    """A room of its own for containers and tasks."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """What a task is made from; it outlives its tasks."""

    id: str
    namespace: str
    spec: Map
    rootfs: tuple[Mount, ...] = ()
    runtime: Runtime = Runtime()
    stdio: Stdio = Stdio()
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: Restart | None = None
    stop: Stop | None = None
    timeout: float | None = None
    health: Health | None = None
    created_at: int = 0
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """An exec of a task."""

    id: str
    task_id: str
    status: str
    pid: int
    exit_status: int | None
    exited_at: int | None
    stdio: Stdio


@dataclass(frozen=True, slots=True)
class Task:
    """A container's running side. ``status``: creating created running pausing paused stopped deleting."""

    id: str
    namespace: str
    status: str
    pid: int
    exit_status: int | None
    exited_at: int | None
    created_at: int
    started_at: int | None
    stdio: Stdio
    bundle: str
    runtime: Runtime
    shim_pid: int
    execs: tuple[Process, ...] = ()
    restarts: int = 0
    shim: str = "alive"
    health: Map | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: 0 to 255; death by a signal is 128 + its number. ``reason`` where it was not its own doing."""

    id: str
    pid: int
    exit_status: int
    exited_at: int
    reason: str | None = _left_out()


@dataclass(frozen=True, slots=True)
class RunResult:
    """What ``tasks.run`` with ``wait`` answers."""

    task: Task
    exit: Exit
    stdout: bytes | None = _left_out()
    stderr: bytes | None = _left_out()
    truncated: bool | None = _left_out()


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event, numbered and durable (API.md, section 5)."""

    seq: int
    timestamp: int
    namespace: str
    topic: str
    type: str
    event: Map


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a process's output."""

    stream: str
    timestamp: int
    data: bytes
