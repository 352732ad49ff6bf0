from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimproc import linux
from shimproc.errors import InvalidArgument
from shimproc.io.fifo import FifoSink, open_fifo
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
def sink(loop: Loop, path: Path) -> Iterator[FifoSink]:
    made = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    yield made
    made.close()


class Told:
    """Counts calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def reader(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def cat(path: Path) -> subprocess.Popen[bytes]:
    """A reader that opens the pipe as most programs do: waiting, if it must."""
    return subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)


def fill(sink: FifoSink) -> int:
    """Write until it is full; how much it has then."""
    size = 0
    while True:
        size += 1 << 16
        assert size < 16 << 20, "it is never full"
        if not sink.write(bytes(1 << 16)):
            return size


def test_a_missing_pipe_is_made_for_its_owner_alone(path: Path) -> None:
    os.close(open_fifo(str(path), "stdio.stdout"))
    assert path.is_fifo()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["file", "folder", "nowhere"])
def test_what_is_no_pipe_is_refused_by_the_fields_name_and_left_alone(path: Path, kind: str) -> None:
    target = path / "deeper" if kind == "nowhere" else path
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    before = descriptors()
    with pytest.raises(InvalidArgument, match=r"stdio\.stderr"):
        open_fifo(str(target), "stdio.stderr")
    assert descriptors() == before
    assert kind != "file" or path.read_text() == "precious"


def test_what_was_written_before_a_reader_came_is_there_for_it(sink: FifoSink, path: Path) -> None:
    assert sink.write(b"early ")
    fd = reader(path)
    assert sink.write(b"late")
    assert os.read(fd, 100) == b"early late"
    os.close(fd)


def test_a_reader_that_waits_in_its_open_is_let_in_and_given_all(loop: Loop, path: Path) -> None:
    os.mkfifo(path)
    client = cat(path)
    sink = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    sink.write(b"for a cat")
    until(loop, lambda: linux.unread(sink._fd) == 0)  # type: ignore[arg-type]
    sink.finish(Told())
    assert client.communicate(timeout=20)[0] == b"for a cat"


def test_without_a_reader_it_is_full_in_the_end_until_one_reads(loop: Loop, sink: FifoSink, path: Path) -> None:
    room = Told()
    sink.on_room(room)
    size = fill(sink)
    assert sink.dropped == 0
    fd = reader(path)
    assert len(read_all(loop, fd, size)) == size
    until(loop, lambda: room.times > 0)
    assert sink.write(b"more")
    os.close(fd)


def test_a_slow_reader_holds_the_stream_and_loses_nothing(loop: Loop, sink: FifoSink, path: Path) -> None:
    fd = reader(path)
    size = fill(sink)
    assert not sink.write(b"x")
    assert len(read_all(loop, fd, size + 1)) == size + 1
    assert sink.dropped == 0
    os.close(fd)


def test_without_its_reader_output_is_dropped_and_counted_until_another_comes(sink: FifoSink, path: Path) -> None:
    fd = reader(path)
    assert sink.write(b"seen")
    assert os.read(fd, 100) == b"seen"
    os.close(fd)
    assert sink.write(b"unseen")
    assert sink.dropped == 6
    fd = reader(path)
    assert sink.write(b"again")
    assert os.read(fd, 100) == b"again"
    assert sink.dropped == 6
    os.close(fd)


def test_a_reader_that_came_and_went_between_two_writes_is_noticed_by_what_it_took(sink: FifoSink, path: Path) -> None:
    sink.write(b"seen")
    fd = reader(path)
    os.read(fd, 2)
    os.close(fd)
    assert sink.write(b"unseen")
    assert sink.dropped == 6


def test_a_reader_that_goes_without_reading_does_not_hold_the_task(loop: Loop, sink: FifoSink, path: Path) -> None:
    room = Told()
    sink.on_room(room)
    fd = reader(path)
    fill(sink)
    os.close(fd)
    until(loop, lambda: room.times > 0)
    assert sink.dropped > 0
    assert sink.write(b"x" * 100)


def test_an_idle_sink_wakes_nobody_up(loop: Loop, sink: FifoSink, path: Path) -> None:
    sink.write(b"x")
    fd = reader(path)
    sink.write(b"y")
    os.close(fd)
    sink.write(b"z")
    turns: list[int] = []
    loop.call_later(0.02, lambda: turns.append(-1))
    while not turns or turns[-1] != -1:
        loop.round()
        turns.insert(0, 1)
    assert len(turns) <= 3


def test_finish_is_done_when_the_pipe_has_all_for_its_reader(sink: FifoSink, path: Path) -> None:
    fd = reader(path)
    sink.write(b"last words")
    done = Told()
    sink.finish(done)
    assert done.times == 1
    assert os.read(fd, 100) == b"last words"
    assert os.read(fd, 100) == b""
    os.close(fd)


def test_finish_waits_for_a_slow_reader(loop: Loop, sink: FifoSink, path: Path) -> None:
    fd = reader(path)
    size = fill(sink)
    done = Told()
    sink.finish(done)
    assert done.times == 0
    assert len(read_all(loop, fd, size)) == size
    until(loop, lambda: done.times == 1)
    assert os.read(fd, 1) == b""
    assert sink.dropped == 0
    os.close(fd)


def test_finish_waits_no_longer_when_the_slow_reader_goes(loop: Loop, sink: FifoSink, path: Path) -> None:
    fd = reader(path)
    fill(sink)
    done = Told()
    sink.finish(done)
    os.close(fd)
    until(loop, lambda: done.times == 1)
    assert sink.dropped > 0


@pytest.mark.parametrize("text", [b"", b"last words", bytes(1 << 20)])
def test_a_late_reader_gets_what_was_left_and_then_the_end(loop: Loop, path: Path, text: bytes) -> None:
    sink = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    sink.write(text)
    done = Told()
    sink.finish(done)
    assert done.times == 1  # there is nobody to wait for
    client = cat(path)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(client.communicate()[0]), daemon=True)
    thread.start()
    until(loop, lambda: not thread.is_alive())
    assert got == [text]
    assert sink.dropped == 0


def test_a_late_reader_that_comes_just_before_it_is_looked_for_is_seen(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_watch = linux.inotify_add_watch
    came: list[int] = []

    def too_late(fd: int, target: str, mask: int) -> int:
        came.append(reader(path))
        return add_watch(fd, target, mask)

    monkeypatch.setattr(linux, "inotify_add_watch", too_late)
    sink = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    sink.write(b"last words")
    sink.finish(Told())
    assert os.read(came[0], 100) == b"last words"
    assert os.read(came[0], 100) == b""
    os.close(came[0])


def test_a_late_reader_is_served_without_inotify_too(loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(linux, "inotify_init", none_left)
    sink = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    sink.write(b"last words")
    sink.finish(Told())
    fd = reader(path)
    assert os.read(fd, 100) == b"last words"
    sink.close()
    assert os.read(fd, 100) == b""
    os.close(fd)


def test_what_nobody_took_is_counted_on_close(loop: Loop, path: Path) -> None:
    sink = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    size = fill(sink)
    sink.finish(Told())
    sink.close()
    assert sink.dropped == size
    sink.close()
    assert sink.write(b"x")
    assert sink.dropped == size + 1


@pytest.mark.parametrize("how", ["close", "finish", "full", "late"])
def test_a_sink_leaves_no_descriptor(loop: Loop, path: Path, how: str) -> None:
    before = descriptors()
    sink = FifoSink(loop, open_fifo(str(path), "stdio.stdout"))
    if how == "full":
        fill(sink)
    if how == "finish":
        fd = reader(path)
        sink.finish(Told())
        os.close(fd)
    elif how == "late":
        sink.finish(Told())
        sink.close()
    else:
        sink.close()
    assert descriptors() == before
