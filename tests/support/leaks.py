"""What a daemon and its tasks have on this machine, and the comparison of before with after.

Processes (zombies too), mounts, cgroups that carry a test's ids, files below STATE and ROOT, descriptors and threads of
the daemon. Most of these end a moment after the reply that they follow, and no event tells of all of them: so ``check``
looks again after each round trip to the daemon, until nothing is left or ``SETTLE_SECONDS`` are over; then it names it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support import cgroups, proc
from tests.support.daemon import MARK, Daemon

SETTLE_SECONDS = 5.0
FORKSERVER = "shim-forkserver"
_OWN = re.compile(r"[^/]+\.(db|log)(-\w+)?|tasks|logs|oci(/[^/]+)?")
"""Below STATE and ROOT, what the daemon keeps for itself: database, logs, and the folders that the rest goes into."""


@dataclass(frozen=True)
class Snapshot:
    """What was there, by kind: a name and how often."""

    kinds: dict[str, Counter[str]]
    daemon_pid: int | None

    @classmethod
    def of(cls, daemon: Daemon, token: str) -> Snapshot:
        """Now. ``token`` is what every id of the test begins with."""
        pid = None if daemon.process is None else daemon.pid
        processes = [process for process in proc.belonging_to(daemon.folder, MARK) if process.pid != pid]
        kinds = {
            "process": Counter(_told(process) for process in processes if process.state != "Z"),
            "zombie": Counter(str(process) for process in processes if process.state == "Z"),
            "mount": Counter(proc.mounts_below(daemon.folder)),
            "cgroup": Counter(map(str, cgroups.naming([token]))),
            "file": Counter(_files(daemon)),
        }
        if daemon.process is not None:
            kinds["mount in the daemon's namespace"] = Counter(proc.mounts_below(daemon.folder, daemon.pid))
            kinds["descriptor of the daemon"] = proc.descriptors(daemon.pid)
            kinds["thread of the daemon"] = proc.threads(daemon.pid)
        for process in processes:
            if process.name == FORKSERVER and process.state != "Z":
                with contextlib.suppress(FileNotFoundError):  # the one that goes once its child serves
                    kinds["descriptor of the forkserver"] = proc.descriptors(process.pid)
        return cls(kinds, pid)

    def beyond(self, before: Snapshot) -> list[str]:
        """What is here and was not there before; a daemon that was started anew since then holds what it holds."""
        same = self.daemon_pid == before.daemon_pid
        return [
            f"{kind}: {name}" + (f" ({count} times)" if count > 1 else "")
            for kind, now in self.kinds.items()
            if same or not kind.endswith("of the daemon")
            for name, count in sorted((now - before.kinds.get(kind, Counter())).items())
        ]


def check(daemon: Daemon, before: Snapshot, token: str) -> None:
    """Fail with the names of all that was left behind since ``before``."""
    deadline = time.monotonic() + SETTLE_SECONDS
    left = Snapshot.of(daemon, token).beyond(before)
    while left and time.monotonic() < deadline:
        if daemon.process is not None:
            daemon.health()
        left = Snapshot.of(daemon, token).beyond(before)
    assert not left, "left behind:\n  " + "\n  ".join(left)


def _told(process: proc.Process) -> str:
    """There is one forkserver; a daemon that is started again may start it again, too."""
    return FORKSERVER if process.name == FORKSERVER else str(process)


def _files(daemon: Daemon) -> Iterator[str]:
    """Files and folders of tasks and containers. A bundle's rootfs is not entered."""
    for top in (daemon.state, daemon.root):
        for folder, inner, names in os.walk(top):
            inner[:] = [name for name in inner if name != "rootfs"]
            for name in (*inner, *names):
                if not _OWN.fullmatch(os.path.relpath(f"{folder}/{name}", top)):
                    yield f"{folder}/{name}"
