from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimproc.io.logfile import LogFile, parse_lines
from shimproc.io.sinks import CaptureSink, FileSink, LogSink


def appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def test_a_file_is_appended_to_and_closed_once_finished(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before ")
    fd = appending(path)
    sink = FileSink(fd)
    assert sink.write(b"after")
    done: list[str] = []
    sink.finish(lambda: done.append("done"))
    assert done == ["done"]
    assert path.read_bytes() == b"before after"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    sink.close()


def test_a_file_on_a_full_disk_takes_on_and_counts() -> None:
    sink = FileSink(os.open("/dev/full", os.O_WRONLY))
    assert sink.write(b"12345")
    assert sink.write(b"678")
    assert sink.dropped == 8
    sink.close()


def test_a_file_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(appending(tmp_path / "out"))
    write = os.write
    with monkeypatch.context() as slow:
        slow.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
        sink.write(b"12345")
    sink.close()
    assert (tmp_path / "out").read_bytes() == b"12345"
    assert sink.dropped == 0


@pytest.mark.parametrize(
    ("limit", "kept", "truncated"), [(0, b"", True), (4, b"1234", True), (5, b"12345", False), (9, b"12345", False)]
)
def test_capture_keeps_the_first_bytes_and_tells_whether_more_came(
    tmp_path: Path, limit: int, kept: bytes, truncated: bool
) -> None:
    sink = CaptureSink(limit, str(tmp_path / "kept"))
    assert sink.write(b"123")
    assert sink.write(b"45")
    sink.close()
    assert (sink.taken(), sink.truncated, sink.dropped) == (kept, truncated, 0)


def test_capture_of_nothing_is_not_truncated(tmp_path: Path) -> None:
    assert not CaptureSink(0, str(tmp_path / "none")).truncated


def test_both_streams_share_the_log_and_closing_one_leaves_the_other(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    stdout, stderr = LogSink(log, "stdout"), LogSink(log, "stderr")
    stdout.write(b"a\n")
    stdout.close()
    stderr.write(b"b\n")
    log.close()
    found = [(stream, data) for stream, _, data in parse_lines((tmp_path / "log").read_bytes())]
    assert found == [("stdout", b"a\n"), ("stderr", b"b\n")]


def test_a_log_that_cannot_be_written_takes_on_and_counts(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    sink = LogSink(log, "stdout")
    log.close()
    assert sink.write(b"12345\n")
    assert sink.dropped == 6
