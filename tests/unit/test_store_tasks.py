from __future__ import annotations

import dataclasses
from pathlib import Path

from actors.store.database import close_database, open_database
from actors.store.tasks import DropTask, PutTask, TaskRow, load_tasks

ROW = TaskRow(
    namespace="default",
    id="a",
    incarnation="0123456789abcdef",
    bundle="/run/bundle",
    phase="creating",
    runtime={"name": "crun", "command": "/usr/bin/crun", "root": "/run/crun", "options": {"no_pivot_root": True}},
    stdio={"stdin": "", "stdout": "log:", "stderr": "", "terminal": False},
    created_at=2**62,
    rm=True,
    no_shim=True,
    extra={"run": True, "capture": None},
)


def test_an_intent_comes_back_as_it_was_put_after_a_restart(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    PutTask(ROW).apply(db)
    close_database(db)
    db = open_database(tmp_path / "db")
    assert load_tasks(db) == [ROW]
    close_database(db)


def test_a_tasks_row_is_replaced_by_its_next_phase_and_dropped_quietly(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    other = dataclasses.replace(ROW, namespace="other")
    created = dataclasses.replace(ROW, phase="created")
    for row in (other, ROW, created):
        PutTask(row).apply(db)
    assert load_tasks(db) == [created, other]
    DropTask("default", "a").apply(db)
    DropTask("default", "a").apply(db)
    assert load_tasks(db) == [other]
    close_database(db)
