"""What is resolved about restarts, on disk: a row for each container whose task was restarted, or ended on purpose."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cbor2

from actors.store.statements import Row, RowChange, Statement


@dataclass(frozen=True, slots=True)
class PutSupervision(RowChange):
    """Add a container's record, or replace it."""

    namespace: str
    id: str
    record: Mapping[str, Any]
    statement: ClassVar[Statement] = Statement(
        "supervision",
        "INSERT INTO supervision (namespace, id, record) VALUES ",
        "(?,?,?)",
        " ON CONFLICT (namespace, id) DO UPDATE SET record = excluded.record",
    )

    def columns(self) -> Row:
        """Its columns."""
        return self.namespace, self.id, cbor2.dumps(self.record)


@dataclass(frozen=True, slots=True)
class DropSupervision(RowChange):
    """Remove a container's record, if it is there."""

    namespace: str
    id: str
    statement: ClassVar[Statement] = Statement(
        "supervision", "DELETE FROM supervision WHERE (namespace, id) IN (VALUES ", "(?,?)", ")"
    )

    def columns(self) -> Row:
        """Its columns."""
        return self.namespace, self.id


def load_supervision(db: sqlite3.Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """(namespace, id) -> record."""
    rows = db.execute("SELECT namespace, id, record FROM supervision").fetchall()
    return {(namespace, container_id): cbor2.loads(record) for namespace, container_id, record in rows}
