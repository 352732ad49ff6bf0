"""Containers on disk: a row each, keyed by namespace and id, with the record in one CBOR blob.

A record comes back equal to what was put: nested records as records, tuples as tuples, None as None.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import ClassVar

import cbor2

from actors.records import Container
from actors.shape import dump, lenient
from actors.store.statements import Row, RowChange, Statement


@dataclass(frozen=True, slots=True)
class PutContainer(RowChange):
    """Add a container, or replace the one of its namespace and id."""

    container: Container
    statement: ClassVar[Statement] = Statement(
        "containers",
        "INSERT INTO containers (namespace, id, record) VALUES ",
        "(?,?,?)",
        " ON CONFLICT (namespace, id) DO UPDATE SET record = excluded.record",
    )

    def columns(self) -> Row:
        """Key and record."""
        return self.container.namespace, self.container.id, cbor2.dumps(dump(self.container))


@dataclass(frozen=True, slots=True)
class DropContainer(RowChange):
    """Remove a container, if it is there."""

    namespace: str
    id: str
    statement: ClassVar[Statement] = Statement(
        "containers", "DELETE FROM containers WHERE (namespace, id) IN (VALUES ", "(?,?)", ")"
    )

    def columns(self) -> Row:
        """The key."""
        return self.namespace, self.id


def load_containers(db: sqlite3.Connection) -> list[Container]:
    """All, by namespace and id."""
    parse = lenient(Container)
    rows = db.execute("SELECT record FROM containers ORDER BY namespace, id").fetchall()
    return [parse(cbor2.loads(record), "container") for (record,) in rows]
