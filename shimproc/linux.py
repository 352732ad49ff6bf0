"""System calls that Python's library lacks: prctl(2), unshare(2), mount(2), umount2(2), close_range(2), inotify(7).

The only ctypes in the project. Every function raises ``OSError`` with errno and what failed.
"""

from __future__ import annotations

import ctypes
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
CLONE_NEWNS: Final = 0x20000
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
_UCRED: Final = struct.Struct("3i")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _prctl(option: int, argument: int, what: str) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0), what)


def set_child_subreaper() -> None:
    """Orphaned descendants become this process's children. Not inherited by a fork."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def set_no_new_privs() -> None:
    """execve grants nothing from now on."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def set_pdeathsig(number: int) -> None:
    """Get this signal when the parent thread ends."""
    _prctl(_PR_SET_PDEATHSIG, number, "PR_SET_PDEATHSIG")


def set_name(name: str) -> None:
    """The thread's name as ps -o comm shows it: 15 bytes of it."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _check(_libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0), "PR_SET_NAME")


def unshare(flags: int) -> None:
    """Leave the shared namespaces of ``flags``."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    arguments = (source.encode(), target.encode(), fstype.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    _check(_libc.mount(*arguments), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), target)


def close_range(first: int, last: int) -> None:
    """Close every descriptor from ``first`` to ``last``."""
    _check(_libc.close_range(ctypes.c_uint(first), ctypes.c_uint(last), 0), "close_range")


def inotify_init() -> int:
    """A non-blocking, close-on-exec inotify descriptor."""
    return _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watch ``path``; returns the watch."""
    return _check(_libc.inotify_add_watch(fd, path.encode(), ctypes.c_uint32(mask)), path)


def set_pipe_size(fd: int, size: int) -> None:
    """F_SETPIPE_SZ; ``OSError`` EPERM above the user's bound."""
    fcntl.fcntl(fd, _F_SETPIPE_SZ, size)


def peer_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of a unix socket's peer, as of its connect or listen (SO_PEERCRED)."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid
