"""``shimyard doctor``: what this host can run, and for what it cannot, why and what helps. Exit status 1 if nothing is usable."""

from __future__ import annotations

import os
import platform
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from actors.cli.connection import about, address_of, connect, is_served, state_of
from actors.cli.output import show_json, table
from actors.cli.parser import Parser, Verb
from actors.config import load
from shimproc.errors import ShimyardError
from shimproc.runtimes.probe import probe
from shimproc.runtimes.probe_criu import why_no_checkpoint

_RUNTIMES: Final = ("crun", "runc", "process")
_OLDEST_KERNEL: Final = (5, 4)
_OLDEST_PYTHON: Final = (3, 11)
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """``ok`` is None for what is neither good nor bad. ``remedy`` is empty where there is nothing to do."""

    subject: str
    ok: bool | None
    told: str
    remedy: str = ""


def _configure(_: Parser) -> None:
    """It has no options of its own."""


def _doctor(arguments: Namespace) -> int:
    runtimes = list(_runtimes())
    findings = [*runtimes, *_host(), *_folders(arguments), _daemon(arguments)]
    if arguments.json:
        show_json([asdict(finding) for finding in findings])
    else:
        mark = {True: "ok", False: "problem", None: "-"}
        print(table(("", "WHAT", "FOUND"), [(mark[one.ok], one.subject, one.told) for one in findings]))
        for one in findings:
            if one.remedy:
                print(f"\n{one.subject}: {one.remedy}")
    return int(not any(one.ok for one in runtimes if one.subject.startswith("runtime ")))


def _runtimes() -> Iterator[Finding]:
    """A container runtime is a matter of taste: one that is absent is no problem."""
    for name in _RUNTIMES:
        found = probe(name)
        told = " ".join(filter(None, [found.path or "built in", found.version])) if found.usable else "not usable"
        missing = found.path is None and not found.usable
        yield Finding(f"runtime {name}", found.usable or (None if missing else False), told, found.why or "")
        if found.usable and name != "process":
            why = why_no_checkpoint(found)
            yield Finding(f"checkpoints by {name}", why is None or None, "possible" if why is None else "not possible", why or "")


def _host() -> Iterator[Finding]:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdecimal())
    old = numbers < _OLDEST_KERNEL
    yield Finding("kernel", not old, release, "pidfds need Linux 5.4 or later" if old else "")
    yield Finding("Python", sys.version_info >= _OLDEST_PYTHON, platform.python_version())
    root = os.geteuid() == 0
    yield Finding(
        "user",
        None,
        "root" if root else f"uid {os.geteuid()}",
        "" if root else "containers with mounts and cgroups need root; the runtime process does not",
    )
    yield _cgroups()
    overlay = "overlay" in Path("/proc/filesystems").read_text(encoding="ascii")
    yield Finding(
        "overlay", overlay or None, "known to the kernel" if overlay else "unknown", "" if overlay else "try: modprobe overlay"
    )


def _cgroups() -> Finding:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        where, told = Path("/sys/fs/cgroup"), "version 2"
    elif any(Path("/sys/fs/cgroup").glob("*/tasks")):
        where, told = next(Path("/sys/fs/cgroup").glob("*/tasks")).parent, "version 1"
    else:
        return Finding("cgroups", None, "none", "limits of memory, CPU and pids need them; mount cgroup2 at /sys/fs/cgroup")
    if os.access(where, os.W_OK):
        return Finding("cgroups", True, told)
    return Finding("cgroups", None, f"{told}, read-only", "limits of memory, CPU and pids need a writable /sys/fs/cgroup")


def _folders(arguments: Namespace) -> Iterator[Finding]:
    state = state_of(arguments)
    for name, folder in (("state folder", state), ("root folder", load({"state": str(state)}).root)):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        writable = os.access(existing, os.W_OK)
        variable = "SHIMYARD_STATE" if name.startswith("state") else "SHIMYARD_ROOT"
        remedy = "" if writable else f"{existing} is not writable; set {variable} to a folder that is"
        yield Finding(name, writable, str(folder), remedy)


def _daemon(arguments: Namespace) -> Finding:
    address = address_of(arguments)
    if not is_served(address):
        return Finding("daemon", None, f"none at {address}", "start one: shimyard daemon (shimyard run does it by itself)")
    try:
        with connect(arguments, timeout=_SECONDS) as client:
            told = about(client)
    except ShimyardError as error:
        return Finding("daemon", False, f"at {address}", error.message)
    return Finding("daemon", True, f"{told['version']} at {address}, pid {told['pid']}")


VERBS = {"doctor": Verb(_configure, _doctor)}
