"""Managed logs as files: a cursor through one and its rotated files, oldest first, and their removal. All of it may block.

``log`` is the newest file, ``log.1`` the one before it, and so on. A file that is rotated away while it is read is read to its
end through the open descriptor, then the next newer one is opened, found by its inode.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from actors.records import LogChunk
from shimproc.io.logfile import parse_lines

BLOCK = 256 << 10


class LogCursor:
    """Parameters
    ----------
    tail : begin that many lines before the end; None for the beginning.
    since : skip chunks older than this, ns since the epoch.
    """

    def __init__(self, path: Path, tail: int | None, since: int) -> None:
        self.path = path
        self._tail = tail
        self._since = since
        self._fd: int | None = None
        self._rest = b""
        self._begun = False

    def read(self) -> tuple[list[LogChunk], bool]:
        """The next chunks, and whether there may be more at once. ``OSError`` when a file cannot be read."""
        if not self._begun:
            self._begun = True
            self._begin()
        if self._fd is None and not self._open_next(None):
            return [], False
        assert self._fd is not None
        data = os.read(self._fd, BLOCK)
        if not data:
            return [], self._open_next(os.fstat(self._fd).st_ino)
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        chunks = [LogChunk(*line) for line in parse_lines(whole + newline)]
        return [chunk for chunk in chunks if chunk.timestamp >= self._since], True

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _files(self) -> list[Path]:
        """Newest first."""
        rotated = []
        number = 1
        while (older := self.path.with_name(f"{self.path.name}.{number}")).exists():
            rotated.append(older)
            number += 1
        return [path for path in (self.path, *rotated) if path.exists()]

    def _open_next(self, inode: int | None) -> bool:
        """Open the file after the one with ``inode`` (the oldest for None); False if there is none yet."""
        files = self._files()
        inodes = [path.stat().st_ino for path in files]
        if inode is None:
            place = len(files)
        elif inode in inodes:
            place = inodes.index(inode)
        else:  # rotated out of existence while we read it: go on with the oldest that is left
            place = len(files)
        if place == 0:
            return False
        self._switch(files[place - 1], 0)
        return True

    def _switch(self, path: Path, offset: int) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd, self._rest = fd, b""
        os.lseek(fd, offset, os.SEEK_SET)

    def _begin(self) -> None:
        """Where ``tail`` lines from the end begin, walking backwards through the files."""
        if self._tail is None:
            return
        left = self._tail
        for path in self._files():
            left, offset = _back(path, left)
            self._switch(path, offset)
            if left <= 0:
                return


def _back(path: Path, lines: int) -> tuple[int, int]:
    """(lines still wanted, offset): where the last ``lines`` lines of a file begin. Every line ends with a newline."""
    size = path.stat().st_size
    if lines <= 0:
        return 0, size
    if size == 0:
        return lines, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        position = size - 1
        for left in range(lines - 1, -1, -1):
            position = data.rfind(b"\n", 0, position)
            if position < 0:
                return left, 0
        return 0, position + 1


def remove(folder: Path) -> None:
    """Remove a container's folder of logs, and its namespace's when that was the last."""
    if folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def sweep(logs: Path, known: Collection[tuple[str, str]]) -> None:
    """Remove what is of no known (namespace, container)."""
    for folder in list(logs.glob("*/*")):
        if (folder.parent.name, folder.name) not in known:
            remove(folder)
