"""Can this host use a runtime, and if not, why? Used by the daemon and ``shimyard doctor``; a shim never imports it.

Told by a real try: a container with an empty rootfs and a program that is not there. A runtime looks for the program
last, when namespaces, mounts and cgroups are made; so if that is all that it complains of, it works here, and has
nothing left to be removed. A try takes 10 to 60 ms.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shimproc import userns
from shimproc.runtimes.failures import NOT_FOUND, Failure, explain

_SECONDS: Final = 10
_PROGRAM: Final = "/shimyard-probe"
_VERSION: Final = re.compile(r"\bversion\s+(\S+)")
_REMEDIES: Final = (
    (
        "hybrid mode not supported",
        "mount each controller that /sys/fs/cgroup/unified/cgroup.controllers lists as v1, or boot with v2 alone",
    ),
    ("cgroup", "mount cgroups at /sys/fs/cgroup, or let the daemon write there"),
    ("not permitted", "give the daemon CAP_SYS_ADMIN, or use the process runtime"),
    ("permission denied", "give the daemon CAP_SYS_ADMIN, or use the process runtime"),
)


@dataclass(frozen=True, slots=True)
class Probe:
    """``why``: a sentence with the remedy where it is not usable, else None."""

    name: str
    path: str | None
    version: str | None
    usable: bool
    why: str | None


def probe(name: str) -> Probe:
    """``process`` always is usable; others, by name or path, are looked for, asked for their version, and tried."""
    if name == "process":
        return Probe(name, None, None, usable=True, why=None)
    path = shutil.which(name)
    if path is None:
        why = f"{name} is not installed, or not executable; install it, e.g. apt-get install {Path(name).name}"
        return Probe(name, None, None, usable=False, why=why)
    try:
        version = _version_of(path)
        why_not = _unusable(name, path)
    except (OSError, subprocess.SubprocessError) as error:
        return Probe(name, path, None, usable=False, why=f"{path} cannot be run: {error}; install it again")
    return Probe(name, path, version, usable=why_not is None, why=why_not)


def _version_of(path: str) -> str:
    """``crun version 1.8.1`` and ``runc version 1.1.5+ds1``; of others the first line as it is."""
    done = subprocess.run(
        [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=True
    )
    first = next(iter(done.stdout.splitlines()), "").strip()
    found = _VERSION.search(first)
    return found[1] if found else first


def _unusable(name: str, path: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="shimyard-probe-") as folder:
        failure = _try(path, Path(folder))
    if failure is None:
        return f"{path} created a container without a program; use another runtime"
    error = explain(failure)
    if error.details.get("kind") == NOT_FOUND:
        return None
    remedy = next((remedy for word, remedy in _REMEDIES if word in error.message.lower()), "try another runtime")
    return f"{name} cannot make a container: {error.message}; {remedy}"


def _try(path: str, folder: Path) -> Failure | None:
    """How ``create`` failed; None if it did not, and then what it made is deleted."""
    for inner in ("dev", "proc"):
        (folder / "rootfs" / inner).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_spec()))
    container = folder.name
    command = [path, "--root", str(folder / "root"), "--log", str(folder / "log"), "--log-format", "json"]
    if userns.is_ordinary():
        command += userns.without_cgroups(Path(path).name)
    verb = ["create", "--bundle", str(folder), container]
    with (folder / "stderr").open("wb") as stderr:  # a file: init would inherit a pipe, and hold it
        done = _run([*command, *verb], stderr.fileno())
    if done == 0:
        _run([*command, "delete", "--force", container], subprocess.DEVNULL)
        return None
    return Failure("create", " ".join([*command, *verb]), done, (), (folder / "stderr").read_text(errors="replace"))


def _run(command: list[str], stderr: int) -> int:
    null = subprocess.DEVNULL
    return subprocess.run(command, stdin=null, stdout=null, stderr=stderr, timeout=_SECONDS, check=False).returncode


def _spec() -> Mapping[str, Any]:
    kinds, more = ["pid", "mount", "ipc", "uts"], {}
    if userns.is_ordinary():
        kinds, more = [*kinds, "user"], userns.mappings()
    return {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": [_PROGRAM], "cwd": "/", "noNewPrivileges": True},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in kinds], **more},
    }
