from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shimproc.errors import FailedPrecondition, InvalidArgument, ShimyardError
from shimproc.io.logfile import parse_lines
from shimproc.io.stdio import open_stdio
from shimproc.io.streams import ProcessIO
from shimproc.io.uri import Capture, LogSettings, parse_uri
from shimproc.loop import Loop
from tests.support.turns import descriptors, until

Open = Callable[..., ProcessIO]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def opened(loop: Loop, tmp_path: Path) -> Iterator[Open]:
    """Opens a stdio; afterwards nothing may be left open."""
    before = descriptors()
    made: list[ProcessIO] = []

    def make(capture: int | None = None, **stdio: object) -> ProcessIO:
        kept = None if capture is None else Capture(capture, str(tmp_path))
        made.append(open_stdio(loop, stdio, LogSettings(str(tmp_path / "log"), 1 << 20, 2), kept))
        return made[-1]

    yield make
    for io in made:
        io.close_child()
        io.abandon()
    assert descriptors() == before


def run(io: ProcessIO, script: str) -> int:
    """Run a shell with this stdio to its end; its exit status."""
    stdin, stdout, stderr = io.child
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=stdin, stdout=stdout, stderr=stderr) as process:
        io.close_child()
        status = process.wait(20)
    io.finish()
    return status


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("", ("null", "")),
        ("/a/b", ("fifo", "/a/b")),
        ("/a://b", ("fifo", "/a://b")),
        ("fifo:///a/b", ("fifo", "/a/b")),
        ("file:///a b", ("file", "/a b")),
        ("log:", ("log", "")),
    ],
)
def test_a_uri_is_null_a_pipe_a_file_or_the_log(uri: str, found: tuple[str, str]) -> None:
    assert parse_uri(uri, "stdio.stdout") == found


