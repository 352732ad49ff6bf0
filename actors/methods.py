"""The public API as data (API.md, section 4): what the server checks, the client types and the command line offers.

A params record has the wire's names; a field without a default is required. ``METHODS`` maps a method's name to its row.
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
    id: Id
    path: str
    exit: bool = False
    open_tcp: bool = False
    external_unix_sockets: bool = False
    terminal: bool = False
    file_locks: bool = False
    empty_namespaces: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table: the params record, whether a namespace is required, streams, changes something."""

    params: type
    namespaced: bool = True
    streams: bool = False
    changes: bool = False


METHODS: Mapping[str, Method] = {
    "version": Method(Nothing, namespaced=False),
    "health": Method(Nothing, namespaced=False),
    "namespaces.create": Method(NamespaceLabels, namespaced=False, changes=True),
    "namespaces.update": Method(NamespaceLabels, namespaced=False, changes=True),
    "namespaces.list": Method(Nothing, namespaced=False),
    "namespaces.delete": Method(NamespaceRef, namespaced=False, changes=True),
    "containers.create": Method(ContainerCreate, changes=True),
    "containers.get": Method(IdRef),
    "containers.list": Method(Filtered),
    "containers.update": Method(ContainerUpdate, changes=True),
    "containers.delete": Method(IdRef, changes=True),
    "tasks.create": Method(TaskCreate, changes=True),
    "tasks.start": Method(ProcessRef, changes=True),
    "tasks.run": Method(TaskRun, changes=True),
    "tasks.get": Method(IdRef),
    "tasks.list": Method(Filtered),
    "tasks.wait": Method(ProcessRef),
    "tasks.kill": Method(Kill, changes=True),
    "tasks.stop": Method(StopTask, changes=True),
    "tasks.delete": Method(DeleteTask, changes=True),
    "tasks.exec": Method(Exec, changes=True),
    "tasks.delete_process": Method(ExecRef, changes=True),
    "tasks.resize": Method(Resize, changes=True),
    "tasks.close_io": Method(CloseIO, changes=True),
    "tasks.pids": Method(IdRef),
    "tasks.pause": Method(IdRef, changes=True),
    "tasks.resume": Method(IdRef, changes=True),
    "tasks.checkpoint": Method(Checkpoint, changes=True),
    "tasks.update": Method(UpdateTask, changes=True),
    "tasks.metrics": Method(IdRef),
    "tasks.logs": Method(Logs, streams=True),
    "tasks.attach": Method(Attach, streams=True),
    "tasks.attach.write": Method(AttachWrite, namespaced=False),
    "tasks.shim": Method(IdRef),
    "stream.credit": Method(StreamCredit, namespaced=False),
    "stream.cancel": Method(StreamRef, namespaced=False),
    "events.watch": Method(Watch, namespaced=False, streams=True),
    "events.publish": Method(Publish, changes=True),
    "events.replay": Method(Replay, namespaced=False),
}
