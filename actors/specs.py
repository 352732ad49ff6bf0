"""The spec that a command gets when nobody writes one: what container engines give, tightened.

Of its own: the usual namespaces, Podman's default capabilities, no new privileges, masked and read-only kernel files, and the
host's seccomp profile. For the runtime ``process`` there is nothing to isolate: its spec is the command on the host's files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any, Final

from actors.records import Mount
from actors.seccomp import host_profile
from shimproc.userns import mappings

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOSTNAME: Final = "shimyard"
_OCI_VERSION: Final = "1.0.2"
_CAPABILITIES: Final = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
    *("CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
)
"""The default of containers-common (containers.conf(5), default_capabilities)."""
_ALL_CAPABILITIES: Final = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN"),
    *("CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT"),
    *("CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE"),
    *("CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL"),
    *("CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND"),
    *("CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
"""By their numbers, from 0 on (linux/capability.h)."""
_MASKED: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/proc/timer_list", "/proc/timer_stats", "/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware"),
    "/sys/fs/selinux",
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NAMESPACES: Final = ("pid", "network", "ipc", "uts", "mount")
_CLOSED: Final = ("nosuid", "noexec", "nodev")


def default_spec(args: Sequence[str], *, host: bool = False) -> dict[str, Any]:
    """An OCI config (runtime-spec 1.0) that runs ``args`` as root in ``/``.

    Parameters
    ----------
    host : for the runtime ``process``: on the host's own files and namespaces.
    """
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": [f"PATH={PATH}", "HOME=/root"],
        "cwd": "/",
        "noNewPrivileges": True,
    }
    if host:
        del process["user"], process["noNewPrivileges"]  # whom the daemon runs as, with what it may
        return {"ociVersion": _OCI_VERSION, "process": process, "root": {"path": "/"}}
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in _NAMESPACES],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if os.geteuid() != 0:  # an ordinary user's: root within is that user
        linux["namespaces"].append({"type": "user"})
        linux |= mappings()
    if (profile := host_profile(_CAPABILITIES)) is not None:
        linux["seccomp"] = profile
    process["capabilities"] = {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted")}
    return {
        "ociVersion": _OCI_VERSION,
        "process": process,
        "root": {"path": "rootfs"},
        "hostname": HOSTNAME,
        "mounts": _mounts(),
        "linux": linux,
    }


def host_rootfs() -> tuple[Mount, ...]:
    """The host's own files under a private layer in memory, which is gone with the task: a container without any image.

    An ordinary user's are as they are, read-only: in a user namespace no part of what is mounted there can be had without
    the rest (mount_namespaces(7), "Restrictions on mount namespaces").
    """
    if os.geteuid() != 0:
        return (Mount("bind", "/", ("rbind", "rro")),)
    return (Mount("overlay", "overlay", ("lowerdir=/", "x-shimyard.upper=tmpfs")),)


def every_capability(pid: int) -> dict[str, list[str]]:
    """All capabilities that a process may give to others (its bounding set, capabilities(7)), as an OCI process has them.

    Parameters
    ----------
    pid : the process; where it cannot be looked at, all that there are.
    """
    bounding = -1
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123 - starts faster
        bounding = next((int(line.split()[1], 16) for line in file if line.startswith("CapBnd:")), -1)
    known = [name for number, name in enumerate(_ALL_CAPABILITIES) if bounding >> number & 1]
    return {kind: list(known) for kind in ("bounding", "effective", "permitted")}


def _mounts() -> list[dict[str, Any]]:
    def mount(destination: str, kind: str, *options: str, source: str | None = None) -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}

    return [
        mount("/proc", "proc", *_CLOSED),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        mount("/dev/shm", "tmpfs", *_CLOSED, "mode=1777", "size=65536k", source="shm"),  # noqa: S108 - its standard place
        mount("/dev/mqueue", "mqueue", *_CLOSED),
        mount("/sys", "sysfs", *_CLOSED, "ro"),
        mount("/run", "tmpfs", "nosuid", "nodev", "mode=755"),
        mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),  # noqa: S108 - its standard place
    ]
