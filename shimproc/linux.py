"""System calls that Python's library lacks: prctl(2), unshare(2), mount(2), umount2(2), close_range(2), inotify(7),
and the ioctls of pipes and pidfds.

The only ctypes in the project. Every function raises ``OSError`` with errno and what failed. A path may be any file
name that Python has; one with a NUL is EINVAL here, since C would silently take the part before it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_F_SETPIPE_SZ: Final = 1031
_FIONREAD: Final = 0x541B
_PIDFD_GET_INFO: Final = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes): include/uapi/linux/pidfd.h
_PIDFD_INFO_EXIT: Final = 1 << 3
_PIDFD_INFO: Final = struct.Struct("=QQ11Ii")  # mask, cgroup, 11 ids, exit code
_PAGE: Final = 4096
CLONE_NEWNS: Final = 0x20000
CLONE_NEWUSER: Final = 0x10000000
_SYS_MOUNT_SETATTR: Final = 442  # on every architecture (syscalls(2)); glibc 2.36 has it, and musl none
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_SYNCHRONOUS: Final = 16
MS_REMOUNT: Final = 32
MS_DIRSYNC: Final = 128
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_STRICTATIME: Final = 1 << 24
IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_OPEN: Final = 0x20
_INT: Final = struct.Struct("i")
_UCRED: Final = struct.Struct("3i")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _bytes(path: str) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path has no NUL", path)
    return name


def _prctl(option: int, argument: object, what: str) -> None:
    zero = ctypes.c_ulong(0)  # variadic: the kernel reads whole longs, and refuses what is not 0
    _check(_libc.prctl(option, argument, zero, zero, zero), what)


def set_child_subreaper() -> None:
    """Orphaned descendants become this process's children. Not inherited by a fork."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), "PR_SET_CHILD_SUBREAPER")


def set_no_new_privs() -> None:
    """execve grants nothing from now on."""
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), "PR_SET_NO_NEW_PRIVS")


def set_pdeathsig(number: int) -> None:
    """Get this signal when the parent thread ends."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), "PR_SET_PDEATHSIG")


def set_name(name: str) -> None:
    """The thread's name as ps -o comm shows it: 15 bytes of it."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]), "PR_SET_NAME")


def unshare(flags: int) -> None:
    """Leave the shared namespaces of ``flags``."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2). E2BIG for ``data`` over a page, of which the kernel would drop the end without a word."""
    words = _bytes(data)
    if len(words) >= _PAGE:
        raise OSError(errno.E2BIG, f"the options have {len(words)} bytes, and mount(2) takes {_PAGE - 1}", target)
    arguments = (_bytes(source), _bytes(target), _bytes(fstype) or None, ctypes.c_ulong(flags), words or None)
    _check(_libc.mount(*arguments), target)


def make_readonly(target: str) -> None:
    """A mount and all below it, whatever they are: mount_setattr(2), since Linux 5.12."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    number, flags, size = ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_ulong(_AT_RECURSIVE), ctypes.c_size_t(len(attributes))
    _check(_libc.syscall(number, ctypes.c_long(_AT_FDCWD), _bytes(target), flags, attributes, size), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(_bytes(target), flags), target)


def close_range(first: int, last: int) -> None:
    """Close every descriptor from ``first`` to ``last``."""
    _check(_libc.close_range(ctypes.c_uint(first), ctypes.c_uint(last), 0), "close_range")


def inotify_init() -> int:
    """A non-blocking, close-on-exec inotify descriptor."""
    return _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watch ``path``; returns the watch."""
    return _check(_libc.inotify_add_watch(fd, _bytes(path), ctypes.c_uint32(mask)), path)


def set_pipe_size(fd: int, size: int) -> None:
    """F_SETPIPE_SZ; ``OSError`` EPERM above the user's bound, EBUSY below what the pipe holds."""
    fcntl.fcntl(fd, _F_SETPIPE_SZ, size)


def unread(fd: int) -> int:
    """How many bytes wait in a pipe (FIONREAD, pipe(7)); either end will do."""
    (count,) = _INT.unpack(fcntl.ioctl(fd, _FIONREAD, bytes(_INT.size)))
    return int(count)


def pidfd_exit_status(pidfd: int) -> int | None:
    """The wait status (waitpid(2)) of a process that its parent has reaped, for anyone who had a pidfd of it before.

    None when it is not reaped yet, or when the kernel does not tell (before 6.15; PIDFD_GET_INFO in ioctl_pidfd(2)).
    """
    request = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, request)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ESRCH):
            return None
        raise
    mask, *_, status = _PIDFD_INFO.unpack(request)
    return int(status) if mask & _PIDFD_INFO_EXIT else None


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of a unix socket's peer, as of its connect or listen (SO_PEERCRED)."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid
