"""Crash points: named steps at which a test has this process killed. Off, and as good as free, in every other life.

SHIMYARD_CRASH=FILE arms the point that FILE names in its first line: the first process that comes to it strikes out the line, so
that the next one is armed, and kills itself. ``POINTS`` names them all, by the process that they are in; a test goes through
every one.
"""

from __future__ import annotations

import fcntl
import os
import signal
from typing import Final

POINTS: Final = (
    "daemon: intent committed",
    "daemon: bundle made",
    "daemon: shim forked",
    "daemon: created by the shim",
    "daemon: start sent",
    "daemon: started by the shim",
    "daemon: exit durable",
    "daemon: exec added by the shim",
    "daemon: exec started by the shim",
    "daemon: exec deleted by the shim",
    "daemon: answer kept",
    "daemon: deleted by the shim",
    "daemon: shim ended",
    "daemon: bundle removed",
    "daemon: container dropped",
    "daemon: task to be taken back",
    "daemon: shim heard again",
    "daemon: undo begun",
    "daemon: undone",
    "daemon: bundles swept",
    "daemon: loss durable",
    "daemon: adoption asked",
    "daemon: successor heard",
    "daemon: adoption durable",
    "daemon: restart resolved",
    "daemon: former task deleted",
    "daemon: task made again",
    "forkserver: asked for a shim",
    "forkserver: shim forked",
    "forkserver: shim to be followed",
    "forkserver: successor forked",
    "forkserver: former shim taken in",
    "shim: born",
    "shim: intent written",
    "shim: rootfs mounted",
    "shim: stdio opened",
    "shim: init made",
    "shim: descriptors entrusted",
    "shim: created journaled",
    "shim: let go",
    "shim: started journaled",
    "shim: init ended",
    "shim: output drained",
    "shim: exit journaled",
    "shim: exec made",
    "shim: exec started journaled",
    "shim: exec exit journaled",
    "shim: asked to delete",
    "shim: removed by the runtime",
    "shim: deleted journaled",
    "shim: take-over begun",
    "shim: commands settled",
    "shim: create undone",
    "shim: journal recalled",
    "shim: descriptors taken over",
    "shim: taken over",
)
CHECKPOINT_POINTS: Final = (
    "daemon: checkpointed by the shim",
    "shim: checkpoint intended",
    "shim: checkpointed by the runtime",
    "shim: checkpoint journaled",
    "shim: checkpoint finished",
    "shim: restored by the runtime",
    "shim: restored journaled",
)
"""Those that only a task comes to which is checkpointed, or restored from a checkpoint: they need CRIU."""
_FILE: Final = os.environ.get("SHIMYARD_CRASH", "")


def point(name: str) -> None:
    """Die here, if it is armed and nobody has."""
    if _FILE:
        _come_to(name)


def _come_to(name: str) -> None:
    with open(_FILE, "r+") as file:  # noqa: PTH123 - pathlib costs the shim memory
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines()
        if lines[:1] == [name]:
            file.seek(0)
            file.truncate()
            file.write("\n".join(lines[1:]))
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
