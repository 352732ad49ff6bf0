"""What a shim's events mean: the lifecycle event that the world is told, and the change of the metadata beside it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from actors.messages import Change, NewEvent
from actors.records import Container, Stdio
from actors.shape import dump
from actors.store.events import ForgetSource
from actors.store.tasks import DropTask, PutTask, TaskRow
from shimproc.messages import (
    Checkpointed,
    Created,
    Deleted,
    ExecAdded,
    Exited,
    Message,
    Oom,
    Paused,
    Resumed,
    Started,
    StartFailed,
    exec_of,
)

CREATING, CREATED, RUNNING, PAUSED = "creating", "created", "running", "paused"
STOPPED, DELETED = "stopped", "deleted"
START_FAILED = "start-failed"
_PHASES = (CREATING, CREATED, RUNNING, PAUSED, STOPPED, DELETED)
_OUTPUT = ("stdout", "stderr", "truncated")


def advanced(row: TaskRow, event: Message, shim_pid: int) -> TaskRow:
    """The row with what a shim's event adds: a later daemon shows the task by it, before it has heard from the shim.

    A shim tells a new daemon everything from the beginning, so a row may be ahead of the event; it never goes back. What
    concerns an exec is in the shim's journal alone.
    """
    news: dict[str, Any] = {} if exec_of(event) else _news(row.phase, event, shim_pid)
    return dataclasses.replace(row, **news) if news else row


def _news(phase: str, event: Message, shim_pid: int) -> dict[str, Any]:
    news: dict[str, Any] = {}
    match event:
        case Created():
            news = {"phase": _later(phase, CREATED), "pid": event.pid, "begun": event.begun, "shim_pid": shim_pid}
        case Started():
            news = {"phase": _later(phase, RUNNING), "started_at": event.at, "pid": event.pid}
            news |= {"begun": event.begun} if event.begun else {}
        case Paused() if phase == RUNNING:
            news = {"phase": PAUSED}
        case Resumed() if phase == PAUSED:
            news = {"phase": RUNNING}
        case Exited():
            exited = {name: value for name, value in event.to_map().items() if name not in _OUTPUT}
            news = {"phase": _later(phase, STOPPED), "exited": exited}
        case StartFailed():
            exited = {"at": event.at, "pid": event.pid, "status": event.status, "reason": START_FAILED}
            news = {"phase": _later(phase, STOPPED), "exited": exited}
        case Deleted():
            news = {"phase": DELETED}
    return news


def _later(phase: str, reached: str) -> str:
    return max(phase, reached, key=_PHASES.index)


def told(row: TaskRow, container: Container, n: int, event: Message) -> tuple[tuple[NewEvent, ...], tuple[Change, ...]]:
    """The events and changes for a shim's event. ``row`` is already ``advanced`` by it."""
    about_exec = bool(exec_of(event))
    kind, body = _told_of_exec(row, event) if about_exec else _told_of_task(row, container, event)
    events = (_event(row, n, kind, body, event),) if kind else ()
    if about_exec:
        return events, ()
    if isinstance(event, Deleted) and not row.rm:  # with rm the row goes with the container
        return events, forgotten(row)
    return events, (PutTask(row),)


def _told_of_task(row: TaskRow, container: Container, event: Message) -> tuple[str, dict[str, Any]]:
    """(kind, body) of a lifecycle event; no kind: the world is not told."""
    kind, body = "", dict[str, Any]()
    match event:
        case Created():
            io, rootfs = dump(Stdio(**row.stdio)), [dump(mount) for mount in container.rootfs]
            made = {"bundle": row.bundle, "rootfs": rootfs, "io": io, "checkpoint": event.checkpoint or "", "pid": event.pid}
            kind, body = "create", made
        case Started():
            kind, body = "start", {"pid": event.pid}
        case Paused() | Resumed():
            kind = event.tag
        case Checkpointed():
            kind, body = "checkpointed", {"path": event.path}
        case Oom():
            kind, body = "oom", {"oom_kills": event.kills}
        case Exited():
            kind, body = "exit", _exit_body(row.id, event)
        case Deleted():
            kind, body = "delete", _delete_body(row.id, event)
    return kind, {"container_id": row.id} | body


def _told_of_exec(row: TaskRow, event: Message) -> tuple[str, dict[str, Any]]:
    kind, body = "", dict[str, Any]()
    match event:
        case ExecAdded():
            kind, body = "exec-added", {"exec_id": event.process}
        case Started():
            kind, body = "exec-started", {"exec_id": event.process, "pid": event.pid}
        case Exited():
            kind, body = "exit", _exit_body(event.process, event)
        case Deleted():
            kind, body = "delete", _delete_body(event.process, event)
    return kind, {"container_id": row.id} | body


