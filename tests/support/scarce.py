"""A disk that is full: a small tmpfs below a test's daemon, filled to the last page and given room again."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_BLOCK = bytes(1 << 16)


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs of so many kB; whoever owns the folder unmounts it (``Daemon.destroy``)."""

    path: Path

    @classmethod
    def mount(cls, path: Path, kilobytes: int) -> SmallDisk:
        """Make the folder, and mount it there."""
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0711", "tmpfs", path], check=True)
        return cls(path)

    def fill(self) -> None:
        """Until not one page is left; more, if something was freed since."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        size = len(_BLOCK)
        try:
            while size:
                try:
                    os.write(fd, _BLOCK[:size])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
        finally:
            os.close(fd)

    def give_room(self) -> None:
        """All that was filled."""
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        return self.path / "filler.log"
