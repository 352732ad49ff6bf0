"""Loggers: their command, their pipes, and that none is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimproc.errors import FailedPrecondition, InvalidArgument
from shimproc.io.logger import Loggers, start_loggers, words
from tests.support.shims import Surroundings, in_shim


def program(folder: Path, text: str) -> str:
    """The URI of a shell script."""
    path = folder / "logger"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return f"binary://{path}"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("binary:///bin/logger", ["/bin/logger"]),
        ("binary:///bin/logger?level=info&quiet", ["/bin/logger", "level", "info", "quiet"]),
        ("binary:///a%20b?x=1%262", ["/a b", "x", "1&2"]),
    ],
)
def test_the_command_is_in_the_uri(uri: str, expected: list[str]) -> None:
    assert words(uri, "stdio.stdout") == expected


def test_a_nul_byte_has_no_place_in_a_command() -> None:
    with pytest.raises(InvalidArgument, match=r"stdio\.stdout"):
        words("binary:///bin/logger?a=%00", "stdio.stdout")


def test_one_that_never_ends_is_killed_when_all_is_over(tmp_path: Path) -> None:
    uri = program(tmp_path, "exec 5>&-; exec sleep 10000")

    def play(shim: Surroundings) -> None:
        loggers = shim.run(start_loggers(shim, {"stdout": uri, "stderr": uri}, "/tasks/space/id"))
        assert list(loggers.sinks) == ["stdout", "stderr"]
        assert len(loggers.all) == 1
        loggers.close()  # whoever is left fails the surroundings

    in_shim(play)


def test_one_that_ends_when_its_input_does_is_waited_for(tmp_path: Path) -> None:
    uri = program(tmp_path, f"exec 5>&-; cat <&3 > {tmp_path}/out; echo done >> {tmp_path}/out")

    def play(shim: Surroundings) -> str:
        loggers = shim.run(start_loggers(shim, {"stdout": uri}, "/tasks/space/id"))
        sink = loggers.sinks["stdout"]
        assert sink.write(b"some\n")
        finished: list[bool] = []
        sink.finish(lambda: finished.append(True))
        while not finished:
            shim.loop.round(1)
        return (tmp_path / "out").read_text()

    assert in_shim(play) == "some\ndone\n"


def test_one_that_is_not_ready_in_time_is_killed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shimproc.io.logger.READY_SECONDS", 0.05)
    uri = program(tmp_path, "exec sleep 10000")

    def play(shim: Surroundings) -> str:
        with pytest.raises(FailedPrecondition) as caught:
            shim.run(start_loggers(shim, {"stderr": uri}, "/tasks/space/id"))
        return caught.value.message

    assert in_shim(play).startswith("stdio.stderr: the logger ")


def test_what_a_killed_shim_had_is_gone_on_with(tmp_path: Path) -> None:
    uri = program(tmp_path, "exec 5>&-; exec cat <&3")

    def play(shim: Surroundings) -> None:
        before = shim.run(start_loggers(shim, {"stdout": uri}, "/tasks/space/id"))
        kept = {name: os.dup(fd) for name, fd in before.entrusted().items()}
        assert sorted(kept) == ["stdout.logger", "stdout.logger.pid"]
        after = Loggers()
        after.adopt(shim.loop, kept)
        assert not kept
        after.close()
        before.close()

    in_shim(play)