def retold(envelope: Mapping[str, Any]) -> Message | None:
    """The shim's event that an envelope was made of, as far as it tells; None for what moves no state, and for an empty one."""
    body, at = envelope.get("event", {}), envelope.get("timestamp", 0)
    process = body.get("exec_id", "")
    if body.get("id", body.get("container_id")) != body.get("container_id"):
        process = body["id"]
    make: Callable[[], Message] | None = {
        "TaskCreate": lambda: Created(at, body["pid"], checkpoint=body.get("checkpoint") or None),
        "TaskExecAdded": lambda: ExecAdded(at, process, "", {}, {}),
        "TaskStart": lambda: Started(at, body["pid"]),
        "TaskExecStarted": lambda: Started(at, body["pid"], process),
        "TaskPaused": lambda: Paused(at),
        "TaskResumed": lambda: Resumed(at),
        "TaskCheckpointed": lambda: Checkpointed(at, body["path"]),
        "TaskExit": lambda: Exited(body["exited_at"], body["pid"], body["exit_status"], process, body.get("reason")),
        "TaskDelete": lambda: Deleted(at, body["pid"], body["exit_status"], body["exited_at"], process),
    }.get(str(envelope.get("type")))
    return None if make is None else make()


def whole(row: TaskRow, last: int) -> bool:
    """Does the row tell all that its task's shim has told so far? ``last``: the number of its last event.

    Init alone was made, or started, in the ordinary way: the row knows as much as the events that are not heard again.
    """
    plain = bool(row.boot) and not row.extra.get("checkpoint")
    return plain and (row.phase, last) in ((CREATED, 1), (RUNNING, 2))


def known_of(row: TaskRow) -> tuple[Message, ...]:
    """What a row knows of a task's init, as its shim has told it; its order is that of the life."""
    told: list[Message] = []
    if row.phase != CREATING:
        told.append(Created(row.created_at, row.pid, row.begun))
    if row.started_at is not None:
        told.append(Started(row.started_at, row.pid))
    if row.exited is not None and row.exited.get("reason") == START_FAILED:
        told.append(StartFailed(row.exited["at"], row.exited["pid"], row.exited["status"]))
    elif row.exited is not None:
        told.append(Exited(**row.exited))
    return tuple(told)


def forgotten(row: TaskRow) -> tuple[Change, ...]:
    """Nothing is left of the task."""
    return DropTask(row.namespace, row.id), ForgetSource(row.incarnation)


def health_changed(row: TaskRow, health: Mapping[str, Any]) -> NewEvent:
    """Its health probes say something else than before."""
    return NewEvent(row.namespace, "/tasks/health", "TaskHealth", {"container_id": row.id, **health}, time.time_ns())


def shim_lost(row: TaskRow, shim_pid: int) -> NewEvent:
    """A shim ended that nobody had asked to."""
    body = {"container_id": row.id, "shim_pid": shim_pid}
    return NewEvent(row.namespace, "/tasks/shim-lost", "TaskShimLost", body, time.time_ns())


def shim_adopted(row: TaskRow, dead_pid: int) -> NewEvent:
    """Another one has taken over."""
    body = {"container_id": row.id, "shim_pid": dead_pid, "new_shim_pid": row.shim_pid}
    return NewEvent(row.namespace, "/tasks/shim-adopted", "TaskShimAdopted", body, time.time_ns())


def _exit_body(process_id: str, event: Exited) -> dict[str, Any]:
    body = {"id": process_id, "pid": event.pid, "exit_status": event.status, "exited_at": event.at}
    more = {"reason": event.reason, "dropped": event.dropped}
    return body | {name: value for name, value in more.items() if value is not None}


def _delete_body(process_id: str, event: Deleted) -> dict[str, Any]:
    return {"id": process_id, "pid": event.pid, "exit_status": event.status, "exited_at": event.exited_at}


def _event(row: TaskRow, n: int, kind: str, body: dict[str, Any], event: Message) -> NewEvent:
    name = "OOM" if kind == "oom" else "".join(word.capitalize() for word in kind.split("-"))
    return NewEvent(row.namespace, f"/tasks/{kind}", f"Task{name}", body, event.to_map()["at"], (row.incarnation, n))
