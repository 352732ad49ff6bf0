"""What a cgroup has used, as the kernel counts it: the files of v1 (cgroup-v1/*.rst) and of v2 (cgroup-v2.rst), one shape.

Each number is read from the hierarchy that has its controller: on a hybrid host some are on v1, the rest on v2. What this
host does not count is None, and so is a limit that there is not. Only small files are read: each takes microseconds.
"""

from __future__ import annotations

import os
from typing import Final

from shimproc.cgroups import Cgroup, read_control

_OOM_FILES: Final = (("memory", "memory.oom_control"), ("", "memory.events"))
"""By controller, where ``oom_kill`` is counted; "" is v2."""
_USER_HZ: Final = os.sysconf("SC_CLK_TCK")
_NO_LIMIT: Final = 1 << 62
"""v1 has no word for no limit: it says 2^63 less a page, of whatever size."""
Counted = dict[str, int | None]


def usage(cgroup: Cgroup) -> dict[str, Counted]:
    """``{cpu, memory, pids, io}`` of ``tasks.metrics`` (API.md, section 4)."""
    return {"cpu": _cpu(cgroup), "memory": _memory(cgroup), "pids": _pids(cgroup), "io": _io(cgroup)}


def oom_file(cgroup: Cgroup) -> str:
    """Where the kernel counts whom its OOM killer struck in this cgroup; "" where it does not."""
    for controller, name in _OOM_FILES:
        folder = cgroup.folder(controller)
        if folder is not None and os.path.exists(path := f"{folder}/{name}"):  # noqa: PTH110 - pathlib costs the shim memory
            return path
    return ""


def oom_kills(path: str) -> int:
    """What an ``oom_file`` counts now. ``OSError`` once the cgroup is gone."""
    return _keyed(read_control(path)).get("oom_kill", 0)


def _cpu(cgroup: Cgroup) -> Counted:
    folder = cgroup.folder("cpuacct")
    if folder is not None:
        ticks = _keyed(_read(folder, "cpuacct.stat"))
        user, system = (_scaled(ticks.get(name), 10**9 // _USER_HZ) for name in ("user", "system"))
        return {"usage_ns": _number(folder, "cpuacct.usage"), "user_ns": user, "system_ns": system}
    told = _keyed(_read(cgroup.folder(""), "cpu.stat"))
    return {f"{name}_ns": _scaled(told.get(f"{name}_usec"), 1000) for name in ("usage", "user", "system")}


def _memory(cgroup: Cgroup) -> Counted:
    folder = cgroup.folder("memory")
    if folder is not None:
        current, peak, limit = "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes"
    else:
        folder, current, peak, limit = cgroup.folder(""), "memory.current", "memory.peak", "memory.max"
    counted = oom_file(cgroup)
    return {
        "usage": _number(folder, current),
        "peak": _number(folder, peak),
        "limit": _number(folder, limit),
        "oom_kills": oom_kills(counted) if counted else None,
    }


def _pids(cgroup: Cgroup) -> Counted:
    folder = cgroup.folder("pids")
    folder = cgroup.folder("") if folder is None else folder
    return {"current": _number(folder, "pids.current"), "limit": _number(folder, "pids.max")}


def _io(cgroup: Cgroup) -> Counted:
    """On v1 the throttling layer counts for every scheduler, with the cgroups below."""
    folder = cgroup.folder("blkio")
    if folder is None:
        return _summed(_read(cgroup.folder(""), "io.stat"), "rbytes", "wbytes")
    told = _read(folder, "blkio.throttle.io_service_bytes_recursive")
    return _summed(_read(folder, "blkio.throttle.io_service_bytes") if told is None else told, "Read", "Write")


def _summed(text: str | None, read: str, written: str) -> Counted:
    """Over all devices: ``8:0 Read 4096`` a line on v1, ``8:0 rbytes=4096 wbytes=0 …`` on v2."""
    if text is None:
        return {"read_bytes": None, "write_bytes": None}
    sums = {read: 0, written: 0}
    for line in text.splitlines():
        words = line.replace("=", " ").split()[1:]
        for name, value in zip(words[::2], words[1::2], strict=False):
            if name in sums:
                sums[name] += int(value)
    return {"read_bytes": sums[read], "write_bytes": sums[written]}


def _keyed(text: str | None) -> dict[str, int]:
    """``name value`` a line."""
    pairs = (line.split() for line in (text or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(folder: str | None, name: str) -> int | None:
    """None also for ``max``, and for what v1 says in its place."""
    text = (_read(folder, name) or "").strip()
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _scaled(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


def _read(folder: str | None, name: str) -> str | None:
    """None where there is no such file, or where it is not ours to read."""
    if folder is None:
        return None
    try:
        return read_control(f"{folder}/{name}")
    except OSError:
        return None
