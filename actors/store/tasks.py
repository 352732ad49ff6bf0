"""Tasks as rows: the intent before a task is made, and all that a later daemon needs to find or undo it.

What has become of a task is not here but in its shim's journal and in the log of events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import cbor2


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One incarnation. ``phase``: ``creating`` until TaskCreate is durable, then ``created``."""

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


@dataclass(frozen=True, slots=True)
class PutTask:
    """Add or replace."""

    row: TaskRow

    def apply(self, db: sqlite3.Connection) -> None:
        body = cbor2.dumps({entry.name: getattr(self.row, entry.name) for entry in fields(self.row)})
        db.execute("INSERT OR REPLACE INTO tasks VALUES (?, ?, ?)", (self.row.namespace, self.row.id, body))


@dataclass(frozen=True, slots=True)
class DropTask:
    """Remove, if it is there."""

    namespace: str
    id: str

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM tasks WHERE namespace = ? AND id = ?", (self.namespace, self.id))


def load_tasks(db: sqlite3.Connection) -> list[TaskRow]:
    """All."""
    return [TaskRow(**cbor2.loads(body)) for (body,) in db.execute("SELECT body FROM tasks")]
