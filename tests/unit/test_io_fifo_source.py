from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimproc.io.fifo import FifoSource, open_fifo
from shimproc.loop import Loop
from tests.support.turns import descriptors, read_all, until


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pipe"


@pytest.fixture
def stdin() -> Iterator[tuple[int, int]]:
    """The process's end and ours of its stdin."""
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    yield theirs, ours
    os.close(theirs)


def source_of(loop: Loop, path: Path, stdin: tuple[int, int]) -> FifoSource:
    return FifoSource(loop, open_fifo(str(path), "stdio.stdin"), stdin[1])


def writer(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def test_input_is_copied_and_ends_when_its_writers_have_gone(loop: Loop, path: Path, stdin: tuple[int, int]) -> None:
    source = source_of(loop, path, stdin)
    first, second = writer(path), writer(path)
    os.write(first, b"one ")
    os.close(first)
    os.write(second, b"two")
    assert read_all(loop, stdin[0], 7) == b"one two"
    assert not source.closed
    os.close(second)
    until(loop, lambda: source.closed)
    assert os.read(stdin[0], 1) == b""


def test_input_waits_for_its_first_writer(loop: Loop, path: Path, stdin: tuple[int, int]) -> None:
    source = source_of(loop, path, stdin)
    for _ in range(3):
        loop.round(0)
    source._on_readable(0)  # an event that was meant for an earlier holder of the descriptor
    assert not source.closed
    fd = writer(path)
    os.write(fd, b"x")
    assert read_all(loop, stdin[0], 1) == b"x"
    os.close(fd)
    until(loop, lambda: source.closed)


def test_input_keeps_the_pace_of_the_process_and_loses_nothing(loop: Loop, path: Path, stdin: tuple[int, int]) -> None:
    source = source_of(loop, path, stdin)
    fd = os.open(path, os.O_WRONLY)
    data = bytes(range(256)) * 4096

    def feed() -> None:
        os.write(fd, data)
        os.close(fd)

    feeding = threading.Thread(target=feed, daemon=True)
    feeding.start()
    assert read_all(loop, stdin[0], len(data), 5000) == data
    feeding.join()
    until(loop, lambda: source.closed)


def test_input_ends_when_the_process_has_closed_its_stdin(loop: Loop, path: Path) -> None:
    before = descriptors()
    theirs, ours = os.pipe()
    source = source_of(loop, path, (theirs, ours))
    os.close(theirs)
    fd = writer(path)
    os.write(fd, b"x")
    until(loop, lambda: source.closed)
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"y")
    os.close(fd)
    assert descriptors() == before


def test_ending_input_passes_on_what_was_written_until_then(loop: Loop, path: Path, stdin: tuple[int, int]) -> None:
    source = source_of(loop, path, stdin)
    fd = writer(path)
    size = os.write(fd, bytes(1 << 16)) + os.write(stdin[1], bytes(1 << 16))  # both pipes are full
    loop.round(0)
    source.end()
    assert len(read_all(loop, stdin[0], size)) == size
    until(loop, lambda: source.closed)
    assert os.read(stdin[0], 1) == b""
    os.close(fd)


def test_ending_input_is_not_held_up_by_a_writer_that_goes_on(loop: Loop, path: Path, stdin: tuple[int, int]) -> None:
    source = source_of(loop, path, stdin)
    fd = writer(path)
    os.write(fd, b"until now")
    source.end()
    if not source.closed:
        os.write(fd, b"too late")
    until(loop, lambda: source.closed)
    assert os.read(stdin[0], 100) == b"until now"
    os.close(fd)


def test_ending_or_closing_input_twice_is_harmless(loop: Loop, path: Path, stdin: tuple[int, int]) -> None:
    source = source_of(loop, path, stdin)
    source.end()
    source.end()
    source.close()
    source.close()
    assert source.closed
