from __future__ import annotations

import dataclasses
from pathlib import Path

from actors.store.database import close_database, open_database
from actors.store.idempotency import ON_DISK, DropKey, KeyRow, PutKey, load_keys, load_reply

ROW = KeyRow("default", "tasks.run", "k", b"\x00\xff", None, 10)


def test_a_begun_key_gets_its_reply_and_both_survive_a_restart(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    PutKey(ROW).apply(db)
    assert load_keys(db) == [ROW]
    answered = dataclasses.replace(ROW, reply=b"\x00reply")
    PutKey(answered).apply(db)
    close_database(db)
    db = open_database(tmp_path / "db")
    assert load_keys(db) == [answered]
    close_database(db)


def test_a_long_reply_is_left_on_disk_and_found_there(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    rows = [dataclasses.replace(ROW, key=key, at=at, reply=b"r" * size) for key, at, size in (("s", 1, 8), ("l", 2, 9))]
    for row in rows:
        PutKey(row).apply(db)
    assert [row.reply for row in load_keys(db, longest=8)] == [b"r" * 8, ON_DISK]
    assert load_reply(db, ("default", "tasks.run", "l")) == b"r" * 9
    assert load_reply(db, ("default", "tasks.run", "none")) is None
    close_database(db)


def test_keys_of_other_namespaces_and_methods_are_others(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    rows = [ROW, dataclasses.replace(ROW, namespace="", at=11), dataclasses.replace(ROW, method="tasks.kill", at=12)]
    for row in rows:
        PutKey(row).apply(db)
    assert load_keys(db) == rows
    DropKey("default", "tasks.run", "k").apply(db)
    assert load_keys(db) == rows[1:]
    close_database(db)
