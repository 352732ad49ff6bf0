"""``tasks.run`` with ``capture``: what the program wrote comes with its exit (BEHAVIOURS 2, 17)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.scene import Scene


def test_stdout_stderr_and_the_exit_come_in_one_reply(scene: Scene) -> None:
    done = scene.output("printf out; printf err >&2; exit 3")
    assert (done["stdout"], done["stderr"], done["truncated"]) == (b"out", b"err", False)
    assert done["exit"]["exit_status"] == 3


def test_nothing_written_is_captured_as_nothing(scene: Scene) -> None:
    done = scene.output(":")
    assert (done["stdout"], done["stderr"], done["truncated"]) == (b"", b"", False)


def test_bytes_of_every_value_are_captured_as_they_are(scene: Scene) -> None:
    every = "".join(f"\\{value:03o}" for value in range(256))
    assert scene.output(f"printf '{every}'")["stdout"] == bytes(range(256))


def test_a_program_that_writes_more_than_asked_for_runs_on_and_is_truncated(scene: Scene) -> None:
    params = scene.shell("head -c 200000 /dev/zero; echo done >&2; exit 4")
    done = scene.run(params, rm=True, wait=True, capture=1000)
    assert (done["stdout"], done["stderr"], done["truncated"]) == (bytes(1000), b"done\n", True)
    assert done["exit"]["exit_status"] == 4


def test_exactly_as_much_as_asked_for_is_not_truncated(scene: Scene) -> None:
    done = scene.run(scene.shell("printf 12345"), rm=True, wait=True, capture=5)
    assert (done["stdout"], done["truncated"]) == (b"12345", False)


def test_a_megabyte_is_captured_whole(scene: Scene) -> None:
    done = scene.run(scene.shell("yes | head -c 1000000"), rm=True, wait=True, capture=1 << 20)
    assert done["stdout"] == (b"y\n" * 500_000)
    assert done["truncated"] is False


def test_capture_goes_besides_a_file(scene: Scene, tmp_path: Path) -> None:
    params = scene.shell("echo both", stdio={"stdout": f"file://{tmp_path}/out"})
    done = scene.run(params, rm=True, wait=True, capture=100)
    assert done["stdout"] == (tmp_path / "out").read_bytes() == b"both\n"


@pytest.mark.parametrize("host_pids", [False, True], ids=["own pid namespace", "the host's"])
def test_an_orphan_that_holds_the_output_delays_nothing(scene: Scene, *, host_pids: bool) -> None:
    before = time.monotonic()
    done = scene.output("sleep 10000 & echo mine", host_pids=host_pids)
    assert done["stdout"] == b"mine\n"
    assert time.monotonic() - before < 5


@pytest.mark.parametrize("size", [-1, 1 << 40])
def test_a_bound_that_cannot_be_kept_is_refused(plain_scene: Scene, size: int) -> None:
    error = plain_scene.api.refused(
        "invalid_argument", "tasks.run", **plain_scene.params("/bin/true"), wait=True, capture=size
    )
    assert "capture" in error.message


def test_a_file_is_appended_to(scene: Scene, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for word in ("first", "second"):
        scene.run(
            scene.shell(f"echo {word}; echo {word} >&2", stdio={"stdout": f"file://{out}", "stderr": f"file://{out}"}),
            wait=True,
            rm=True,
        )
    assert out.read_bytes() == b"first\nfirst\nsecond\nsecond\n"


def test_without_stdin_a_program_reads_the_end_at_once(scene: Scene) -> None:
    assert scene.output("cat; echo end")["stdout"] == b"end\n"
