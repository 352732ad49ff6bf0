"""The one SQLite file: opening, schema, migrations, and what its errors mean.

WAL with ``synchronous=NORMAL``: a commit survives the death of any process; no task survives the machine's, so power
is not its business (sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from shimproc.errors import FailedPrecondition, Internal, ResourceExhausted, ShimyardError

MIGRATIONS: Final = (
    """
    CREATE TABLE namespaces (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE containers (
        namespace TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE tasks (
        namespace TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE events (seq INTEGER PRIMARY KEY, frame BLOB NOT NULL);
    CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO numbers VALUES ('last_seq', 0);
    CREATE TABLE sources (
        incarnation TEXT NOT NULL, n INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (incarnation, n)
    ) WITHOUT ROWID;
    CREATE TABLE keys (
        namespace TEXT NOT NULL, method TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, reply BLOB,
        at INTEGER NOT NULL, PRIMARY KEY (namespace, method, key)
    ) WITHOUT ROWID;
    CREATE INDEX keys_at ON keys (at);
    """,
)
"""One script a version; ``PRAGMA user_version`` is the number of those that were run."""


def open_database(path: Path) -> sqlite3.Connection:
    """The file's connection, made and brought up to date if need be.

    ``FailedPrecondition`` names a file that is none of ours, or of a later version.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute("PRAGMA journal_size_limit=67108864")
        db.execute("PRAGMA cache_size=-8192")
        _migrate(db, path)
    except sqlite3.Error as error:
        db.close()
        raise explained(error, path) from error
    except BaseException:
        db.close()
        raise
    return db


def explained(error: sqlite3.Error, path: Path | str) -> ShimyardError:
    """Our error for SQLite's."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL:
        return ResourceExhausted(f"no room left for {path}: free some space on its disk")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return FailedPrecondition(f"{path} is no database of ours or damaged ({error}): move it away to begin anew")
    return Internal(f"{path}: {error}")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise FailedPrecondition(
            f"{path} was written by a later version (schema {version}, this one knows {len(MIGRATIONS)}): upgrade shimyard"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version={number}; COMMIT;")
