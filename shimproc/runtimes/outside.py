"""Files that a container's processes have open from outside of it: stdio of ``file://``, opened by the shim and inherited.

CRIU finds no mount of the container for such a file, so it is told of it by name (criu(8), ``--external`` and ``--inherit-fd``:
``file[MOUNT:INODE]``, both in hex), in a configuration file, since the runtimes have no flag for that. Restored, the processes
have the new task's descriptor in its place.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping

from shimproc.errors import scarce

_CONFIG = ".criu/default.conf"
"""Below HOME: what CRIU reads before it is asked anything."""


def files_from_outside(pids: Iterable[int], init: int) -> dict[str, int]:
    """CRIU's name of each such file -> the number of the descriptor by which init has it; 1 if it has it by none of 0, 1, 2."""
    found: dict[str, int] = {}
    for pid in sorted(pids, key=lambda pid: pid != init):
        with contextlib.suppress(OSError):  # it has ended
            inside = _mounts_of(pid)
            for number in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):  # noqa: PTH208 - memory of a shim
                with contextlib.suppress(OSError):  # it was closed
                    name = _name_outside(pid, number, inside)
                    if name is not None:
                        found.setdefault(name, number if pid == init and number <= 2 else 1)
    return found


def _mounts_of(pid: int) -> set[str]:
    with open(f"/proc/{pid}/mountinfo", "rb") as file:  # noqa: PTH123 - pathlib costs the shim memory
        return {line.split(b" ", 1)[0].decode() for line in file}


def _name_outside(pid: int, number: int, inside: set[str]) -> str | None:
    status = os.stat(f"/proc/{pid}/fd/{number}")  # noqa: PTH116 - see above
    if not stat.S_ISREG(status.st_mode):
        return None
    with open(f"/proc/{pid}/fdinfo/{number}") as file:  # noqa: PTH123 - see above
        mount = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    return None if mount in inside else f"file[{int(mount):x}:{status.st_ino:x}]"


def to_dump(outside: Mapping[str, int]) -> list[str]:
    """The lines of CRIU's configuration."""
    return [f"external {name}" for name in outside]


def to_restore(outside: Mapping[str, int]) -> list[str]:
    """The same."""
    return [f"inherit-fd fd[{number}]:{name}" for name, number in outside.items()]


def home_with(lines: list[str], folder: str, home: str) -> str:
    """A HOME for CRIU in ``folder``, with these lines after those of its user's own. ``ResourceExhausted``: no room."""
    own = f"{folder}/criu/home"
    known = ""
    with contextlib.suppress(OSError), open(f"{home}/{_CONFIG}") as file:  # noqa: PTH123 - see above
        known = file.read().rstrip("\n") + "\n"
    try:
        os.makedirs(f"{own}/.criu", 0o700, exist_ok=True)  # noqa: PTH103 - see above
        with open(f"{own}/{_CONFIG}", "w") as file:  # noqa: PTH123 - see above
            file.write(known + "\n".join(lines) + "\n")
    except OSError as error:
        raise scarce(error, f"{own}/{_CONFIG} cannot be written") from error
    return own
