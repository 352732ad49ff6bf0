"""A task that counts, so that a test sees where a checkpoint of it goes on; and a CRIU that waits for a sign."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.pipes import Fifo
from tests.support.scene import Scene
from tests.support.specs import Map

COUNTER = "i=0; while :; do echo n$i; i=$((i+1)); sleep 0.05; done"


class Counted:
    """A task on runc that counts on a named pipe, and where its checkpoints are.

    Parameters
    ----------
    folder : of the test.
    pipe : makes named pipes.
    """

    def __init__(self, scene: Scene, folder: Path, pipe: Callable[[str], Fifo], script: str = COUNTER, **more: object) -> None:
        self.scene = scene
        self._pipe = pipe
        self._made = 0
        self.out = self._fresh()
        self.params: Map = scene.shell(script, stdio={"stdout": self.out.uri, "stderr": self.out.uri}, **more)
        self.id = str(self.params["id"])
        self.path = str(folder / "images")

    def run(self, *, until: bytes = b"n3\n") -> int:
        """Start it; its pid, once it has counted so far."""
        pid = int(self.scene.run(self.params)["pid"])
        self.out.read_until(until)
        return pid

    def checkpoint(self, **how: object) -> None:
        """To ``path``."""
        assert self.scene.api.call("tasks.checkpoint", id=self.id, path=self.path, **how) == {}

    def delete(self) -> None:
        """The task, not the container."""
        self.scene.api.call("tasks.delete", id=self.id, force=True)

    def create(self, **more: object) -> Map:
        """A task from the checkpoint, to be started; on another pipe."""
        self.out = self._fresh()
        stdio = {"stdout": self.out.uri, "stderr": self.out.uri}
        task = self.scene.api.call("tasks.create", id=self.id, checkpoint=self.path, **{"stdio": stdio, **more})
        assert isinstance(task, dict)
        return task

    def start(self) -> int:
        """Its pid."""
        return int(self.scene.api.call("tasks.start", id=self.id)["pid"])

    def status(self) -> str:
        """Of the task."""
        return str(self.scene.get(self.id)["status"])

    def first(self) -> int:
        """The first number that the restored one tells."""
        while b"\n" not in self.out.seen:
            self.out.read_until(b"n")
            self.out.read_until(b"\n")
        return int(self.out.seen.partition(b"\n")[0].removeprefix(b"n"))

    def _fresh(self) -> Fifo:
        self._made += 1
        return self._pipe(f"out{self._made}").open_for_reading()


class SlowCriu:
    """``path``: a program for ``criu_path`` that waits until it is let go, and is CRIU then."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "slow-criu")
        self._gate = folder / "gate"
        os.mkfifo(self._gate)
        Path(self.path).write_text(f'#!/bin/sh\n[ -p {self._gate} ] && read x <{self._gate}\nexec {shutil.which("criu")} "$@"\n')
        Path(self.path).chmod(0o755)
        self._writer: int | None = None

    def reached(self) -> None:
        """Once it waits."""
        opened = threading.Thread(target=self._open, daemon=True)
        opened.start()
        opened.join(20)
        assert self._writer is not None, "CRIU was not asked for anything"

    def let_go(self) -> None:
        """And whoever comes later does not wait."""
        self._gate.unlink()
        assert self._writer is not None
        os.close(self._writer)
        self._writer = None

    def _open(self) -> None:
        self._writer = os.open(self._gate, os.O_WRONLY | os.O_CLOEXEC)
