"""OCI specs and rootfs for test containers, from nothing of the project's own.

``Image`` is what containers run in: busybox where it is installed, else the host's own files under a private overlay.
The scripts in the tests are plain POSIX shell, so they run in either, and on the host under the runtime ``process``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Map = dict[str, Any]
BUSYBOX = Path("/bin/busybox")
APPLETS = (
    *("sh", "sleep", "echo", "true", "false", "cat", "kill", "seq", "head", "yes", "id", "pwd", "printf", "touch"),
    *("stty", "tty", "wc", "test"),
)
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"]
_MOUNTS: tuple[Map, ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    },
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
)


@dataclass(frozen=True)
class Image:
    """Rootfs mounts for ``containers.create``."""

    mounts: tuple[Map, ...]

    @classmethod
    def make(cls, folder: Path) -> Image:
        """Of busybox, made in ``folder``; else of the host's files."""
        if not BUSYBOX.exists():
            options = ["lowerdir=/", "x-shimyard.upper=tmpfs"]
            return cls(({"type": "overlay", "source": "overlay", "options": options},))
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        shutil.copy(BUSYBOX, folder / "bin/busybox")
        for applet in APPLETS:
            (folder / "bin" / applet).symlink_to("busybox")
        return cls(({"type": "bind", "source": str(folder), "options": ["rbind", "ro"]},))


def spec(
    args: Sequence[str], *, plain: bool = False, host_pids: bool = False, process: Mapping[str, Any] | None = None
) -> Map:
    """A container's config.json; ``plain`` for a process on the host's files, ``process`` over the process section."""
    caps = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
    section = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": [PATH],
        "cwd": "/",
        "capabilities": caps,
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        **(process or {}),
    }
    if plain:
        return {"ociVersion": "1.0.2", "process": section, "root": {"path": "/"}}
    namespaces = ["mount", "ipc", "uts", "network"] + ([] if host_pids else ["pid"])
    return {
        "ociVersion": "1.0.2",
        "process": section,
        "root": {"path": "rootfs"},
        "hostname": "test",
        "mounts": list(_MOUNTS),
        "linux": {"namespaces": [{"type": name} for name in namespaces]},
    }
