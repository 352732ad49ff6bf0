"""A rootfs's mounts, in this mount namespace: made in order as mount(8) takes them, undone as a whole.

An ``x-`` option is a comment to the kernel (mount(8)). One is ours: ``x-shimyard.upper=tmpfs`` gives an overlay a
private tmpfs for its upper side. It is mounted first and beneath the overlay, since an upperdir must not lie within its
lowerdir, nor on the lowerdir's file system where that is the whole of ``/``.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shimproc import linux
from shimproc.errors import FailedPrecondition, InvalidArgument, PermissionDenied, ShimyardError

codecs.lookup("unicode_escape")  # imports it now, in the forkserver, and not in every shim

UPPER: Final = "x-shimyard.upper="
READONLY: Final = "rro"
"""Of a bind: all below it is read-only, too, as crun and runc have it."""
_ATIME: Final = linux.MS_NOATIME | linux.MS_RELATIME | linux.MS_STRICTATIME
# An option: (flags that it sets, flags that it clears). The last word on a flag counts.
_FLAGS: Final[Mapping[str, tuple[int, int]]] = {
    "ro": (linux.MS_RDONLY, 0),
    "rw": (0, linux.MS_RDONLY),
    "nosuid": (linux.MS_NOSUID, 0),
    "suid": (0, linux.MS_NOSUID),
    "nodev": (linux.MS_NODEV, 0),
    "dev": (0, linux.MS_NODEV),
    "noexec": (linux.MS_NOEXEC, 0),
    "exec": (0, linux.MS_NOEXEC),
    "sync": (linux.MS_SYNCHRONOUS, 0),
    "async": (0, linux.MS_SYNCHRONOUS),
    "dirsync": (linux.MS_DIRSYNC, 0),
    "noatime": (linux.MS_NOATIME, _ATIME),
    "relatime": (linux.MS_RELATIME, _ATIME),
    "strictatime": (linux.MS_STRICTATIME, _ATIME),
    "atime": (0, linux.MS_NOATIME),
    "nodiratime": (linux.MS_NODIRATIME, 0),
    "diratime": (0, linux.MS_NODIRATIME),
    "bind": (linux.MS_BIND, 0),
    "rbind": (linux.MS_BIND | linux.MS_REC, 0),
    "remount": (linux.MS_REMOUNT, 0),
    "defaults": (0, 0),
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
# Words for mount(8) itself and for fstab(5): the kernel never sees them.
_NOT_FOR_THE_KERNEL: Final = frozenset(
    ("auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev")
)
# What a bind has of its source, and what its second step would take away unless it is said again.
_KEPT: Final = (
    (os.ST_RDONLY, linux.MS_RDONLY),
    (os.ST_NOSUID, linux.MS_NOSUID),
    (os.ST_NODEV, linux.MS_NODEV),
    (os.ST_NOEXEC, linux.MS_NOEXEC),
    (os.ST_NOATIME, linux.MS_NOATIME),
    (os.ST_NODIRATIME, linux.MS_NODIRATIME),
    (os.ST_RELATIME, linux.MS_RELATIME),
)
_REMEDIES: Final[Mapping[int, str]] = {
    errno.ENOENT: "the source, or a folder that an option names, does not exist",
    errno.ENOTDIR: "the source, or what an option names, is no folder",
    errno.ENODEV: "this kernel has no such type of file system",
    errno.EINVAL: "an option is not one of this type's, or has a wrong value",
    errno.ENOTBLK: "the source is no block device",
    errno.EBUSY: "the source is in use in another way",
    errno.E2BIG: "use fewer or shorter options",
}


@dataclass(slots=True)
class _Options:
    """mount(8)'s words, sorted: flags asked for and taken back, propagation (a call each), the file system's own."""

    flags: int = 0
    cleared: int = 0
    spread: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    upper: str | None = None
    readonly: bool = False


def mount_all(mounts: Sequence[Mapping[str, Any]], rootfs: str) -> None:
    """Mount each ``{type, source, options}`` over ``rootfs``, in order. On failure all of them are undone.

    Raises ``InvalidArgument``, or ``PermissionDenied`` where the kernel forbids it, naming ``rootfs[i]``, the source
    and the kernel's reason.
    """
    for index, mount in enumerate(mounts):
        try:
            _mount(mount, rootfs)
        except (OSError, ShimyardError) as error:
            with contextlib.suppress(FailedPrecondition):  # the first failure is the one to tell
                unmount_all(rootfs)
            raise _explained(index, mount, error) from error


def unmount_all(rootfs: str) -> None:
    """Take off all that is mounted at or below ``rootfs``, the newest first; files are not touched.

    A mount that is in use is detached: it is gone from here at once, and altogether when its last user goes.
    ``FailedPrecondition`` when one stays.
    """
    rootfs = os.path.realpath(rootfs)
    before, failure = 0, ""
    while (targets := _mounted(rootfs)) and len(targets) != before:
        before = len(targets)
        failure = _unmount(targets)
    if targets:
        raise FailedPrecondition(f"{targets[0]} cannot be unmounted: {failure}; unmount it (umount -l) and try again")


def private_namespace() -> bool:
    """Leave the host's mount namespace: what is mounted here stays here, what the host mounts is still seen.

    False where this process may not (an ordinary user) or cannot (the bound on namespaces): mounts are the host's then.
    """
    try:
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_SLAVE)
    except OSError:
        return False
    return True


def _mount(mount: Mapping[str, Any], rootfs: str) -> None:
    fstype = str(mount.get("type") or "")
    options = _sorted([fstype] if fstype in ("bind", "rbind") else [], mount.get("options") or ())
    source = str(mount.get("source") or fstype or "none")
    flags, data = options.flags, ",".join(options.words)
    if flags & linux.MS_REMOUNT:
        linux.mount(source, rootfs, "", flags, data)
    elif flags & linux.MS_BIND:
        _bind(source, rootfs, options)
        if options.readonly:
            linux.make_readonly(rootfs)
    else:
        if options.upper is not None:
            data = ",".join([*options.words, *_private_upper(fstype, options, rootfs)])
        linux.mount(source, rootfs, fstype, flags, data)
    for flag in options.spread:
        linux.mount("none", rootfs, "", flag)


def _bind(source: str, rootfs: str, options: _Options) -> None:
    """A bind takes its source's flags; to change one is a second step, which sets all of them (mount(2))."""
    linux.mount(source, rootfs, "", options.flags & (linux.MS_BIND | linux.MS_REC))
    wanted = options.flags & ~(linux.MS_BIND | linux.MS_REC)
    if not wanted:
        return
    has = os.statvfs(rootfs).f_flag
    cleared = options.cleared | (_ATIME if wanted & _ATIME else 0)
    kept = sum(flag for told, flag in _KEPT if has & told and not flag & cleared)
    linux.mount("none", rootfs, "", linux.MS_REMOUNT | linux.MS_BIND | wanted | kept)


