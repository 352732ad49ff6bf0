"""What the methods of ``actors.methods`` take, as the server checks it (API.md, section 4).

A params record has the wire's names; a field without a default is required. ``PARAMS`` maps a method's name to its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from actors.identifiers import check_credit, check_id, check_namespace, check_topic
from actors.records import Health, Map, Mount, Restart, Runtime, Stdio, Stop

Id = Annotated[str, check_id]
Credit = Annotated[int, check_credit]
NamespaceName = Annotated[str, check_namespace]
Topic = Annotated[str, check_topic]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No params."""


@dataclass(frozen=True, slots=True)
class NamespaceLabels:
    name: NamespaceName
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class NamespaceRef:
    name: NamespaceName


@dataclass(frozen=True, slots=True)
class ContainerCreate:
    id: Id
    spec: Map
    rootfs: tuple[Mount, ...] = ()
    runtime: Runtime = Runtime()
    stdio: Stdio = Stdio()
    labels: Mapping[str, str] | None = None
    restart: Restart | None = None
    stop: Stop | None = None
    timeout: float | None = None
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class ContainerUpdate:
    id: Id
    labels: Mapping[str, str] | None = None
    spec: Map | None = None
    restart: Restart | None = None


@dataclass(frozen=True, slots=True)
class IdRef:
    """A container or task by its id."""

    id: Id


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A task's init, or with ``exec_id`` one of its execs."""

    id: Id
    exec_id: Id | None = None


@dataclass(frozen=True, slots=True)
class ExecRef:
    id: Id
    exec_id: Id


@dataclass(frozen=True, slots=True)
class Filtered:
    filters: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TaskCreate:
    id: Id
    stdio: Stdio | None = None
    checkpoint: str | None = None
    parent_checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class TaskRun:
    """``ContainerCreate``'s params, and how to go on."""

    id: Id
    spec: Map
    rootfs: tuple[Mount, ...] = ()
    runtime: Runtime = Runtime()
    stdio: Stdio = Stdio()
    labels: Mapping[str, str] | None = None
    restart: Restart | None = None
    stop: Stop | None = None
    timeout: float | None = None
    health: Health | None = None
    rm: bool = False
    wait: bool = False
    capture: int | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    id: Id
    signal: int | str
    all: bool = False
    exec_id: Id | None = None


@dataclass(frozen=True, slots=True)
class StopTask:
    id: Id
    signal: int | str | None = None
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class DeleteTask:
    id: Id
    force: bool = False


@dataclass(frozen=True, slots=True)
class Exec:
    id: Id
    exec_id: Id
    process: Map
    stdio: Stdio = Stdio()


@dataclass(frozen=True, slots=True)
class Resize:
    id: Id
    width: int
    height: int
    exec_id: Id | None = None


@dataclass(frozen=True, slots=True)
class CloseIO:
    id: Id
    stdin: bool
    exec_id: Id | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``path``: the folder for CRIU's images; ``work_path``: for its log, else one of the daemon's."""

    id: Id
    path: str
    exit: bool = False
    open_tcp: bool = False
    external_unix_sockets: bool = False
    terminal: bool = False
    file_locks: bool = False
    empty_namespaces: tuple[str, ...] = ()
    work_path: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateTask:
    id: Id
    resources: Map


@dataclass(frozen=True, slots=True)
class Logs:
    """``since``: ns since the epoch; ``tail``: that many last chunks first."""

    id: Id
    exec_id: Id | None = None
    follow: bool = False
    tail: int | None = None
    since: int | None = None
    credit: Credit | None = None


@dataclass(frozen=True, slots=True)
class Attach:
    id: Id
    exec_id: Id | None = None
    stdin: bool = False
    kill_on_disconnect: bool = False
    credit: Credit | None = None


@dataclass(frozen=True, slots=True)
class AttachWrite:
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamCredit:
    stream: int
    n: Credit


@dataclass(frozen=True, slots=True)
class StreamRef:
    stream: int


@dataclass(frozen=True, slots=True)
class Watch:
    """``since``: the last ``seq`` already seen; left out, from now on."""

    since: int | None = None
    filters: tuple[str, ...] | None = None
    credit: Credit | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    topic: Topic
    event: Map


@dataclass(frozen=True, slots=True)
class Replay:
    since: int
    limit: int = 1000
    filters: tuple[str, ...] | None = None


PARAMS: Mapping[str, type] = {
    "version": Nothing,
    "health": Nothing,
    "namespaces.create": NamespaceLabels,
    "namespaces.update": NamespaceLabels,
    "namespaces.list": Nothing,
    "namespaces.delete": NamespaceRef,
    "containers.create": ContainerCreate,
    "containers.get": IdRef,
    "containers.list": Filtered,
    "containers.update": ContainerUpdate,
    "containers.delete": IdRef,
    "tasks.create": TaskCreate,
    "tasks.start": ProcessRef,
    "tasks.run": TaskRun,
    "tasks.get": IdRef,
    "tasks.list": Filtered,
    "tasks.wait": ProcessRef,
    "tasks.kill": Kill,
    "tasks.stop": StopTask,
    "tasks.delete": DeleteTask,
    "tasks.exec": Exec,
    "tasks.delete_process": ExecRef,
    "tasks.resize": Resize,
    "tasks.close_io": CloseIO,
    "tasks.pids": IdRef,
    "tasks.pause": IdRef,
    "tasks.resume": IdRef,
    "tasks.checkpoint": Checkpoint,
    "tasks.update": UpdateTask,
    "tasks.metrics": IdRef,
    "tasks.logs": Logs,
    "tasks.attach": Attach,
    "tasks.attach.write": AttachWrite,
    "tasks.shim": IdRef,
    "stream.credit": StreamCredit,
    "stream.cancel": StreamRef,
    "events.watch": Watch,
    "events.publish": Publish,
    "events.replay": Replay,
}
