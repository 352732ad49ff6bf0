from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shimproc import linux
from shimproc.io.pump import Output
from shimproc.io.sinks import CaptureSink
from shimproc.loop import Loop
from tests.support.turns import descriptors, until


class Gate:
    """A sink that takes all, and tells it is full whenever ``open`` is False."""

    def __init__(self) -> None:
        self.dropped = 0
        self.open = True
        self.taken = bytearray()
        self.resume: Callable[[], None] = lambda: None
        self.done: Callable[[], None] | None = None
        self.closed = False

    def write(self, data: bytes) -> bool:
        self.taken += data
        return self.open

    def on_room(self, resume: Callable[[], None]) -> None:
        self.resume = resume

    def finish(self, done: Callable[[], None]) -> None:
        self.done = done

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(writing)


def test_what_is_written_reaches_every_sink(loop: Loop, pipe: tuple[int, int], tmp_path: Path) -> None:
    first, second = (CaptureSink(1 << 20, str(tmp_path / name)) for name in ("first", "second"))
    output = Output(loop, pipe[0], [first, second])
    os.write(pipe[1], b"hello")
    until(loop, lambda: first.taken() == b"hello")
    assert second.taken() == b"hello"
    output.abandon()


def test_a_full_sink_holds_the_writer_up_and_memory_stays_small(loop: Loop, pipe: tuple[int, int]) -> None:
    gate = Gate()
    gate.open = False
    output = Output(loop, pipe[0], [gate])
    data = bytes(range(256)) * 8192
    writing = threading.Thread(target=lambda: os.write(pipe[1], data), daemon=True)
    writing.start()
    until(loop, lambda: bool(gate.taken) and linux.unread(pipe[1]) >= 128 << 10)
    assert len(gate.taken) <= 128 << 10
    assert writing.is_alive()
    gate.open = True
    gate.resume()
    until(loop, lambda: len(gate.taken) == len(data))
    writing.join()
    assert gate.taken == data
    output.abandon()


def test_one_turn_is_bounded_so_that_other_streams_get_theirs(loop: Loop, tmp_path: Path) -> None:
    gate = Gate()
    writer = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    busy = Output(loop, os.dup(writer.stdout.fileno()), [CaptureSink(0, str(tmp_path / "busy"))])
    reading, writing = os.pipe()
    other = Output(loop, reading, [gate])
    os.write(writing, b"x")
    until(loop, lambda: bool(gate.taken))
    busy.abandon()
    other.abandon()
    os.close(writing)
    with writer:
        writer.kill()


def test_the_end_of_the_stream_closes_the_pipe_and_keeps_the_sinks(loop: Loop) -> None:
    before = descriptors()
    reading, writing = os.pipe()
    gate = Gate()
    output = Output(loop, reading, [gate])
    os.write(writing, b"last words")
    os.close(writing)
    until(loop, lambda: descriptors() == before)
    assert gate.taken == b"last words"
    assert not gate.closed
    output.drain(lambda: None)
    assert gate.done is not None


def test_drain_reads_what_is_left_and_waits_for_no_end_of_file(loop: Loop, pipe: tuple[int, int]) -> None:
    gate = Gate()
    output = Output(loop, pipe[0], [gate])
    os.write(pipe[1], b"x" * 60000)
    os.write(pipe[1], b"the end")
    done: list[bool] = []
    output.drain(lambda: done.append(True))
    assert gate.taken == b"x" * 60000 + b"the end"
    assert done == []
    assert gate.done is not None
    gate.done()
    assert done == [True]


def test_drain_is_not_held_up_by_a_full_sink(loop: Loop, pipe: tuple[int, int]) -> None:
    gate = Gate()
    gate.open = False
    output = Output(loop, pipe[0], [gate])
    os.write(pipe[1], b"one")
    until(loop, lambda: gate.taken == b"one")
    os.write(pipe[1], b"two")
    output.drain(lambda: None)
    assert gate.taken == b"onetwo"


def test_drain_ends_though_an_orphan_goes_on_writing(loop: Loop, pipe: tuple[int, int]) -> None:
    class Orphan(Gate):
        def write(self, data: bytes) -> bool:
            os.write(pipe[1], b"more")
            assert len(self.taken) < 1000, "it goes on and on"
            return super().write(data)

    orphan = Orphan()
    output = Output(loop, pipe[0], [orphan])
    os.write(pipe[1], b"the process's own")
    output.drain(lambda: None)
    assert orphan.taken == b"the process's own"
    assert orphan.done is not None


def test_drain_is_done_once_all_sinks_are(loop: Loop, pipe: tuple[int, int]) -> None:
    gates = [Gate(), Gate()]
    output = Output(loop, pipe[0], gates)
    done: list[bool] = []
    output.drain(lambda: done.append(True))
    for gate in gates:
        assert done == []
        assert gate.done is not None
        gate.done()
    assert done == [True]


def test_drain_is_done_at_once_where_nobody_takes_the_output(loop: Loop, pipe: tuple[int, int]) -> None:
    done: list[bool] = []
    Output(loop, pipe[0], []).drain(lambda: done.append(True))
    assert done == [True]


def test_abandon_closes_the_pipe_and_the_sinks_and_may_be_repeated(loop: Loop) -> None:
    before = descriptors()
    reading, writing = os.pipe()
    gate = Gate()
    output = Output(loop, reading, [gate])
    output.abandon()
    output.abandon()
    assert gate.closed
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)
    assert descriptors() == before


def test_dropped_bytes_are_those_of_all_sinks(loop: Loop, pipe: tuple[int, int]) -> None:
    gates = [Gate(), Gate()]
    output = Output(loop, pipe[0], gates)
    gates[0].dropped, gates[1].dropped = 3, 4
    assert output.dropped == 7
    output.abandon()


@pytest.mark.parametrize("discard", [True, False])
def test_what_is_written_on_hold_is_thrown_away_or_passed_on(loop: Loop, pipe: tuple[int, int], *, discard: bool) -> None:
    gate, turned = Gate(), []
    output = Output(loop, pipe[0], [gate])
    output.hold()
    os.write(pipe[1], b"held ")
    gate.resume()  # a sink that has room again does not end it
    loop.call_later(0.01, lambda: turned.append(True))
    until(loop, lambda: bool(turned))
    assert not gate.taken
    output.go_on(discard=discard)
    os.write(pipe[1], b"told")
    until(loop, lambda: gate.taken.endswith(b"told"))
    assert bytes(gate.taken) == (b"told" if discard else b"held told")
    output.abandon()
