from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimproc.errors import Internal
from shimproc.journal import BULKY, Journal, Record, read_journal

VALUES = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.binary(max_size=50), st.none()), max_size=4)
Open = Callable[[], Journal]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def reopened(path: Path) -> Iterator[Open]:
    """Opens the journal, after closing it as the death of its process would."""
    opened: list[Journal] = []

    def again() -> Journal:
        if opened:
            opened.pop().close()
        opened.append(Journal(str(path)))
        return opened[-1]

    yield again
    for journal in opened:
        journal.close()


def test_records_are_numbered_from_one_on_without_a_hole(reopened: Open) -> None:
    journal = reopened()
    assert journal.last == 0
    assert [journal.append({"kind": name}) for name in "abc"] == [1, 2, 3]
    assert journal.last == 3
    assert journal.since(1) == [(2, {"kind": "b"}), (3, {"kind": "c"})]


def test_numbers_and_records_go_on_after_the_process_has_died(reopened: Open) -> None:
    reopened().append({"exit": 7})
    journal = reopened()
    assert journal.append({"exit": 8}) == 2
    assert journal.since(0) == [(1, {"exit": 7}), (2, {"exit": 8})]


def test_a_record_is_one_write(reopened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = reopened()
    sizes: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    journal.append({"stdout": bytes(1 << 20)})
    assert len(sizes) == 1


def test_an_ack_is_known_after_the_process_has_died(reopened: Open) -> None:
    journal = reopened()
    for number in range(5):
        journal.append({"number": number})
    journal.ack(3)
    assert journal.unacked() == [(4, {"number": 3}), (5, {"number": 4})]
    journal = reopened()
    assert journal.acked == 3
    assert journal.unacked() == [(4, {"number": 3}), (5, {"number": 4})]


def test_an_ack_neither_goes_back_nor_beyond_what_there_is(reopened: Open, path: Path) -> None:
    journal = reopened()
    journal.append({})
    journal.append({})
    journal.ack(2)
    size = path.stat().st_size
    journal.ack(1)
    journal.ack(99)
    assert journal.acked == 2
    assert path.stat().st_size == size
    assert journal.append({}) == 3
    assert [n for n, _ in journal.unacked()] == [3]


def test_what_is_acked_can_still_be_had_from_the_file(reopened: Open) -> None:
    journal = reopened()
    for number in range(4):
        journal.append({"number": number})
    journal.ack(4)
    assert journal.since(1) == [(2, {"number": 1}), (3, {"number": 2}), (4, {"number": 3})]


def test_a_foreign_reader_reads_while_it_is_written_and_changes_nothing(reopened: Open, path: Path) -> None:
    journal = reopened()
    journal.append({"a": 1})
    journal.append({"b": 2})
    journal.ack(1)
    with path.open("ab") as file:
        file.write(b"\0\0\0\x09torn")
    before = path.read_bytes()
    assert read_journal(str(path)) == ([(1, {"a": 1}), (2, {"b": 2})], 1)
    assert path.read_bytes() == before


@given(records=st.lists(VALUES, min_size=1, max_size=8), acks=st.sets(st.integers(1, 8)), data=st.data())
def test_any_cut_at_any_byte_leaves_a_valid_prefix(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], acks: set[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "journal"
    journal = Journal(str(path))
    ends = [0]
    for values in records:
        n = journal.append(values)
        ends.append(path.stat().st_size)
        if n in acks:
            journal.ack(n)
    journal.close()
    cut = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, cut)
    whole = sum(end <= cut for end in ends[1:])
    found = read_journal(str(path))
    assert found.records == list(enumerate(records[:whole], 1))
    assert found.acked <= whole
    journal = Journal(str(path))
    try:
        assert journal.append({"next": 1}) == whole + 1
        assert read_journal(str(path)).records == [*enumerate(records[:whole], 1), (whole + 1, {"next": 1})]
    finally:
        journal.close()


@given(tail=st.one_of(st.binary(max_size=64), st.integers(1, 64).map(bytes)))
def test_whatever_follows_the_last_record_is_cut_off(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("tail") / "journal"
    journal = Journal(str(path))
    journal.append({"a": 1})
    journal.close()
    with path.open("ab") as file:
        file.write(tail)
    journal = Journal(str(path))
    try:
        assert journal.since(0) == [(1, {"a": 1})]
        assert journal.append({"b": 2}) == 2
        assert len(read_journal(str(path)).records) == 2
    finally:
        journal.close()


def test_a_flipped_bit_ends_the_valid_prefix(reopened: Open, path: Path) -> None:
    journal = reopened()
    journal.append({"a": 1})
    first = path.stat().st_size
    journal.append({"b": 2})
    spoilt = bytearray(path.read_bytes())
    spoilt[first + 9] ^= 1
    path.write_bytes(spoilt)
    assert reopened().since(0) == [(1, {"a": 1})]


def test_the_bytes_are_those_that_the_docstring_tells(reopened: Open, path: Path) -> None:
    reopened().append({"a": 1})
    body = cbor2.dumps([1, {"a": 1}])
    assert path.read_bytes() == struct.pack(">II", len(body), zlib.crc32(body)) + body


def test_a_record_that_was_written_in_part_is_taken_back(
    reopened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = reopened()
    journal.append({"a": 1})
    size = path.stat().st_size
    write = os.write
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", lambda fd, data: write(fd, data[:5]))  # as on a disk that is just full
        with pytest.raises(Internal, match="disk full"):
            journal.append({"b": 2})
    assert path.stat().st_size == size
    assert journal.append({"c": 3}) == 2
    assert reopened().since(0) == [(1, {"a": 1}), (2, {"c": 3})]


def test_an_ack_on_a_full_disk_is_only_remembered(reopened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    journal = reopened()
    journal.append({"a": 1})
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        journal.ack(1)
    assert journal.unacked() == []
    assert reopened().unacked() == [(1, {"a": 1})]


def test_a_large_journal_is_bulky_only_when_all_of_it_is_acked(reopened: Open) -> None:
    journal = reopened()
    journal.append({"stdout": bytes(BULKY)})
    assert not journal.bulky
    journal.ack(1)
    assert journal.bulky
    assert reopened().bulky


def only(*numbers: int) -> Callable[[list[Record]], Collection[int]]:
    """Nothing else is needed."""
    return lambda _: numbers


def test_compacting_leaves_what_is_needed_and_the_unacked_and_the_numbers(reopened: Open, path: Path) -> None:
    journal = reopened()
    journal.append({"a": 1})
    journal.append({"stdout": bytes(BULKY)})
    journal.append({"b": 2})
    journal.append({"c": 3})
    journal.ack(3)
    journal.compact(only(1))
    assert path.stat().st_size < 200
    assert [entry.name for entry in path.parent.iterdir()] == ["journal"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert not journal.bulky
    assert journal.append({"d": 4}) == 5
    journal = reopened()
    assert journal.acked == 3
    assert journal.since(0) == [(1, {"a": 1}), (4, {"c": 3}), (5, {"d": 4})]
    assert read_journal(str(path)) == ([(1, {"a": 1}), (4, {"c": 3}), (5, {"d": 4})], 3)


def test_the_last_is_always_kept_so_that_the_numbers_go_on(reopened: Open) -> None:
    journal = reopened()
    journal.append({})
    journal.append({"last": 1})
    journal.ack(2)
    journal.compact(only())
    assert reopened().since(0) == [(2, {"last": 1})]
    assert reopened().append({}) == 3


def test_a_journal_of_which_all_is_needed_is_not_compacted_again_before_it_has_doubled(reopened: Open) -> None:
    journal = reopened()
    journal.append({"stdout": bytes(BULKY)})
    journal.ack(1)
    journal.compact(only(1))
    assert not journal.bulky
    journal.append({"stdout": bytes(BULKY)})
    journal.ack(2)
    assert not journal.bulky
    journal.append({"stdout": bytes(BULKY)})
    journal.ack(3)
    assert journal.bulky


def test_a_compaction_that_fails_leaves_the_journal_as_it_was(reopened: Open, path: Path) -> None:
    journal = reopened()
    journal.append({"a": 1})
    (path.parent / "journal.new").mkdir()  # stands in the way
    with pytest.raises(IsADirectoryError):
        journal.compact(only())
    assert journal.append({"b": 2}) == 2
    assert [n for n, _ in reopened().unacked()] == [1, 2]


def test_what_a_compaction_left_when_it_was_killed_is_harmless(reopened: Open, path: Path) -> None:
    (path.parent / "journal.new").write_bytes(b"half a journal")
    journal = reopened()
    journal.append({"a": 1})
    journal.compact(only())
    assert reopened().unacked() == [(1, {"a": 1})]
    assert not (path.parent / "journal.new").exists()


def test_the_file_is_its_owners_alone_and_its_descriptor_is_not_inherited(reopened: Open, path: Path) -> None:
    reopened()
    assert path.stat().st_mode & 0o777 == 0o600
    (fd,) = (int(entry.name) for entry in Path("/proc/self/fd").iterdir() if entry.exists() and entry.samefile(path))
    assert not os.get_inheritable(fd)


@pytest.mark.parametrize("item", [[], 5, {}, [0], [1], [1, 2], ["a", {}], [-1, {}], [0, {}, {}], b"\xff", "x"], ids=repr)
def test_a_record_that_no_journal_has_written_ends_the_valid_prefix_whatever_its_checksum(
    reopened: Open, path: Path, item: Any
) -> None:
    reopened().append({"exit": 7})
    body = item if isinstance(item, bytes) else cbor2.dumps(item)
    with path.open("ab") as file:
        file.write(struct.pack(">II", len(body), zlib.crc32(body)) + body)
    journal = reopened()
    assert journal.append({"exit": 8}) == 2
    assert journal.since(0) == [(1, {"exit": 7}), (2, {"exit": 8})]
