"""The intents: a row for each task that is being made, is there, or is being deleted.

A row is on disk before anything of its task is made, and goes only when nothing is left of it: what a killed daemon had
begun is found here by the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import cbor2

from actors.store.statements import Row, RowChange, Statement


@dataclass(frozen=True, slots=True)
class TaskRow:
    """What a later daemon needs to take a task back, or to undo it.

    Parameters
    ----------
    incarnation : random text; no two tasks ever share it, also when they share their id.
    bundle : the bundle's path.
    phase : ``creating``, ``created``, ``running``, ``stopped``, or ``deleted`` while its container is still to go, too.
    runtime : name, command, root and options of the runtime that made it.
    created_at : ns since the epoch.
    rm : task and container are removed after the exit.
    extra : what later steps of a request need to know.
    shim_pid : the shim that made it.
    boot : the run of the host that it was made in (``actors.boot``); "": not known, made by an older version.
    begun : when its init began (``shimproc.process.estate.begun``); 0: not known.
    pid, started_at, exited : what the shim's durable events have told; ``exited`` is its Exited, without the output.
    checkpointed : the number of its last event that told of a checkpoint.
    """

    namespace: str
    id: str
    incarnation: str
    bundle: str
    phase: str
    runtime: Mapping[str, Any]
    stdio: Mapping[str, Any]
    created_at: int
    rm: bool = False
    no_shim: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    shim_pid: int = 0
    pid: int = 0
    started_at: int | None = None
    exited: Mapping[str, Any] | None = None
    checkpointed: int = 0
    boot: str = ""
    begun: int = 0


@dataclass(frozen=True, slots=True)
class PutTask(RowChange):
    """Add a task's row, or replace the one of its namespace and id."""

    row: TaskRow
    statement: ClassVar[Statement] = Statement(
        "tasks",
        "INSERT INTO tasks (namespace, id, record) VALUES ",
        "(?,?,?)",
        " ON CONFLICT (namespace, id) DO UPDATE SET record = excluded.record",
    )

    def columns(self) -> Row:
        """Its columns."""
        record = {field.name: getattr(self.row, field.name) for field in fields(self.row)}
        return self.row.namespace, self.row.id, cbor2.dumps(record)


@dataclass(frozen=True, slots=True)
class DropTask(RowChange):
    """Remove a task's row, if it is there."""

    namespace: str
    id: str
    statement: ClassVar[Statement] = Statement(
        "tasks", "DELETE FROM tasks WHERE (namespace, id) IN (VALUES ", "(?,?)", ")"
    )

    def columns(self) -> Row:
        """Its columns."""
        return self.namespace, self.id


def load_tasks(db: sqlite3.Connection) -> list[TaskRow]:
    """All, by namespace and id."""
    rows = db.execute("SELECT record FROM tasks ORDER BY namespace, id").fetchall()
    return [TaskRow(**cbor2.loads(record)) for (record,) in rows]
