"""An ordinary user of this host, for whom the tests' own Python can be run wherever it lies.

A folder on the way that others may not enter (root's home, often) is replaced by one that they may, in a mount namespace of
the user's own; there is nothing in it but what leads to Python and to this checkout.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import proc
from tests.support.daemon import MARK, command
from tests.support.sources import CHECKOUT

UID = 61234
"""Nobody's."""


class Ordinary:
    """A home with STATE and ROOT within, and a shell."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="shimyard-test-"))
        self.folder.chmod(0o711)
        self.home = self.folder / "home"
        self.home.mkdir()
        os.chown(self.home, UID, UID)

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run it as that user; ``shimyard`` is this checkout's."""
        with (self.folder / "script").open("w") as file:
            file.write(script)
        (self.folder / "script").chmod(0o644)
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "sh", "-u", str(self.folder / "script")]
        return subprocess.run(
            ["unshare", "--mount", "--propagation=private", "sh", "-ec", f'{_opened()} exec "$@"', "sh", *user],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self.environment(),
            timeout=50,
        )

    def environment(self) -> dict[str, str]:
        """What the user's shell has."""
        return {
            "PATH": f"{Path(command()).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "SHIMYARD_STATE": str(self.home / "state"),
            "SHIMYARD_ROOT": str(self.home / "root"),
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: str(self.folder),
        }

    def destroy(self) -> None:
        """End all that was started there."""
        while left := [one for one in proc.belonging_to(self.folder, MARK) if one.state != "Z"]:
            proc.kill_and_wait(left)
        shutil.rmtree(self.folder)


def _opened() -> str:
    """Shell commands that let everybody through to what is needed."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), CHECKOUT}
    closed = {next((above for above in reversed(path.parents) if not _is_open(above)), None) for path in needed} - {None}
    lines = []
    for number, folder in enumerate(sorted(map(str, closed))):
        behind = [path for path in needed if path.is_relative_to(folder)]
        keeps = [f"/run/shimyard-test-{number}-{index}" for index in range(len(behind))]
        lines += ["mount -t tmpfs -o mode=755 none /run"] if not number else []
        lines += [f"mkdir {keep}; mount --bind {path} {keep}" for keep, path in zip(keeps, behind, strict=True)]
        lines.append(f"mount -t tmpfs -o mode=755 none {folder}")
        lines += [f"mkdir -p {path}; mount --bind {keep} {path}" for keep, path in zip(keeps, behind, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def _is_open(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)
