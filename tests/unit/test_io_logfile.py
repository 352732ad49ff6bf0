from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimproc.io.logfile import MAX_LINE, LogFile, parse_lines

Open = Callable[..., LogFile]
PIECES = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.one_of(
            st.binary(max_size=60),
            st.text("ab \n", max_size=60).map(str.encode),
            st.integers(MAX_LINE - 2, 2 * MAX_LINE + 2).map(lambda size: b"x" * size),
            st.just(b" stdout F \n\n\r"),
        ),
    ),
    max_size=8,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def open_log(path: Path) -> Iterator[Open]:
    opened: list[LogFile] = []

    def make(max_size: int = 1 << 20, max_files: int = 3) -> LogFile:
        opened.append(LogFile(str(path), max_size, max_files))
        return opened[-1]

    yield make
    for log in opened:
        log.close()


def chunks(path: Path, stream: str = "stdout") -> list[bytes]:
    return [data for name, _, data in parse_lines(path.read_bytes()) if name == stream]


def test_a_line_has_the_cri_form(open_log: Open, path: Path) -> None:
    before = time.time_ns()
    open_log().write("stderr", b"hello world\n")
    after = time.time_ns()
    assert re.fullmatch(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stderr F hello world\n", path.read_bytes())
    ((stream, timestamp, data),) = parse_lines(path.read_bytes())
    assert (stream, data) == ("stderr", b"hello world\n")
    assert before <= timestamp <= after


def test_a_last_line_without_newline_is_partial_and_comes_back_without_one(open_log: Open, path: Path) -> None:
    open_log().write("stdout", b"whole\npart")
    assert [line.split(b" ", 2)[2] for line in path.read_bytes().splitlines()] == [b"F whole", b"P part"]
    assert chunks(path) == [b"whole\n", b"part"]


@pytest.mark.parametrize("length", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE])
def test_a_line_over_16_kb_is_split_into_partial_ones(open_log: Open, path: Path, length: int) -> None:
    open_log().write("stdout", b"x" * length + b"\n")
    found = chunks(path)
    assert b"".join(found) == b"x" * length + b"\n"
    assert all(len(chunk.rstrip(b"\n")) <= MAX_LINE for chunk in found)
    assert [chunk.endswith(b"\n") for chunk in found] == [False] * (len(found) - 1) + [True]
    assert len(found) == -(-length // MAX_LINE)


@given(pieces=PIECES)
def test_any_bytes_in_any_pieces_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogFile(str(path), 1 << 30, 2)
    try:
        assert [log.write(stream, data) for stream, data in pieces] == [0] * len(pieces)
    finally:
        log.close()
    for stream in ("stdout", "stderr"):
        assert b"".join(chunks(path, stream)) == b"".join(data for name, data in pieces if name == stream)


@given(junk=st.binary(max_size=200))
def test_what_is_no_line_of_ours_is_skipped(junk: bytes) -> None:
    line = b"2026-11-23T22:53:01.123456789Z stdout F ok"
    assert ("stdout", 1795474381123456789, b"ok\n") in list(parse_lines(junk + b"\n" + line + b"\n" + junk))


@given(now=st.integers(0, 4102444800 * 10**9))
def test_a_time_is_read_as_it_was_written(now: int) -> None:
    whole, rest = divmod(now, 10**9)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{rest:09d}Z"
    assert [timestamp for _, timestamp, _ in parse_lines(f"{stamp} stdout P x\n".encode())] == [now]


def test_it_is_rotated_by_size_and_count(open_log: Open, path: Path) -> None:
    log = open_log(max_size=100, max_files=3)
    for number in range(10):
        log.write("stdout", b"%d" % number * 100 + b"\n")
    names = sorted(entry.name for entry in path.parent.iterdir())
    assert names == ["log", "log.1", "log.2"]
    assert [chunks(path.parent / name)[0][:1] for name in ("log.2", "log.1", "log")] == [b"7", b"8", b"9"]


def test_one_file_alone_is_begun_anew(open_log: Open, path: Path) -> None:
    log = open_log(max_size=100, max_files=1)
    for number in range(3):
        log.write("stdout", b"%d" % number * 100 + b"\n")
    assert [entry.name for entry in path.parent.iterdir()] == ["log"]
    assert chunks(path) == [b"2" * 100 + b"\n"]


def test_a_rotated_file_keeps_its_inode_so_that_a_reader_can_go_on(open_log: Open, path: Path) -> None:
    log = open_log(max_size=10)
    log.write("stdout", b"first\n")
    inode = path.stat().st_ino
    log.write("stdout", b"second\n")
    assert path.with_name("log.1").stat().st_ino == inode


def test_a_rotation_that_fails_goes_on_in_the_same_file(open_log: Open, path: Path) -> None:
    log = open_log(max_size=10)
    log.write("stdout", b"first\n")
    blocked = path.with_name("log.new")
    blocked.mkdir()
    assert log.write("stdout", b"second\n") == 0
    assert chunks(path) == [b"first\n", b"second\n"]
    blocked.rmdir()
    log.write("stdout", b"third\n")
    assert chunks(path) == [b"third\n"]
    assert chunks(path.with_name("log.1")) == [b"first\n", b"second\n"]


def test_an_existing_log_is_continued(open_log: Open, path: Path) -> None:
    open_log().write("stdout", b"before\n")
    open_log().write("stdout", b"after\n")
    assert chunks(path) == [b"before\n", b"after\n"]


def test_half_a_line_of_a_killed_writer_does_not_spoil_the_next(open_log: Open, path: Path) -> None:
    open_log().write("stdout", b"whole\n")
    with path.open("ab") as file:
        file.write(b"2026-11-23T22:53:01.123456789Z stdout P tor")
    open_log().write("stdout", b"next\n")
    assert chunks(path) == [b"whole\n", b"tor", b"next\n"]


def test_a_full_disk_costs_the_bytes_that_it_costs_and_leaves_whole_lines(
    open_log: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log()
    write, room = os.write, [100]

    def nearly_full(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = write(fd, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", nearly_full)
        assert log.write("stdout", b"a" * 40 + b"\n" + b"b" * 40 + b"\n") == 41
        assert log.write("stdout", b"nothing\n") == 8
    assert log.write("stdout", b"again\n") == 0
    assert chunks(path) == [b"a" * 40 + b"\n", b"again\n"]


def test_a_log_is_its_owners_alone(open_log: Open, path: Path) -> None:
    open_log()
    assert path.stat().st_mode & 0o777 == 0o600
