from __future__ import annotations

from pathlib import Path

from actors.records import Namespace
from actors.store.database import close_database, open_database
from actors.store.namespaces import DropNamespace, PutNamespace, load_namespaces


def test_namespaces_come_back_by_name_after_a_restart(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    PutNamespace(Namespace("b", {"x": "1", "é": ""})).apply(db)
    PutNamespace(Namespace("a")).apply(db)
    close_database(db)
    db = open_database(tmp_path / "db")
    assert load_namespaces(db) == [Namespace("a"), Namespace("b", {"x": "1", "é": ""})]
    close_database(db)


def test_a_namespace_is_replaced_by_a_later_one_of_its_name_and_dropped_quietly(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    PutNamespace(Namespace("a", {"x": "1"})).apply(db)
    PutNamespace(Namespace("a", {"y": "2"})).apply(db)
    assert load_namespaces(db) == [Namespace("a", {"y": "2"})]
    DropNamespace("a").apply(db)
    DropNamespace("a").apply(db)
    assert load_namespaces(db) == []
    close_database(db)
