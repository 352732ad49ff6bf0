"""A host that is started again, as far as a daemon can tell: all its processes are killed at once, and the boot id is another."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.support import proc
from tests.support.daemon import MARK, Daemon
from tests.support.scene import Scene

WAYS = ("STATE is empty", "STATE is kept")


@dataclass(frozen=True)
class Host:
    """A scene on a daemon of its own, whose boot id is in ``boot``."""

    scene: Scene
    boot: Path

    @property
    def daemon(self) -> Daemon:
        """The scene's."""
        return self.scene.daemon

    def power_off(self) -> None:
        """Every process ends at once; the daemon first, so that it does not see how the others do."""
        if self.daemon.process is not None:
            while not (self.daemon.state / "forkserver.sock").exists():  # one that is just being made would be overlooked
                self.daemon.health()
            self.daemon.kill9()
        while left := [one for one in proc.belonging_to(self.daemon.folder, MARK) if one.state != "Z"]:
            shims = [one for one in left if one.name.startswith("shim")]
            proc.kill_and_wait(shims or left)  # else a shim sees the end of its init

    def start(self, way: str) -> None:
        """The daemon, on a host that was just started."""
        self.boot.write_text(f"{uuid.uuid4()}\n")
        if way == "STATE is empty":
            self.empty_state()
        self.daemon.restart()

    def empty_state(self) -> None:
        """As /run is after a start."""
        shutil.rmtree(self.daemon.state)

    def reboot(self, way: str) -> None:
        """Off, and on again."""
        self.power_off()
        self.start(way)
