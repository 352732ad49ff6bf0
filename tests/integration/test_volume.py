"""A gigabyte of output is complete, wherever it goes, and costs its shim no memory (BEHAVIOUR 38)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pipes import Fifo
from tests.support.scene import Scene

SIZE = 1 << 30
FLAT = 8 << 20
"""Bytes that a shim may have more of at its height than before; what it copies is a hundred times that."""
SCRIPT = f"read go; head -c {SIZE} /dev/zero; exit 7"


def height(pid: int) -> int:
    """The most memory that a process has had, in bytes (VmHWM in proc(5))."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def run_through(scene: Scene, stdout: str, release: Fifo) -> int:
    """The task's end; by how much its shim's height has grown."""
    params = scene.shell(SCRIPT, stdio={"stdin": release.uri, "stdout": stdout})
    task = scene.run(params)
    before = height(task["shim_pid"])
    release.open_for_writing().write(b"go\n")
    assert scene.wait(params["id"])["exit_status"] == 7
    grown = height(task["shim_pid"]) - before
    scene.remove(params["id"])
    return grown


def test_through_a_named_pipe(plain_scene: Scene, tmp_path: Path, fifo: Callable[[str], Fifo]) -> None:
    path, seen = tmp_path / "out", list[int]()
    os.mkfifo(path, 0o600)

    def count() -> None:
        with path.open("rb", buffering=0) as reading:
            seen.append(sum(len(block) for block in iter(lambda: reading.read(1 << 20), b"")))

    reader = threading.Thread(target=count)
    reader.start()
    assert run_through(plain_scene, f"fifo://{path}", fifo("in")) < FLAT
    reader.join(30)
    assert seen == [SIZE]


@pytest.mark.parametrize("kind", ["file", "log"])
def test_to_the_disk(plain_scene: Scene, fifo: Callable[[str], Fifo], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    stdout = f"file://{path}" if kind == "file" else "log:"
    assert run_through(plain_scene, stdout, fifo("in")) < FLAT
    if kind == "file":
        assert path.stat().st_size == SIZE
        path.unlink()
