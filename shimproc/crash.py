"""Crash points: named steps at which a test has this process killed. Off, and as good as free, in every other life.

SHIMYARD_CRASH=NAME:FILE arms one: the first process that comes to it makes FILE, and kills itself. Whoever comes later finds
FILE there, and goes on. ``POINTS`` names them all, by the process that they are in; a test goes through every one.
"""

from __future__ import annotations

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
    "forkserver: asked for a shim",
    "forkserver: shim forked",
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
)
_NAME, _, _FILE = os.environ.get("SHIMYARD_CRASH", "").rpartition(":")
_ARMED: Final = _NAME


def point(name: str) -> None:
    """Die here, if it is armed and nobody has."""
    if _ARMED and name == _ARMED:
        _die()


def _die() -> None:
    try:
        os.close(os.open(_FILE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
