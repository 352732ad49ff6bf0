from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from actors.messages import Commit, Publish, Read
from actors.records import Namespace
from actors.store.actor import GROUP, TRIM_ROWS, TRIM_SLACK
from actors.store.database import open_database
from actors.store.events import bounds, replay, trim
from actors.store.namespaces import PutNamespace, load_namespaces
from shimproc.errors import Internal, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from shimproc.flow import Pending
from tests.support.stores import Rig, event, piece

Make = Callable[..., Rig]


@dataclass(frozen=True)
class Failing:
    """A change that does half of its work, then fails."""

    error: Exception

    def apply(self, db: sqlite3.Connection) -> None:
        PutNamespace(Namespace("half")).apply(db)
        raise self.error


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    rigs: list[Rig] = []

    def start(path: Path | None = None, **more: Any) -> Rig:
        rigs.append(Rig(path or tmp_path / "db", **more))
        return rigs[-1]

    yield start
    for rig in rigs:
        if rig.store.is_alive():
            rig.stop()


def stored(rig: Rig) -> list[int]:
    seqs: list[int] = rig.read(lambda db: [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY seq")])
    return seqs


def test_commits_that_wait_together_are_one_group_answered_once_and_in_order(make: Make) -> None:
    rig = make()
    pieces = [piece(event(n), event(n)) for n in range(10)]
    with rig.held():
        rig.send(*pieces)
    committed = rig.heard.get(timeout=20)
    assert [told for told, _ in committed.outcomes] == pieces
    seqs = [
        published.envelope.seq
        for _, outcome in committed.outcomes
        if isinstance(outcome, tuple)
        for published in outcome
    ]
    assert seqs == list(range(1, 21))
    assert rig.heard.empty()


def test_a_group_is_one_transaction_for_all_its_pieces(make: Make) -> None:
    rig = make()
    seen: list[str] = []
    rig.read(lambda db: db.set_trace_callback(seen.append))
    with rig.held():
        rig.send(*(piece(event(n)) for n in range(100)))
    rig.outcomes(100)
    assert seen.count("COMMIT") == 1
    assert len(seen) < 20


def test_a_group_is_bounded(make: Make) -> None:
    rig = make()
    with rig.held():
        rig.send(*(piece() for _ in range(GROUP + 1)))
    assert [len(rig.heard.get(timeout=20).outcomes) for _ in range(2)] == [GROUP, 1]


def test_a_piece_that_fails_fails_alone_and_takes_no_number(make: Make) -> None:
    rig = make()
    with rig.held():
        rig.send(
            piece(event(), changes=(PutNamespace(Namespace("a")),)),
            piece(event(), changes=(PutNamespace(Namespace("b")), Failing(NotFound("no b")))),
            piece(event(), changes=(PutNamespace(Namespace("c")),)),
        )
    (_, first), (_, failed), (_, last) = rig.outcomes(3)
    assert isinstance(failed, NotFound)
    assert isinstance(first, tuple)
    assert isinstance(last, tuple)
    assert (first[0].envelope.seq, last[0].envelope.seq) == (1, 2)
    assert rig.read(load_namespaces) == [Namespace("a"), Namespace("c")]
    assert stored(rig) == [1, 2]


@pytest.mark.parametrize("error", [ValueError("odd"), sqlite3.IntegrityError("twice"), RecursionError(), MemoryError()])
def test_whatever_a_change_raises_becomes_an_answer_and_the_store_lives_on(make: Make, error: Exception) -> None:
    rig = make()
    assert rig.seqs(piece(event(), changes=(Failing(error),))) == [Internal]
    assert rig.seqs(piece(event())) == [[1]]
    assert rig.read(load_namespaces) == []


def test_an_event_that_cannot_be_encoded_fails_alone(make: Make) -> None:
    rig = make()
    with rig.held():
        rig.send(piece(event()), piece(event(odd=object())), piece(event()))
    outcomes = [outcome for _, outcome in rig.outcomes(3)]
    assert [type(outcome) for outcome in outcomes] == [tuple, InvalidArgument, tuple]
    assert stored(rig) == [1, 2]


def test_numbers_go_on_after_a_restart(make: Make) -> None:
    rig = make()
    assert rig.seqs(piece(event(), event())) == [[1, 2]]
    rig.stop()
    assert make().seqs(piece(event())) == [[3]]


def test_numbers_go_on_when_no_event_is_left(make: Make) -> None:
    rig = make()
    rig.commit(piece(event(), event()))
    rig.read(lambda db: db.execute("DELETE FROM events").rowcount)
    assert rig.seqs(piece(event())) == [[3]]
    rig.read(lambda db: db.execute("DELETE FROM events").rowcount)
    rig.stop()
    assert make().seqs(piece(event())) == [[4]]


def test_an_event_told_again_after_a_restart_counts_once(make: Make) -> None:
    rig = make()
    (first,) = rig.commit(piece(event(1, ("i", 1))))
    rig.stop()
    rig = make()
    (again, new) = rig.commit(piece(event(1, ("i", 1))), piece(event(2, ("i", 2))))
    assert isinstance(first, tuple)
    assert isinstance(again, tuple)
    assert isinstance(new, tuple)
    assert (again[0].envelope, again[0].frame, again[0].repeated) == (first[0].envelope, first[0].frame, True)
    assert (new[0].envelope.seq, new[0].repeated) == (2, False)
    assert stored(rig) == [1, 2]


def test_a_file_that_may_not_grow_fails_what_does_not_fit_and_leaves_no_hole(make: Make) -> None:
    rig = make()
    rig.commit(piece(event()))
    rig.read(
        lambda db: db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0] + 2}").fetchall()
    )
    big = piece(event(filler=b"x" * 100_000))
    small = piece(event())
    with rig.held():
        rig.send(small, big, small)
    outcomes = [outcome for _, outcome in rig.outcomes(3)]
    assert [type(outcome) for outcome in outcomes] == [tuple, ResourceExhausted, tuple]
    assert str(rig.path) in str(outcomes[1])
    assert "free some" in str(outcomes[1])
    rig.read(lambda db: db.execute("PRAGMA max_page_count=100000").fetchall())
    assert rig.seqs(big) == [[4]]
    assert stored(rig) == [1, 2, 3, 4]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_and_survived(make: Make, tiny_disk: Path) -> None:
    rig = make(tiny_disk / "db")
    durable = 0
    failed: BaseException | None = None
    while failed is None:
        (outcome,) = rig.commit(piece(event(filler=os.urandom(10_000))))
        if isinstance(outcome, BaseException):
            failed = outcome
        else:
            durable += 1
            assert outcome[0].envelope.seq == durable
    assert isinstance(failed, ResourceExhausted)
    assert str(rig.path) in failed.message
    assert stored(rig) == list(range(1, durable + 1))
    subprocess.run(["mount", "-o", "remount,size=8m", tiny_disk], check=True)
    assert rig.seqs(piece(event(filler=os.urandom(10_000)))) == [[durable + 1]]
    rig.stop()
    assert stored(make(tiny_disk / "db")) == list(range(1, durable + 2))


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    assert os.statvfs(disk).f_bfree == 0


