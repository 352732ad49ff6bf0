"""Containers as rows: the whole record as one CBOR blob, with the columns that name it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import cbor2

from actors.records import Container
from actors.shape import dump, lenient


@dataclass(frozen=True, slots=True)
class PutContainer:
    """Add or replace."""

    container: Container

    def apply(self, db: sqlite3.Connection) -> None:
        row = (self.container.namespace, self.container.id, cbor2.dumps(dump(self.container)))
        db.execute("INSERT OR REPLACE INTO containers VALUES (?, ?, ?)", row)


@dataclass(frozen=True, slots=True)
class DropContainer:
    """Remove, if it is there."""

    namespace: str
    id: str

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM containers WHERE namespace = ? AND id = ?", (self.namespace, self.id))


def load_containers(db: sqlite3.Connection) -> list[Container]:
    """All."""
    parse = lenient(Container)
    return [parse(cbor2.loads(body), "container") for (body,) in db.execute("SELECT body FROM containers")]
