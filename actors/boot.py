"""Which run of the host it is, or of the container that the daemon lives in: a pid that was written down means something in the
same run alone. ``STATE/boot`` tells whether what lies in STATE is of this run.

SHIMYARD_BOOT_ID=FILE names another file in place of the kernel's: tests have no other way to let a host start again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shimproc.errors import scarce
from shimproc.process.estate import begun

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
MARKER: Final = "boot"


@dataclass(frozen=True, slots=True)
class Boot:
    """``anew``: STATE has nothing of this run: the host, or the container, was started again, or STATE was emptied."""

    id: str
    anew: bool = False

    @classmethod
    def of(cls, state: Path, environ: Mapping[str, str] = os.environ) -> Boot:
        """This one; it is noted in ``state``."""
        current = f"{_kernels(environ)} {_namespace()}"
        marker = state / MARKER
        try:
            anew = not marker.exists() or marker.read_text() != current
            if anew:
                fresh = marker.with_name(f".{MARKER}")
                fresh.write_text(current)
                fresh.replace(marker)
        except OSError as error:
            raise scarce(error, f"cannot write {marker}") from error
        return cls(current, anew)


def _kernels(environ: Mapping[str, str]) -> str:
    """random(4): made anew at each start of the host."""
    return Path(environ.get("SHIMYARD_BOOT_ID") or _BOOT_ID).read_text().strip()


def _namespace() -> str:
    """A container that is started again has the host's boot id, and pids of its own: known by their first one."""
    return f"{os.stat('/proc/self/ns/pid').st_ino}-{begun(1)}"  # noqa: PTH116 - as it is a link to no file