def test_on_a_full_disk_what_the_write_ahead_log_holds_is_used_first(make: Make, tiny_disk: Path) -> None:
    def renamed(n: int) -> Publish:
        return piece(changes=(PutNamespace(Namespace("a", {"filler": f"{n:08}" * 1000})),))

    rig = make(tiny_disk / "db")
    rig.commit(renamed(0))
    rig.read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    for n in range(1, 11):
        rig.commit(renamed(n))
    fill(tiny_disk)
    for n in range(11, 31):
        assert rig.commit(renamed(n)) == [()]


def test_a_file_locked_by_another_process_is_told_at_once_to_all_that_wait(make: Make) -> None:
    rig = make()
    seen: list[str] = []
    rig.read(lambda db: db.execute("PRAGMA busy_timeout=10").fetchall())
    rig.read(lambda db: db.set_trace_callback(seen.append))
    with sqlite3.connect(rig.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with rig.held():
            rig.send(piece(event()), piece(event()))
        assert [type(outcome) for _, outcome in rig.heard.get(timeout=20).outcomes] == [Unavailable, Unavailable]
        assert seen.count("BEGIN IMMEDIATE") == 1  # each waits for seconds: once for all
        other.execute("ROLLBACK")
    other.close()
    assert rig.seqs(piece(event())) == [[1]]


def test_a_commit_that_failed_and_was_one_all_the_same_costs_no_later_one(make: Make) -> None:
    class Sly:
        def apply(self, db: sqlite3.Connection) -> None:
            db.execute("COMMIT")
            raise NotFound("not at all")

    rig = make()
    assert rig.seqs(piece(event(), changes=(Sly(),))) == [NotFound]
    assert rig.seqs(piece(event())) == [[2]]
    assert stored(rig) == [1, 2]


def test_a_query_sees_all_that_was_sent_before_it(make: Make) -> None:
    rig = make()
    with rig.held():
        rig.send(piece(event()), piece(event()))
        receipt: Pending[Any] = Pending()
        rig.store.tell(Read(bounds, receipt))
        rig.send(piece(event()))
    rig.run_call()
    assert receipt.result() == (2, 1)
    assert len(rig.heard.get(timeout=20).outcomes) == 2


def test_a_query_is_answered_through_the_loop_and_not_in_the_stores_thread(make: Make) -> None:
    rig = make()
    receipt: Pending[int] = Pending()
    rig.store.tell(Read(lambda _: 42, receipt))
    rig.commit(piece())
    assert not receipt.done
    rig.run_call()
    assert receipt.result() == 42


def test_a_query_that_fails_fails_its_receipt_only(make: Make) -> None:
    rig = make()
    with pytest.raises(Internal, match="no such table"):
        rig.read(lambda db: db.execute("SELECT * FROM nowhere"))
    with pytest.raises(Internal, match="ZeroDivisionError"):
        rig.read(lambda _: 1 // 0)
    with pytest.raises(InvalidArgument, match="limit"):
        rig.read(lambda db: replay(db, 0, 0))
    assert rig.seqs(piece(event())) == [[1]]


def test_a_query_that_leaves_a_transaction_open_does_no_harm(make: Make) -> None:
    rig = make()
    rig.read(lambda db: db.execute("BEGIN") and None)
    assert rig.seqs(piece(event())) == [[1]]


def test_a_message_that_it_does_not_know_does_not_end_the_store(make: Make) -> None:
    rig = make()
    rig.store.tell("hello")
    assert rig.seqs(piece(event())) == [[1]]


def test_old_events_go_by_and_by_and_numbers_stay_unbroken(make: Make) -> None:
    keep = 100
    rig = make(keep=keep)
    total = keep + TRIM_SLACK + 300
    for _ in range(total // 10):
        rig.commit(piece(*(event(n) for n in range(10))))
    seqs = stored(rig)
    assert seqs == list(range(seqs[0], total + 1))
    assert keep <= len(seqs) <= keep + TRIM_SLACK
    assert rig.read(bounds) == (total, seqs[0])


def test_a_lowered_bound_is_reached_in_small_steps_without_any_commit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make()
    rig.commit(piece(*(event(n) for n in range(3 * TRIM_ROWS))))
    rig.stop()
    steps = [1]

    def trim_and_tell(db: sqlite3.Connection, before: int) -> None:
        steps.append(before)
        trim(db, before)

    monkeypatch.setattr("actors.store.actor.trim", trim_and_tell)
    rig = make(keep=10)
    while len(stored(rig)) > 10 + TRIM_SLACK: ...
    assert all(later - former <= TRIM_ROWS for former, later in pairwise(steps))


def test_it_refuses_to_keep_nothing(make: Make) -> None:
    with pytest.raises(InvalidArgument, match=r"events\.keep"):
        make(keep=0)


def test_what_comes_behind_the_stop_is_answered(make: Make) -> None:
    rig = make()
    receipt: Pending[Any] = Pending()
    early, late = piece(event()), piece(event())
    with rig.held():
        rig.send(early)
        stopped = rig.store.stop(block=False)
        rig.store.tell(Commit(late))
        rig.store.tell(Read(bounds, receipt))
    stopped.get(timeout=20)
    (done, outcome), (refused, error) = rig.outcomes(2)
    assert (done, refused) == (early, late)
    assert isinstance(outcome, tuple)
    assert isinstance(error, Unavailable)
    rig.run_call()
    assert isinstance(receipt.error, Unavailable)


def test_a_stop_leaves_one_whole_file(make: Make, tmp_path: Path) -> None:
    rig = make()
    rig.commit(piece(event()))
    rig.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


KILLED = """
    import sys, threading
    from pathlib import Path
    from actors.records import Namespace
    from actors.store.namespaces import PutNamespace
    from tests.support.stores import Rig, event, piece

    rig = Rig(Path(sys.argv[1]), keep=100_000)
    sent = 0
    while True:
        batch = [piece(event(n), event(n), changes=(PutNamespace(Namespace(f"n{n}")),)) for n in range(sent, sent + 50)]
        sent += 50
        for outcome in rig.commit(*batch):
            print(outcome[-1].envelope.seq, flush=True)
"""


@pytest.mark.parametrize("told_before", [1, 137, 700])
def test_a_kill_amid_commits_leaves_whole_pieces_without_a_hole(tmp_path: Path, told_before: int) -> None:
    path = tmp_path / "db"
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), path], stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        assert child.stdout is not None
        for _ in range(told_before):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
    db = open_database(path)
    seqs = [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY seq")]
    namespaces = len(load_namespaces(db))
    db.close()
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= told >= 2 * told_before
    assert len(seqs) == 2 * namespaces
