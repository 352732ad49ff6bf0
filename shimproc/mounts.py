"""A rootfs's mounts, in this mount namespace: made in order as mount(8) takes them, undone as a whole.

An ``x-`` option is a comment to the kernel (mount(8)). One is ours: ``x-shimyard.upper=tmpfs`` gives an overlay a
private tmpfs for its upper side. It is mounted first, since an upperdir must not lie within its lowerdir.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from shimproc import linux
from shimproc.errors import InvalidArgument, PermissionDenied, ShimyardError

UPPER: Final = "x-shimyard.upper="
_SET: Final[Mapping[str, int]] = {
    "ro": linux.MS_RDONLY,
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "sync": linux.MS_SYNCHRONOUS,
    "remount": linux.MS_REMOUNT,
    "dirsync": linux.MS_DIRSYNC,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "bind": linux.MS_BIND,
    "rbind": linux.MS_BIND | linux.MS_REC,
    "relatime": linux.MS_RELATIME,
    "strictatime": linux.MS_STRICTATIME,
}
_CLEAR: Final[Mapping[str, int]] = {
    "rw": linux.MS_RDONLY,
    "suid": linux.MS_NOSUID,
    "dev": linux.MS_NODEV,
    "exec": linux.MS_NOEXEC,
    "async": linux.MS_SYNCHRONOUS,
    "atime": linux.MS_NOATIME,
    "diratime": linux.MS_NODIRATIME,
    "defaults": 0,
}
_SPREAD: Final[Mapping[str, int]] = {
    f"{prefix}{word}": flag | recursive
    for word, flag in (
        ("private", linux.MS_PRIVATE),
        ("slave", linux.MS_SLAVE),
        ("shared", linux.MS_SHARED),
        ("unbindable", linux.MS_UNBINDABLE),
    )
    for prefix, recursive in (("", 0), ("r", linux.MS_REC))
}


def mount_all(mounts: Sequence[Mapping[str, Any]], rootfs: str) -> None:
    """Mount each over ``rootfs``, in order. On failure all of them are undone.

    Raises ``InvalidArgument`` or ``PermissionDenied`` naming ``rootfs[i]``, the source and the kernel's reason.
    """
    for index, mount in enumerate(mounts):
        try:
            _mount(mount, rootfs)
        except (OSError, ShimyardError) as error:
            unmount_all(rootfs)
            raise _explained(index, mount, error) from error


def unmount_all(rootfs: str) -> None:
    """Take off all that is mounted at or below ``rootfs``, the newest first. Files are not touched."""
    for target in _mounted(rootfs):
        try:
            linux.umount(target, linux.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.EBUSY:
                linux.umount(target, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
            elif error.errno not in (errno.EINVAL, errno.ENOENT):
                raise


def private_namespace() -> bool:
    """Leave the host's mount namespace: what is mounted here stays here, what the host mounts is still seen.

    False where this process may not (an ordinary user without a user namespace).
    """
    try:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_SLAVE)
    except PermissionError:
        return False
    return True


def _mount(mount: Mapping[str, Any], rootfs: str) -> None:
    flags, spread, words = _sorted(mount.get("options") or ())
    upper = next((word for word in words if word.startswith(UPPER)), None)
    words = [word for word in words if not word.startswith("x-")]
    fstype = str(mount["type"])
    if fstype in ("bind", "rbind"):
        flags |= linux.MS_BIND | (linux.MS_REC if fstype == "rbind" else 0)
    if upper is not None:
        words += _private_upper(upper, words, rootfs)
    source = str(mount.get("source") or fstype)
    if flags & linux.MS_BIND:
        linux.mount(source, rootfs, "", flags & (linux.MS_BIND | linux.MS_REC))
        rest = flags & ~linux.MS_REC
        if rest & ~linux.MS_BIND:
            linux.mount("none", rootfs, "", rest | linux.MS_REMOUNT)
    else:
        linux.mount(source, rootfs, fstype, flags, ",".join(words))
    for flag in spread:
        linux.mount("none", rootfs, "", flag)


def _sorted(options: Sequence[str]) -> tuple[int, list[int], list[str]]:
    """Flags, propagation flags (each a mount call of its own) and the words for the file system itself."""
    flags, spread, words = 0, [], []
    for option in options:
        if option in _SET:
            flags |= _SET[option]
        elif option in _CLEAR:
            flags &= ~_CLEAR[option]
        elif option in _SPREAD:
            spread.append(_SPREAD[option])
        else:
            words.append(option)
    return flags, spread, words


def _private_upper(option: str, words: Sequence[str], rootfs: str) -> list[str]:
    if option != f"{UPPER}tmpfs":
        raise InvalidArgument(f"{option}: only tmpfs can hold the upper side")
    lower = next((word.partition("=")[2] for word in words if word.startswith("lowerdir=")), None)
    if lower is None:
        raise InvalidArgument(f"{option}: an overlay needs lowerdir=")
    linux.mount("tmpfs", rootfs, "tmpfs", linux.MS_NODEV, "mode=0755")
    upper, work = f"{rootfs}/up", f"{rootfs}/work"
    status = os.stat(lower.rpartition(":")[2])
    for path in (upper, work):
        os.mkdir(path, 0o755)
    os.chmod(upper, status.st_mode & 0o7777)
    os.chown(upper, status.st_uid, status.st_gid)
    return [f"upperdir={upper}", f"workdir={work}"]


def _mounted(rootfs: str) -> list[str]:
    """Mount points at or below ``rootfs``, the newest first (proc(5), mountinfo: field 5, with octal escapes)."""
    found = []
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            target = os.fsdecode(line.split(b" ", 5)[4].decode("unicode_escape").encode("latin-1"))
            if target == rootfs or target.startswith(f"{rootfs}/"):
                found.append(target)
    return found[::-1]


def _explained(index: int, mount: Mapping[str, Any], error: OSError | ShimyardError) -> ShimyardError:
    where = f"rootfs[{index}]: {mount.get('type')} of {mount.get('source')!r}"
    if isinstance(error, ShimyardError):
        return InvalidArgument(f"{where}: {error}")
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{where}: {error.strerror}; run the daemon as root, or leave the mount out")
    return InvalidArgument(f"{where}: {error.strerror}; check source and options (mount(8))")
