"""What a shim's events mean: the lifecycle event that the world is told, and the change of the metadata beside it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from actors.messages import Change, NewEvent
from actors.records import Container, Stdio
from actors.shape import dump
from actors.store.events import ForgetSource
from actors.store.tasks import DropTask, PutTask, TaskRow
from shimproc.messages import Created, Deleted, Exited, Message, Started, StartFailed

CREATING, CREATED, RUNNING, STOPPED, DELETED = "creating", "created", "running", "stopped", "deleted"
START_FAILED = "start-failed"
_OUTPUT = ("stdout", "stderr", "truncated")


def advanced(row: TaskRow, event: Message, shim_pid: int) -> TaskRow:
    """The row with what a shim's event adds: a later daemon shows the task by it, before it has heard from the shim."""
    match event:
        case Created():
            return dataclasses.replace(row, phase=CREATED, pid=event.pid, shim_pid=shim_pid)
        case Started():
            return dataclasses.replace(row, phase=RUNNING, started_at=event.at)
        case Exited():
            exited = {name: value for name, value in event.to_map().items() if name not in _OUTPUT}
            return dataclasses.replace(row, phase=STOPPED, exited=exited)
        case StartFailed():
            exited = {"at": event.at, "pid": event.pid, "status": event.status, "reason": START_FAILED}
            return dataclasses.replace(row, phase=STOPPED, exited=exited)
        case Deleted():
            return dataclasses.replace(row, phase=DELETED)
    return row


def told(row: TaskRow, container: Container, n: int, event: Message) -> tuple[tuple[NewEvent, ...], tuple[Change, ...]]:
    """The events and changes for a shim's event. ``row`` is already ``advanced`` by it."""
    match event:
        case Created():
            body = {
                "container_id": row.id,
                "bundle": row.bundle,
                "rootfs": [dump(mount) for mount in container.rootfs],
                "io": dump(Stdio(**row.stdio)),
                "checkpoint": "",
                "pid": event.pid,
            }
            return (_event(row, n, "create", body, event.at),), (PutTask(row),)
        case Started():
            body = {"container_id": row.id, "pid": event.pid}
            return (_event(row, n, "start", body, event.at),), (PutTask(row),)
        case StartFailed():
            return (), (PutTask(row),)
        case Exited():
            return (_event(row, n, "exit", _exit_body(row, event), event.at),), (PutTask(row),)
        case Deleted():
            body = {
                "container_id": row.id,
                "id": row.id,
                "pid": event.pid,
                "exit_status": event.status,
                "exited_at": event.exited_at,
            }
            changes = (PutTask(row),) if row.rm else forgotten(row)  # with rm the row goes with the container
            return (_event(row, n, "delete", body, event.at),), changes
    return (), ()


def forgotten(row: TaskRow) -> tuple[Change, ...]:
    """Nothing is left of the task."""
    return DropTask(row.namespace, row.id), ForgetSource(row.incarnation)


def shim_lost(row: TaskRow, shim_pid: int) -> NewEvent:
    """A shim ended that nobody had asked to."""
    body = {"container_id": row.id, "shim_pid": shim_pid}
    return NewEvent(row.namespace, "/tasks/shim-lost", "TaskShimLost", body, time.time_ns())


def shim_adopted(row: TaskRow, dead_pid: int) -> NewEvent:
    """Another one has taken over."""
    body = {"container_id": row.id, "shim_pid": dead_pid, "new_shim_pid": row.shim_pid}
    return NewEvent(row.namespace, "/tasks/shim-adopted", "TaskShimAdopted", body, time.time_ns())


def _exit_body(row: TaskRow, event: Exited) -> dict[str, Any]:
    body = {
        "container_id": row.id,
        "id": event.process or row.id,
        "pid": event.pid,
        "exit_status": event.status,
        "exited_at": event.at,
    }
    more = {"reason": event.reason, "dropped": event.dropped}
    return body | {name: value for name, value in more.items() if value is not None}


def _event(row: TaskRow, n: int, kind: str, body: dict[str, Any], at: int) -> NewEvent:
    return NewEvent(row.namespace, f"/tasks/{kind}", f"Task{kind.capitalize()}", body, at, (row.incarnation, n))
