"""Namespaces on disk: a row each, with the labels in one CBOR blob."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import ClassVar

import cbor2

from actors.records import Namespace
from actors.store.statements import Row, RowChange, Statement


@dataclass(frozen=True, slots=True)
class PutNamespace(RowChange):
    """Add a namespace, or replace the one of its name."""

    namespace: Namespace
    statement: ClassVar[Statement] = Statement(
        "namespaces",
        "INSERT INTO namespaces (name, record) VALUES ",
        "(?,?)",
        " ON CONFLICT (name) DO UPDATE SET record = excluded.record",
    )

    def columns(self) -> Row:
        """Its columns."""
        return self.namespace.name, cbor2.dumps({"labels": dict(self.namespace.labels)})


@dataclass(frozen=True, slots=True)
class DropNamespace(RowChange):
    """Remove a namespace, if it is there."""

    name: str
    statement: ClassVar[Statement] = Statement(
        "namespaces", "DELETE FROM namespaces WHERE name IN (VALUES ", "(?)", ")"
    )

    def columns(self) -> Row:
        """Its columns."""
        return (self.name,)


def load_namespaces(db: sqlite3.Connection) -> list[Namespace]:
    """All, by name."""
    rows = db.execute("SELECT name, record FROM namespaces ORDER BY name").fetchall()
    return [Namespace(name, cbor2.loads(record)["labels"]) for name, record in rows]
