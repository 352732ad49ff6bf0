"""Idempotency keys on disk: which request came first under a key, and what it was answered (API.md, section 2)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import ClassVar, Final

from actors.store.statements import Row, RowChange, Statement

LONGEST: Final = 4096
"""Bytes of a reply that is kept in memory, too."""
ON_DISK: Final = b""
"""In place of a reply that is too long for memory. No reply is empty."""
_SELECT_KEYS: Final = """SELECT namespace, method, key, fingerprint,
    CASE WHEN length(reply) > :longest THEN :on_disk ELSE reply END, at, target FROM keys ORDER BY at"""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key.

    Parameters
    ----------
    namespace : ``""`` where the method takes none.
    fingerprint : a hash of the params, by which another request under the same key is told apart.
    reply : the encoded answer; None while the request is begun and not answered.
    at : when it came, ns since the epoch.
    target : the id of the container or task that it is about, with an exec's id and a slash between; "" for none.
    """

    namespace: str
    method: str
    key: str
    fingerprint: bytes
    reply: bytes | None
    at: int
    target: str = ""


@dataclass(frozen=True, slots=True)
class PutKey(RowChange):
    """Add a key, or replace the one of its namespace, method and name."""

    row: KeyRow
    statement: ClassVar[Statement] = Statement(
        "keys",
        "INSERT INTO keys (namespace, method, key, fingerprint, reply, at, target) VALUES ",
        "(?,?,?,?,?,?,?)",
        " ON CONFLICT (namespace, method, key) DO UPDATE"
        " SET fingerprint = excluded.fingerprint, reply = excluded.reply, at = excluded.at",
    )

    def columns(self) -> Row:
        """Its columns."""
        row = self.row
        return row.namespace, row.method, row.key, row.fingerprint, row.reply, row.at, row.target


@dataclass(frozen=True, slots=True)
class DropKey(RowChange):
    """Forget one key, if it is there."""

    namespace: str
    method: str
    key: str
    statement: ClassVar[Statement] = Statement(
        "keys", "DELETE FROM keys WHERE (namespace, method, key) IN (VALUES ", "(?,?,?)", ")"
    )

    def columns(self) -> Row:
        """Its columns."""
        return self.namespace, self.method, self.key


def load_keys(db: sqlite3.Connection, longest: int = LONGEST) -> list[KeyRow]:
    """All, the oldest first; a reply of more than ``longest`` bytes is ``ON_DISK``."""
    rows = db.execute(_SELECT_KEYS, {"longest": longest, "on_disk": ON_DISK}).fetchall()
    return [KeyRow(*row) for row in rows]


def load_reply(db: sqlite3.Connection, name: tuple[str, str, str]) -> bytes | None:
    """The answer that is kept under (namespace, method, key); None if there is none."""
    row = db.execute("SELECT reply FROM keys WHERE (namespace, method, key) = (?, ?, ?)", name).fetchone()
    return None if row is None else row[0]
