"""The spec that a command gets when nobody writes one: what container engines give, tightened.

Of its own: the usual namespaces, Podman's default capabilities, no new privileges, masked and read-only kernel files, and the
host's seccomp profile. For the runtime ``process`` there is nothing to isolate: its spec is the command on the host's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from actors.records import Mount
from actors.seccomp import host_profile

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOSTNAME: Final = "shimyard"
_OCI_VERSION: Final = "1.0.2"
_CAPABILITIES: Final = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
    *("CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
)
"""The default of containers-common (containers.conf(5), default_capabilities)."""
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
    """The host's own files under a private layer in memory, which is gone with the task: a container without any image."""
    return (Mount("overlay", "overlay", ("lowerdir=/", "x-shimyard.upper=tmpfs")),)


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
