from __future__ import annotations

import dataclasses
from pathlib import Path

from actors.store.database import close_database, open_database
from actors.store.idempotency import DropKey, KeyRow, PutKey, load_keys

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


def test_keys_of_other_namespaces_and_methods_are_others(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    rows = [ROW, dataclasses.replace(ROW, namespace="", at=11), dataclasses.replace(ROW, method="tasks.kill", at=12)]
    for row in rows:
        PutKey(row).apply(db)
    assert load_keys(db) == rows
    DropKey("default", "tasks.run", "k").apply(db)
    assert load_keys(db) == rows[1:]
    close_database(db)