@pytest.mark.parametrize(
    "uri", ["a/b", "fifo://a/b", "file://host/a", "http:///a", "file:///a\0b", "log:///a", "file:", "://"]
)
def test_another_uri_is_refused_by_the_fields_name(uri: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^stdio\.stdout: "):
        parse_uri(uri, "stdio.stdout")


def test_stdin_has_no_log() -> None:
    with pytest.raises(InvalidArgument, match=r"^stdio\.stdin: ") as raised:
        parse_uri("log:", "stdio.stdin")
    assert not raised.value.message.endswith("log:")


def test_without_destinations_input_is_empty_and_output_discarded(opened: Open) -> None:
    io = opened(stdin="", stdout=None)
    assert run(io, "cat && echo x && echo y >&2") == 0
    assert io.flushed.done
    assert io.captured() is None


def test_the_childs_descriptors_are_above_2_and_not_inherited_by_others(opened: Open, tmp_path: Path) -> None:
    io = opened(stdin=str(tmp_path / "in"), stdout="log:", stderr=f"file://{tmp_path}/err", capture=5)
    assert len(set(io.child)) == 3
    assert all(fd > 2 and not os.get_inheritable(fd) for fd in io.child)


def test_descriptors_stay_above_2_where_0_1_and_2_are_free(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            loop = Loop()
            os.closerange(0, 3)
            settings = LogSettings(str(tmp_path / "log"), 1 << 20, 2)
            io = open_stdio(loop, {"stdin": str(tmp_path / "in"), "stdout": "log:", "stderr": ""}, settings, None)
            status = 0 if min(io.child) > 2 else 2
            io.close_child()
            io.abandon()
            status = status if {"0", "1", "2"}.isdisjoint(descriptors()) else 3
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_file_is_appended_to_by_the_process_itself(opened: Open, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("before\n")
    io = opened(stdout=f"file://{out}")
    assert os.fstat(io.child[1]).st_ino == out.stat().st_ino
    flags = fcntl.fcntl(io.child[1], fcntl.F_GETFL)
    assert flags & os.O_APPEND
    assert not flags & os.O_NONBLOCK
    run(io, "echo after")
    assert out.read_text() == "before\nafter\n"


def test_a_file_that_is_made_is_its_owners_alone(opened: Open, tmp_path: Path) -> None:
    opened(stdout=f"file://{tmp_path}/out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_file_can_be_stdin(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("given")
    io = opened(stdin=f"file://{tmp_path}/in", stdout=f"file://{tmp_path}/out")
    run(io, "cat")
    assert (tmp_path / "out").read_text() == "given"


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_the_same_destination_for_both_keeps_the_order_of_writing(opened: Open, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "both"
    io = opened(stdout=f"{kind}://{path}", stderr=f"{kind}://{path}")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    run(io, "for i in 1 2 3; do echo o$i; echo e$i >&2; done")
    assert os.read(fd, 100) == b"o1\ne1\no2\ne2\no3\ne3\n"
    os.close(fd)


def test_the_log_has_both_streams_to_the_last_byte(opened: Open, tmp_path: Path) -> None:
    io = opened(stdout="log:", stderr="log:")
    run(io, "echo out; printf err >&2")
    assert io.flushed.done
    found = {(stream, data) for stream, _, data in parse_lines((tmp_path / "log").read_bytes())}
    assert found == {("stdout", b"out\n"), ("stderr", b"err")}


def test_pipes_carry_input_and_output(loop: Loop, opened: Open, tmp_path: Path) -> None:
    io = opened(stdin=str(tmp_path / "in"), stdout=f"fifo://{tmp_path}/out")
    reading = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(tmp_path / "in", os.O_WRONLY)
    stdin, stdout, stderr = io.child
    with subprocess.Popen(["tr", "a-z", "A-Z"], stdin=stdin, stdout=stdout, stderr=stderr) as process:
        io.close_child()
        os.write(writing, b"hello")
        os.close(writing)
        until(loop, lambda: process.poll() is not None)
    io.finish()
    assert io.flushed.done
    assert os.read(reading, 100) == b"HELLO"
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_close_stdin_ends_a_cat_after_what_was_written(loop: Loop, opened: Open, tmp_path: Path) -> None:
    io = opened(stdin=str(tmp_path / "in"), capture=100)
    writing = os.open(tmp_path / "in", os.O_WRONLY)
    stdin, stdout, stderr = io.child
    with subprocess.Popen(["cat"], stdin=stdin, stdout=stdout, stderr=stderr) as process:
        io.close_child()
        os.write(writing, b"all of it")
        io.close_stdin()
        until(loop, lambda: process.poll() is not None)
    io.close_stdin()
    io.finish()
    assert io.captured() == {"stdout": b"all of it", "stderr": b"", "truncated": False}
    os.close(writing)


@pytest.mark.parametrize("stdin", ["", "file:///dev/null"])
def test_close_stdin_without_a_stream_is_refused(opened: Open, stdin: str) -> None:
    with pytest.raises(FailedPrecondition, match="stdin"):
        opened(stdin=stdin).close_stdin()


def test_capture_keeps_the_first_bytes_beside_the_destination(opened: Open, tmp_path: Path) -> None:
    io = opened(stdout=f"file://{tmp_path}/out", stderr="log:", capture=3)
    run(io, "printf 12345; printf 67 >&2")
    assert io.captured() == {"stdout": b"123", "stderr": b"67", "truncated": True}
    assert (tmp_path / "out").read_bytes() == b"12345"
    assert [data for _, _, data in parse_lines((tmp_path / "log").read_bytes())] == [b"67"]


def test_a_large_output_is_complete(loop: Loop, opened: Open, tmp_path: Path) -> None:
    io = opened(stdout="log:", capture=100)
    stdin, stdout, stderr = io.child
    script = "head -c 900000 /dev/zero | tr '\\0' 'x'; echo end"
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=stdin, stdout=stdout, stderr=stderr) as process:
        io.close_child()
        until(loop, lambda: process.poll() is not None)
    io.finish()
    assert b"".join(data for _, _, data in parse_lines((tmp_path / "log").read_bytes())) == b"x" * 900000 + b"end\n"
    assert io.dropped == 0


def test_an_orphan_that_holds_the_output_delays_nothing(opened: Open) -> None:
    io = opened(capture=100)
    assert run(io, "echo said; sleep 60 & echo $!") == 0
    assert io.flushed.done
    captured = io.captured()
    assert captured is not None
    said, orphan = captured["stdout"].split()
    os.kill(int(orphan), signal.SIGKILL)
    assert said == b"said"


def test_a_slow_reader_delays_what_is_flushed_and_not_finish(loop: Loop, opened: Open, tmp_path: Path) -> None:
    io = opened(stdout=str(tmp_path / "out"))
    reading = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    _, stdout, _ = io.child
    os.set_blocking(stdout, False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += os.write(stdout, bytes(1 << 16))
            assert sent < 16 << 20, "nothing holds the process up"
            loop.round(0)
    io.close_child()
    io.finish()
    assert not io.flushed.done
    got = 0
    while got < sent:
        with contextlib.suppress(BlockingIOError):
            got += len(os.read(reading, 1 << 20))
        loop.round(0.01)
    until(loop, lambda: io.flushed.done)
    assert io.dropped == 0
    os.close(reading)


def test_a_dead_reader_blocks_nobody_and_the_loss_is_counted(loop: Loop, opened: Open, tmp_path: Path) -> None:
    io = opened(stdout=str(tmp_path / "out"))
    os.close(os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK))
    reading = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    stdin, stdout, stderr = io.child
    with subprocess.Popen(["head", "-c", "3000000", "/dev/zero"], stdin=stdin, stdout=stdout, stderr=stderr) as process:
        io.close_child()

        def some() -> bool:
            with contextlib.suppress(BlockingIOError):
                return bool(os.read(reading, 10))
            return False

        until(loop, some)
        os.close(reading)
        until(loop, lambda: process.poll() is not None)
    io.finish()
    assert io.flushed.done
    assert io.dropped > 1_000_000


def test_after_finish_nothing_but_a_pipe_for_a_late_reader_is_open(opened: Open, tmp_path: Path) -> None:
    before = descriptors()
    io = opened(stdin=str(tmp_path / "in"), stdout="log:", stderr=f"file://{tmp_path}/err", capture=5)
    run(io, "true")
    assert descriptors() == before


BAD = [
    ("stdin", "file:///no/such/file", "stdio.stdin"),
    ("stdin", "/no/such/pipe", "stdio.stdin"),
    ("stdout", "file:///no/such/file", "stdio.stdout"),
    ("stdout", "fifo:///no/such/pipe", "stdio.stdout"),
    ("stdout", "file:///tmp", "stdio.stdout"),
    ("stderr", "/etc/passwd", "stdio.stderr"),
    ("stderr", "nonsense", "stdio.stderr"),
]


@pytest.mark.parametrize(("stream", "uri", "field"), BAD)
@pytest.mark.parametrize("capture", [None, 10])
def test_what_fails_to_open_is_named_and_leaves_nothing_open(
    opened: Open, tmp_path: Path, stream: str, uri: str, field: str, capture: int | None
) -> None:
    good = {"stdin": str(tmp_path / "in"), "stdout": "log:", "stderr": f"file://{tmp_path}/err"}
    before = descriptors()
    with pytest.raises(InvalidArgument, match=field.replace(".", r"\.")):
        opened(capture=capture, **{**good, stream: uri})
    assert descriptors() == before


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_pipe_that_is_named_as_a_file_is_refused_without_waiting(opened: Open, tmp_path: Path, stream: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    held = os.open(tmp_path / "pipe", os.O_RDWR)
    with pytest.raises(InvalidArgument, match="fifo://"):
        opened(**{stream: f"file://{tmp_path}/pipe"})
    os.close(held)
    with pytest.raises(InvalidArgument, match="pipe"):
        opened(**{stream: f"file://{tmp_path}/pipe"})


def test_a_log_that_cannot_be_opened_is_a_precondition(loop: Loop, tmp_path: Path) -> None:
    settings = LogSettings(str(tmp_path / "missing" / "log"), 1 << 20, 2)
    with pytest.raises(FailedPrecondition, match=r"stdio\.stdout.*missing"):
        open_stdio(loop, {"stdout": "log:"}, settings, None)


def test_wherever_descriptors_run_out_nothing_is_left_open(loop: Loop, tmp_path: Path) -> None:
    stdio = {"stdin": str(tmp_path / "in"), "stdout": str(tmp_path / "out"), "stderr": "log:"}
    settings = LogSettings(str(tmp_path / "log"), 1 << 20, 2)
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    codes: list[str] = []
    for limit in range(3, max(map(int, before)) + 20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            io = open_stdio(loop, stdio, settings, Capture(10, str(tmp_path)))
        except ShimyardError as error:
            codes.append(error.code)
        else:
            io.close_child()
            io.abandon()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert descriptors() == before
    assert len(codes) > 8
    assert set(codes) == {"resource_exhausted"}


def test_abandon_may_come_at_any_time_and_twice(opened: Open, tmp_path: Path) -> None:
    io = opened(stdin=str(tmp_path / "in"), stdout=str(tmp_path / "out"), stderr="log:", capture=5)
    io.abandon()
    io.abandon()
    io.close_child()
    io.close_child()
    assert io.flushed.done
    io.finish()
