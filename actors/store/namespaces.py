"""Namespaces as rows."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import cbor2

from actors.records import Namespace


@dataclass(frozen=True, slots=True)
class PutNamespace:
    """Add or replace."""

    namespace: Namespace

    def apply(self, db: sqlite3.Connection) -> None:
        body = cbor2.dumps(dict(self.namespace.labels))
        db.execute("INSERT OR REPLACE INTO namespaces VALUES (?, ?)", (self.namespace.name, body))


@dataclass(frozen=True, slots=True)
class DropNamespace:
    """Remove, if it is there."""

    name: str

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM namespaces WHERE name = ?", (self.name,))


def load_namespaces(db: sqlite3.Connection) -> list[Namespace]:
    """All."""
    return [Namespace(name, cbor2.loads(body)) for name, body in db.execute("SELECT name, body FROM namespaces")]
