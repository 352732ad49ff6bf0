"""What a process holds that could grow: descriptors, threads, memory of its own; and what a folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Gauges:
    """``memory``: private bytes (smaps_rollup in proc(5))."""

    descriptors: int
    threads: int
    memory: int

    @classmethod
    def of(cls, pid: int) -> Gauges:
        """As they stand now."""
        process = psutil.Process(pid)
        return cls(process.num_fds(), process.num_threads(), process.memory_full_info().uss)

    def grown(self, before: Gauges, memory: int) -> list[str]:
        """What is more than before; of memory, more than so many bytes more."""
        found = []
        if self.descriptors > before.descriptors:
            found.append(f"descriptors: {before.descriptors}, then {self.descriptors}")
        if self.threads > before.threads:
            found.append(f"threads: {before.threads}, then {self.threads}")
        if self.memory > before.memory + memory:
            found.append(f"memory: {before.memory >> 10} KiB, then {self.memory >> 10} KiB")
        return found


def size_of(folder: Path) -> int:
    """Bytes of all files below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
