"""Idempotency keys as rows: (namespace, method, key) -> the first request's reply, or that it was begun."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyRow:
    """``fingerprint``: of the params; ``reply``: encoded, None while the request is under way; ``at``: ns, when begun."""

    namespace: str
    method: str
    key: str
    fingerprint: bytes
    reply: bytes | None
    at: int


@dataclass(frozen=True, slots=True)
class PutKey:
    """Add or replace."""

    row: KeyRow

    def apply(self, db: sqlite3.Connection) -> None:
        row = self.row
        values = (row.namespace, row.method, row.key, row.fingerprint, row.reply, row.at)
        db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)", values)


@dataclass(frozen=True, slots=True)
class DropKeys:
    """Remove those that were begun before ``before`` (ns)."""

    before: int

    def apply(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM keys WHERE at < ?", (self.before,))


def load_keys(db: sqlite3.Connection) -> list[KeyRow]:
    """All."""
    return [KeyRow(*row) for row in db.execute("SELECT namespace, method, key, fingerprint, reply, at FROM keys")]
