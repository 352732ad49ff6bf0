"""``shimyard doctor``: what this host can run, and for what it cannot, why and what helps. Exit status 1 if nothing is usable."""

from __future__ import annotations

import os
import platform
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from actors.cli.connection import about, address_of, connect, is_served, state_of
from actors.cli.output import show_json, table
from actors.cli.parser import Parser, Verb
from actors.config import load
from shimproc.cgroups import Hierarchy, hierarchies
from shimproc.errors import ShimyardError
from shimproc.runtimes.probe import probe
from shimproc.runtimes.probe_criu import why_no_checkpoint

_RUNTIMES: Final = ("crun", "runc", "process")
_OLDEST_KERNEL: Final = (5, 4)
_OLDEST_PYTHON: Final = (3, 11)
_SECONDS: Final = 10.0
_WANTED: Final = ("cpu", "memory", "pids")


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
    findings = [*runtimes, *_host(), *_folders(arguments), _metrics(arguments), _daemon(arguments)]
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
        "" if root else "containers are in a user namespace, without limits; those need root",
    )
    yield _cgroups()
    overlay = "overlay" in Path("/proc/filesystems").read_text(encoding="ascii")
    yield Finding(
        "overlay", overlay or None, "known to the kernel" if overlay else "unknown", "" if overlay else "try: modprobe overlay"
    )


def _cgroups() -> Finding:
    """Which version, and which controllers: on a hybrid host each is on one of the two."""
    found = hierarchies()
    if not found:
        return Finding("cgroups", None, "none", "limits of memory, CPU and pids need them; mount cgroup2 at /sys/fs/cgroup")
    v1 = sorted(name for name in found if name and not name.startswith("name="))
    v2 = _controllers(found[""]) if "" in found else []
    versions = [("version 1", v1)] if v1 else []
    versions += [("version 2", v2)] if v2 or not v1 else []
    told = "; ".join(f"{version}: {' '.join(names) or 'no controllers'}" for version, names in versions)
    missing = [name for name in _WANTED if name not in (*v1, *v2)]
    if not os.access(found.get("memory", found.get("", next(iter(found.values())))).point, os.W_OK):
        return Finding("cgroups", None, f"{told}; read-only", "limits need a writable /sys/fs/cgroup; metrics do not")
    if missing:
        lacking = f"without {', '.join(missing)} there are no such limits and metrics; enable it at boot, or delegate it"
        return Finding("cgroups", None, told, lacking)
    return Finding("cgroups", True, told)


def _controllers(hierarchy: Hierarchy) -> list[str]:
    try:
        return sorted(Path(hierarchy.point, "cgroup.controllers").read_text(encoding="ascii").split())
    except OSError:
        return []


def _metrics(arguments: Namespace) -> Finding:
    """An extra: that it is not there is a problem only where the config wants it."""
    address = load({"state": str(state_of(arguments))})["metrics.address"]
    wanted = f"at {address}" if address else "not asked for"
    if find_spec("prometheus_client") is None:
        remedy = "to serve metrics to Prometheus: pip install 'shimyard[metrics]', and set metrics.address in the config"
        return Finding("metrics", False if address else None, f"prometheus-client is missing; {wanted}", remedy)
    remedy = "" if address else "set metrics.address in the config to serve them to Prometheus"
    return Finding("metrics", True if address else None, f"can be served; {wanted}", remedy)


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