def _sorted(*lists: Sequence[str]) -> _Options:
    found = _Options()
    for option in (option for options in lists for option in options):
        if option in _FLAGS:
            sets, clears = _FLAGS[option]
            found.flags = found.flags & ~clears | sets
            found.cleared = (found.cleared | clears) & ~sets
        elif option == READONLY:
            found.readonly = True
        elif option in _SPREAD:
            found.spread.append(_SPREAD[option])
        elif option.startswith(UPPER):
            found.upper = option
        elif not option.startswith("x-") and option not in _NOT_FOR_THE_KERNEL:
            found.words.append(option)
    return found


def _private_upper(fstype: str, options: _Options, rootfs: str) -> list[str]:
    """A tmpfs under the overlay-to-be. The root that a task sees takes mode and owner from the upperdir, so that has
    the topmost lowerdir's: an ordinary user must be able to walk it.
    """
    if options.upper != f"{UPPER}tmpfs":
        raise InvalidArgument(f"{options.upper}: only tmpfs can hold the upper side")
    lower = next((word.partition("=")[2] for word in options.words if word.startswith("lowerdir=")), None)
    if fstype != "overlay" or lower is None:
        raise InvalidArgument(f"{options.upper}: it belongs to an overlay with lowerdir=")
    status = os.stat(_topmost(lower))  # noqa: PTH116 - pathlib costs the shim memory
    linux.mount("tmpfs", rootfs, "tmpfs", linux.MS_NODEV, "mode=0755")
    upper, work = f"{rootfs}/up", f"{rootfs}/work"
    for path in (upper, work):
        os.mkdir(path, 0o755)  # noqa: PTH102
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, status.st_mode & 0o7777)  # noqa: PTH101
    return [f"upperdir={_escaped(upper)}", f"workdir={_escaped(work)}"]


def _topmost(lower: str) -> str:
    """The first of ``a:b:c``; a colon within a name has a backslash before it (the kernel's overlayfs.rst)."""
    name, rest = "", lower
    while rest and not rest.startswith(":"):
        rest = rest.removeprefix("\\")
        name, rest = name + rest[:1], rest[1:]
    return name


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(",", "\\,")


def _mounted(rootfs: str) -> list[str]:
    """Mount points at or below ``rootfs``, the newest first (proc(5), mountinfo: field 5, with octal escapes)."""
    found = []
    with open("/proc/self/mountinfo", "rb") as table:  # noqa: PTH123
        for line in table:
            target = os.fsdecode(line.split(b" ", 5)[4].decode("unicode_escape").encode("latin-1"))
            if target == rootfs or target.startswith(f"{rootfs}/"):
                found.append(target)
    return found[::-1]


def _unmount(targets: Sequence[str]) -> str:
    """Try each once; returns the last reason why one could not be taken off."""
    failure = ""
    for target in targets:
        try:
            try:
                linux.umount(target, linux.UMOUNT_NOFOLLOW)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                linux.umount(target, linux.UMOUNT_NOFOLLOW | linux.MNT_DETACH)
        except OSError as error:  # hidden beneath another: the next round sees it
            failure = error.strerror or str(error)
    return failure


def _explained(index: int, mount: Mapping[str, Any], error: OSError | ShimyardError) -> ShimyardError:
    where = f"rootfs[{index}]: {mount.get('type')} of {mount.get('source')!r}"
    if isinstance(error, ShimyardError):
        return InvalidArgument(f"{where}: {error}")
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{where}: {error.strerror}; run the daemon as root, or leave the mount out")
    remedy = _REMEDIES.get(error.errno or 0, "check source and options (mount(8))")
    return InvalidArgument(f"{where}: {error.strerror}; {remedy}")
