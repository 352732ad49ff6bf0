"""The daemon's one SQLite file: opened, brought to this version's schema, closed; and what its errors mean.

Only the store's thread uses the connection. WAL with ``synchronous=NORMAL`` (https://sqlite.org/wal.html): a commit
survives any kill of the process, and a loss of power may undo the last ones but never tears the file. The schema's
number is ``PRAGMA user_version``; each step of ``_STEPS`` is one transaction, so a kill in between leaves a whole
schema. What a later version wrote, or another program, is refused untouched.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from shimproc.errors import FailedPrecondition, Internal, ResourceExhausted, ShimyardError, Unavailable

APPLICATION_ID = 0x7368796D  # "shym", https://sqlite.org/pragma.html#pragma_application_id
CACHE_KIB = 4096
CHECKPOINT_PAGES = 2000
WAL_LIMIT_BYTES = 16 << 20
BUSY_SECONDS = 5.0

_FIRST = (
    "CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, frame BLOB NOT NULL)",
    """CREATE TABLE sources (incarnation TEXT NOT NULL, n INTEGER NOT NULL, seq INTEGER NOT NULL,
       PRIMARY KEY (incarnation, n)) WITHOUT ROWID""",
    "CREATE TABLE namespaces (name TEXT PRIMARY KEY NOT NULL, record BLOB NOT NULL)",
    """CREATE TABLE containers (namespace TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL,
       PRIMARY KEY (namespace, id))""",
    """CREATE TABLE tasks (namespace TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL,
       PRIMARY KEY (namespace, id))""",
    """CREATE TABLE keys (namespace TEXT NOT NULL, method TEXT NOT NULL, key TEXT NOT NULL,
       fingerprint BLOB NOT NULL, reply BLOB, at INTEGER NOT NULL, target TEXT NOT NULL,
       PRIMARY KEY (namespace, method, key))""",
    "CREATE INDEX keys_by_age ON keys (at)",
)
_SUPERVISION = (
    """CREATE TABLE supervision (namespace TEXT NOT NULL, id TEXT NOT NULL, record BLOB NOT NULL,
       PRIMARY KEY (namespace, id))""",
)
_STEPS: tuple[tuple[str, ...], ...] = (_FIRST, _SUPERVISION)
"""Step n leads from schema n to n + 1. Released steps never change; a new record field that old daemons must not drop
is a new step, too."""

_MEANINGS: dict[int, tuple[type[ShimyardError], str]] = {
    sqlite3.SQLITE_FULL: (ResourceExhausted, "no space left; free some on its file system, or lower events.keep"),
    sqlite3.SQLITE_NOMEM: (ResourceExhausted, "no memory left for it"),
    sqlite3.SQLITE_BUSY: (Unavailable, "another process holds it locked; let that end, and try again"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "another process holds it locked; let that end, and try again"),
    sqlite3.SQLITE_CORRUPT: (FailedPrecondition, "it is damaged; put a copy back, or move it away to begin anew"),
    sqlite3.SQLITE_NOTADB: (FailedPrecondition, "it is no SQLite file; put a copy back, or move it away to begin anew"),
    sqlite3.SQLITE_CANTOPEN: (FailedPrecondition, "it cannot be opened; see to its folder and its mode"),
    sqlite3.SQLITE_READONLY: (FailedPrecondition, "it cannot be written; see to its owner, its mode and its mount"),
    sqlite3.SQLITE_PERM: (FailedPrecondition, "it cannot be written; see to its owner, its mode and its mount"),
    sqlite3.SQLITE_IOERR: (Internal, "reading or writing it failed; see to the disk below it"),
}
_NO_SPACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def open_database(path: Path) -> sqlite3.Connection:
    """The database at ``path``, made with mode 0600 if it is not there, at this version's schema.

    The caller may hand the connection to one other thread, and must close it with ``close_database``. Raises
    ``FailedPrecondition`` for a damaged, foreign or newer file, and for one that cannot be opened;
    ``ResourceExhausted`` on a full disk; ``Unavailable`` while another process holds it.
    """
    _make_private(path)
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _refuse_foreign(db, path)
        _configure(db, path)
        _migrate(db)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error):
            raise translate(error, path) from error
        raise
    return db


def close_database(db: sqlite3.Connection) -> None:
    """End an open transaction, move the WAL into the file, close. Never raises: what is committed is in the WAL."""
    roll_back(db)
    with contextlib.suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def roll_back(db: sqlite3.Connection) -> None:
    """Undo the open transaction, if SQLite has not done so itself (https://sqlite.org/lang_transaction.html)."""
    if db.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")


def is_full(error: BaseException) -> bool:
    """Did the file system, or the bound of the file's size, leave no space?"""
    return getattr(error, "sqlite_errorcode", None) in _NO_SPACE


def is_common(error: BaseException) -> bool:
    """Is it the file's fault, so that any other commit would fail of it, too?"""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _MEANINGS


def translate(error: BaseException, path: Path) -> ShimyardError:
    """What an exception of a commit or a query means to whoever asked; the message names the file and the remedy."""
    if isinstance(error, ShimyardError):
        return error
    if not isinstance(error, sqlite3.Error) or not is_common(error):
        return Internal(f"the database {path}: {type(error).__name__}: {error}")
    code = sqlite3.SQLITE_FULL if is_full(error) else error.sqlite_errorcode & 0xFF
    meaning, remedy = _MEANINGS[code]
    return meaning(f"the database {path}: {remedy} ({error})")


def _make_private(path: Path) -> None:
    """Mode 0600 before SQLite writes to it; -wal and -shm take the file's mode (https://sqlite.org/src/file/src/os_unix.c)."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)
    except OSError as error:
        raise FailedPrecondition(
            f"the database {path} cannot be opened: {error.strerror}; see to its folder and mode, or use another --root"
        ) from error


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    version, application = _number(db, "user_version"), _number(db, "application_id")
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise FailedPrecondition(f"the database {path} belongs to another program; use another --root, or move it away")
    if version > len(_STEPS):
        raise FailedPrecondition(
            f"the database {path} was written by a newer shimyard (schema {version}, this one knows {len(_STEPS)}); "
            "run that version or a later one, or use another --root"
        )


def _configure(db: sqlite3.Connection, path: Path) -> None:
    (mode,) = db.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise FailedPrecondition(
            f"the database {path}: its file system cannot share memory, as a write-ahead log needs; use another --root"
        )
    for setting in (
        "synchronous=NORMAL",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        f"journal_size_limit={WAL_LIMIT_BYTES}",
        f"cache_size=-{CACHE_KIB}",
        "temp_store=MEMORY",
    ):
        db.execute(f"PRAGMA {setting}").fetchall()


def _migrate(db: sqlite3.Connection) -> None:
    for step in range(_number(db, "user_version"), len(_STEPS)):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in _STEPS[step]:
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={step + 1}")
            db.execute("COMMIT")
        except BaseException:
            roll_back(db)
            raise


def _number(db: sqlite3.Connection, pragma: str) -> int:
    (number,) = db.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)
