"""What a task uses, for ``tasks.metrics``: as its cgroup counts it, or, where it has none, summed over its processes.

The shim reads the cgroup. A sum needs more than a shim is to load (psutil), so it is made here, in the disk's thread: a tree
may have any number of processes. A process counts what its reaped children used, and so does the shim for those that it
reaped; what nobody can tell of a tree, such as the most memory that it ever had at once, is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actors.disk import Disk


async def usage(told: Mapping[str, Any], disk: Disk) -> Mapping[str, Any]:
    """``{timestamp, cpu, memory, pids, io}`` of what the shim has answered (``shimproc.messages.Metrics``)."""
    if "tree" not in told:
        return told
    tree, reaped = told["tree"], told["reaped"]
    summed: Mapping[str, Any] = await disk.do(lambda: sum_up(tree, reaped))
    return {"timestamp": told["timestamp"], **summed}


def sum_up(pids: Iterable[int], reaped: Iterable[int]) -> dict[str, dict[str, int | None]]:
    """``{cpu, memory, pids, io}`` of these processes; one that has ended meanwhile counts nothing.

    Memory is what each has resident; what several share counts for each. ``pids.current`` are threads, as a cgroup counts.
    """
    import psutil  # noqa: PLC0415 - a daemon whose tasks have cgroups needs none of it

    user, system = (ns / 1e9 for ns in reaped)
    resident = threads = read = written = 0
    io_told = True
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                cpu = process.cpu_times()
                user += cpu.user + cpu.children_user
                system += cpu.system + cpu.children_system
                resident += process.memory_info().rss
                threads += process.num_threads()
            io = process.io_counters()
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            io_told = False
            continue
        read, written = read + io.read_bytes, written + io.write_bytes
    cpu_ns = {"user_ns": round(user * 1e9), "system_ns": round(system * 1e9)}
    return {
        "cpu": {"usage_ns": sum(cpu_ns.values()), **cpu_ns},
        "memory": {"usage": resident, "peak": None, "limit": None, "oom_kills": None},
        "pids": {"current": threads, "limit": None},
        "io": {"read_bytes": read if io_told else None, "write_bytes": written if io_told else None},
    }
