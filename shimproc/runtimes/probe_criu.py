"""Can a runtime make checkpoints on this host, and if not, why? Used by the daemon and ``shimyard doctor``; a shim
never imports it.

Three things must be there: a runtime that was built with the command, CRIU, and a kernel that it can work with, which
``criu check`` tells in about 50 ms.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

from shimproc.runtimes.plain import NO_CHECKPOINT
from shimproc.runtimes.probe import Probe

_SECONDS: Final = 30


def why_no_checkpoint(found: Probe) -> str | None:
    """A sentence with the remedy; None if it can."""
    if found.name == "process":
        return NO_CHECKPOINT
    if found.path is None or not found.usable:
        return f"{found.name} itself cannot be used here"
    try:
        if _run(found.path, "checkpoint", "--help").returncode != 0:
            return f"{found.name} {found.version} was built without CRIU; use runc, or a {found.name} that was built with it"
        return _why_no_criu()
    except (OSError, subprocess.SubprocessError) as error:
        return f"it cannot be tried: {error}"


def _why_no_criu() -> str | None:
    criu = shutil.which("criu")
    if criu is None:
        return "criu is not on the PATH; install CRIU, or name it for a container by runtime.options.criu_path"
    done = _run(criu, "check")
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
    told = lines[-1].strip() if lines else f"it ended with status {done.returncode}"
    return f"{criu} cannot work here: {told}; install a newer CRIU (4 for Linux 6), and run the daemon as root"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
    )
