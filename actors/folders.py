"""The daemon's two folders and the lock that keeps a second daemon out."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from shimproc.errors import FailedPrecondition, scarce

LOCK = "daemon.lock"
MODE = 0o711
UMASK = 0o022
"""The daemon's, whatever it was started under: a folder above STATE that it makes is nobody else's to write."""


def prepare(*folders: Path) -> None:
    """Make each, 0711 as the seed has it; one that exists must be a folder of ours, and no link that somebody else has laid."""
    for folder in folders:
        try:
            folder.mkdir(mode=MODE, parents=True, exist_ok=True)
            _refuse_foreign(folder, folder.lstat().st_uid, root=folder.is_symlink())
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _refuse_foreign(folder, os.fstat(fd).st_uid)
                os.fchmod(fd, MODE)
            finally:
                os.close(fd)
        except OSError as error:
            raise scarce(error, f"cannot use the folder {folder}") from error


def _refuse_foreign(folder: Path, uid: int, *, root: bool = False) -> None:
    """``root``: may it be root's, too?"""
    if uid != os.getuid() and not (root and uid == 0):
        raise FailedPrecondition(f"{folder} belongs to uid {uid}; name another with --state or --root")


def lock(state: Path) -> int:
    """Take ``STATE/daemon.lock`` for as long as the returned descriptor is open. Comes before any bind.

    (A second bind on an ipc path would silently steal it.)
    """
    try:
        fd = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise scarce(error, f"cannot lock {state / LOCK}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise FailedPrecondition(
            f"another daemon (pid {holder}) serves {state}; stop it, or name another folder with --state"
        ) from error
    with contextlib.suppress(OSError):  # a full disk: whoever comes second is told of "unknown"
        os.truncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
