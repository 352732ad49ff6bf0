from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.records import Container, Namespace
from actors.store.containers import DropContainer, PutContainer, load_containers
from actors.store.database import open_database
from actors.store.events import ForgetSource
from actors.store.idempotency import DropKey, KeyRow, PutKey, load_keys
from actors.store.namespaces import DropNamespace, PutNamespace, load_namespaces
from actors.store.statements import Applicable, apply_all, split
from actors.store.tasks import DropTask, PutTask, TaskRow, load_tasks

few = st.integers(0, 3)
names = few.map(lambda n: f"n{n}")


def task(task_id: str, at: int) -> TaskRow:
    return TaskRow("default", task_id, f"i{at}", "/bundle", "creating", {"name": "crun"}, {}, at)


changes = st.one_of(
    st.builds(lambda name, value: PutNamespace(Namespace(name, {"value": str(value)})), names, few),
    st.builds(DropNamespace, names),
    st.builds(lambda name, value: PutContainer(Container(name, "default", {"value": value})), names, few),
    st.builds(lambda name: DropContainer("default", name), names),
    st.builds(lambda name, value: PutTask(task(name, value)), names, few),
    st.builds(lambda name: DropTask("default", name), names),
    st.builds(lambda name, value: PutKey(KeyRow("default", "m", name, b"f", None, value)), names, few),
    st.builds(lambda name: DropKey("default", "m", name), names),
    st.builds(ForgetSource, names),
)


def state(made: Sequence[Applicable], *, together: bool) -> object:
    db = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.store.database._configure", lambda *_: None)
        patch.setattr("actors.store.database._make_private", lambda *_: None)
        db.close()
        db = open_database(Path(":memory:"))
    try:
        if together:
            apply_all(db, made)
        else:
            for change in made:
                change.apply(db)
        keys = sorted(load_keys(db), key=lambda row: row.key)
        return load_namespaces(db), load_containers(db), load_tasks(db), keys
    finally:
        db.close()


@given(st.lists(changes, max_size=40))
def test_changes_made_together_come_to_the_same_as_one_after_the_other(made: list[Applicable]) -> None:
    assert state(made, together=True) == state(made, together=False)


def test_many_rows_take_few_statements(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    seen: list[str] = []
    db.set_trace_callback(seen.append)
    made: list[Applicable] = []
    for n in range(70):
        made += [PutNamespace(Namespace(f"n{n}")), PutTask(task(f"t{n}", n))]
    apply_all(db, made)
    assert len(seen) <= 8
    db.set_trace_callback(None)
    assert (len(load_namespaces(db)), len(load_tasks(db))) == (70, 70)
    apply_all(db, [DropTask("default", f"t{n}") for n in range(69)])
    assert [row.id for row in load_tasks(db)] == ["t69"]
    db.close()


def test_a_change_that_does_as_it_likes_sees_those_before_it_and_not_those_after(tmp_path: Path) -> None:
    seen: list[list[Namespace]] = []

    @dataclass(frozen=True)
    class Look:
        def apply(self, db: sqlite3.Connection) -> None:
            seen.append(load_namespaces(db))

    db = open_database(tmp_path / "db")
    apply_all(db, [PutNamespace(Namespace("a")), Look(), PutNamespace(Namespace("b")), Look()])
    assert seen == [[Namespace("a")], [Namespace("a"), Namespace("b")]]
    db.close()


@given(st.integers(0, 500))
def test_rows_are_split_in_order_and_none_is_lost(count: int) -> None:
    rows = [(n,) for n in range(count)]
    parts = list(split(rows))
    assert [row for part in parts for row in part] == rows
    assert {len(part) for part in parts} <= {64, 16, 4, 1}
