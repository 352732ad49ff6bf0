"""Can this host use a runtime, and if not, why? Used by the daemon and ``shimyard doctor``; a shim never imports it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SECONDS: Final = 10
_UNIFIED: Final = Path("/sys/fs/cgroup/unified/cgroup.controllers")


@dataclass(frozen=True, slots=True)
class Probe:
    """``why``: a sentence with the remedy where it is not usable, else None."""

    name: str
    path: str | None
    version: str | None
    usable: bool
    why: str | None


def probe(name: str) -> Probe:
    """``process`` always is; others are looked for, asked for their version, and checked against this host's cgroups."""
    if name == "process":
        return Probe(name, None, None, True, None)
    path = shutil.which(name)
    if path is None:
        return Probe(name, None, None, False, f"{name} is not installed; install it, e.g. apt-get install {Path(name).name}")
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Probe(name, path, None, False, f"{path} --version failed: {error}")
    version = next(iter(told.stdout.splitlines()), "").strip()
    why = _unusable(Path(path).name)
    return Probe(name, path, version, why is None, why)


def _unusable(name: str) -> str | None:
    if os.geteuid() != 0:
        return f"{name} needs root here; run the daemon as root, or use the process runtime"
    if name == "crun" and _UNIFIED.exists() and (controllers := _UNIFIED.read_text().split()):
        return (
            f"crun refuses a host with hybrid cgroups while a controller is on the v2 side ({' '.join(controllers)}); "
            "mount those controllers as v1, or boot with cgroups v2 alone"
        )
    return None
