from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from actors.store import database
from actors.store.database import close_database, is_common, is_full, open_database, roll_back, translate
from shimproc.errors import (
    FailedPrecondition,
    Internal,
    NotFound,
    ResourceExhausted,
    ShimyardError,
    Unavailable,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pragma(db: sqlite3.Connection, name: str) -> object:
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    return error


def test_the_file_and_what_lies_beside_it_are_its_owners_only(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    db.execute("INSERT INTO events VALUES (1, x'00')")
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {"db": 0o600, "db-wal": 0o600, "db-shm": 0o600}
    close_database(db)


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    close_database(open_database(tmp_path / "db"))
    (tmp_path / "db").chmod(0o644)
    close_database(open_database(tmp_path / "db"))
    assert mode(tmp_path / "db") == 0o600


def test_its_settings_are_in_force(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    assert pragma(db, "journal_mode") == "wal"
    assert pragma(db, "synchronous") == 1
    assert pragma(db, "temp_store") == 2
    assert pragma(db, "cache_size") == -database.CACHE_KIB
    assert pragma(db, "wal_autocheckpoint") == database.CHECKPOINT_PAGES
    assert pragma(db, "journal_size_limit") == database.WAL_LIMIT_BYTES
    close_database(db)


def test_a_folder_that_is_missing_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"nowhere/db.*--root"):
        open_database(tmp_path / "nowhere" / "db")


def test_a_link_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "db").symlink_to(tmp_path / "other")
    with pytest.raises(FailedPrecondition, match="cannot be opened"):
        open_database(tmp_path / "db")
    assert not (tmp_path / "other").exists()


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    db.execute("PRAGMA user_version=99")
    close_database(db)
    before = (tmp_path / "db").read_bytes()
    with pytest.raises(FailedPrecondition, match=r"newer shimyard \(schema 99"):
        open_database(tmp_path / "db")
    assert (tmp_path / "db").read_bytes() == before


def test_a_file_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "db")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    before = (tmp_path / "db").read_bytes()
    with pytest.raises(FailedPrecondition, match="belongs to another program"):
        open_database(tmp_path / "db")
    assert (tmp_path / "db").read_bytes() == before


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database, but long enough to have a header" * 100)
    with pytest.raises(FailedPrecondition, match=f"{tmp_path}/db.*no SQLite file"):
        open_database(tmp_path / "db")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    close_database(open_database(tmp_path / "db"))
    with (tmp_path / "db").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    with pytest.raises(FailedPrecondition, match=f"{tmp_path}/db.*damaged"):
        open_database(tmp_path / "db")


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "db").touch()
    db = open_database(tmp_path / "db")
    assert pragma(db, "user_version") == len(database._STEPS)
    close_database(db)


def test_a_step_that_is_cut_off_leaves_the_schema_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close_database(open_database(tmp_path / "db"))
    steps = database._STEPS
    monkeypatch.setattr(database, "_STEPS", (*steps, ("CREATE TABLE half (a)", "CREATE TABLE events (b)")))
    with pytest.raises(Internal, match="already exists"):
        open_database(tmp_path / "db")
    monkeypatch.setattr(database, "_STEPS", steps)
    db = open_database(tmp_path / "db")
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    close_database(db)


def test_a_later_step_is_taken_by_an_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = open_database(tmp_path / "db")
    db.execute("INSERT INTO events VALUES (7, x'00')")
    close_database(db)
    monkeypatch.setattr(database, "_STEPS", (*database._STEPS, ("ALTER TABLE events ADD COLUMN colour TEXT",)))
    db = open_database(tmp_path / "db")
    assert pragma(db, "user_version") == len(database._STEPS)
    assert db.execute("SELECT seq, colour FROM events").fetchall() == [(7, None)]
    close_database(db)


def test_closing_ends_an_open_transaction_without_committing_it(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    db.execute("BEGIN")
    db.execute("INSERT INTO events VALUES (1, x'00')")
    close_database(db)
    db = open_database(tmp_path / "db")
    assert db.execute("SELECT count(*) FROM events").fetchone() == (0,)
    roll_back(db)
    close_database(db)


@pytest.mark.parametrize(
    ("code", "meaning", "words"),
    [
        (sqlite3.SQLITE_FULL, ResourceExhausted, "no space left"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, ResourceExhausted, "no space left"),
        (sqlite3.SQLITE_NOMEM, ResourceExhausted, "memory"),
        (sqlite3.SQLITE_BUSY, Unavailable, "another process"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable, "another process"),
        (sqlite3.SQLITE_CORRUPT, FailedPrecondition, "damaged"),
        (sqlite3.SQLITE_NOTADB, FailedPrecondition, "no SQLite file"),
        (sqlite3.SQLITE_READONLY, FailedPrecondition, "cannot be written"),
        (sqlite3.SQLITE_IOERR_WRITE, Internal, "see to the disk"),
    ],
)
def test_the_files_errors_name_the_file_and_the_remedy(code: int, meaning: type[ShimyardError], words: str) -> None:
    error = sqlite_error(code)
    told = translate(error, Path("/root/db"))
    assert type(told) is meaning
    assert "/root/db" in told.message
    assert words in told.message
    assert is_common(error)


def test_only_a_lack_of_space_is_full() -> None:
    assert is_full(sqlite_error(sqlite3.SQLITE_FULL))
    assert not is_full(sqlite_error(sqlite3.SQLITE_IOERR))
    assert not is_full(ValueError())


def test_what_is_one_pieces_own_fault_is_not_the_files() -> None:
    assert not is_common(sqlite_error(sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY))
    assert not is_common(sqlite3.ProgrammingError("closed"))
    assert not is_common(ValueError())


def test_our_own_errors_pass_as_they_are_and_others_are_internal() -> None:
    ours = NotFound("gone")
    assert translate(ours, Path("db")) is ours
    assert type(translate(KeyError("x"), Path("db"))) is Internal
