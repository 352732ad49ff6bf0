"""What is left of a task whose shim can never be asked again: its bundle was removed by hand, or the host was started again.

What it was is read from its journal, where that is kept, and from the event log. Processes are signalled only in the run of the
host that they were made in, and only once it is certain that they are the task's: a shim by its name and its folder, an init by
the time that it began. All else that goes by the task's name is removed: the runtime's folder, the cgroup.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from actors.boot import Boot
from actors.bundle import CONFIG
from actors.disk import Disk
from actors.store.events import told_by
from actors.store.tasks import TaskRow
from shimproc import shim
from shimproc.cgroups import Cgroup
from shimproc.errors import InvalidArgument, Unavailable
from shimproc.flow import Pending
from shimproc.journal import Record, read_journal
from shimproc.loop import READ, LoopLike
from shimproc.process.estate import begun
from shimproc.reaper import Exited, Reaper
from shimproc.runtimes.descendants import descendants

log = logging.getLogger(__name__)
T = TypeVar("T")
_END_SECONDS = 5.0


@dataclass(slots=True)
class Grasp:
    """pidfds of what still runs: the task's init, and its shims; ``kin``: of all that descends from them, by pid."""

    init: int | None = None
    shims: list[int] = field(default_factory=list)
    kin: dict[int, int] = field(default_factory=dict)
    cgroup: Cgroup | None = None


@dataclass(frozen=True, slots=True)
class Slain:
    """``any``: did something run? ``init``: how it ended; None where nobody can know. ``killed``: was it by our hand?"""

    any: bool = False
    init: Exited | None = None
    killed: bool = False


class Relics:
    """One for all tasks.

    Parameters
    ----------
    read : runs a query in the store's thread.
    """

    def __init__(
        self, loop: LoopLike, reaper: Reaper, disk: Disk, read: Callable[[Callable[[Any], Any]], Pending[Any]], boot: Boot
    ) -> None:
        self.loop = loop
        self.boot = boot
        self._reaper = reaper
        self._disk = disk
        self._read = read

    def is_former(self, row: TaskRow) -> bool:
        """Was it made in another run of the host? Then nothing of it runs, and its pids are other processes'."""
        return row.boot not in ("", self.boot.id)

    def is_over(self, row: TaskRow) -> bool:
        """Did it end with its host, or with the whole of STATE, and not by a removal of its bundle alone?"""
        return self.boot.anew or self.is_former(row)

    def journal(self, row: TaskRow) -> Pending[list[Record]]:
        """What its shim has written down, as far as it is kept."""
        return self._disk.do(lambda: _journal(Path(row.bundle)))

    def told(self, row: TaskRow) -> Pending[list[tuple[int, Mapping[str, Any]]]]:
        """The envelopes of what its shim has told, as far as they are kept, by the numbers that it gave them."""
        return self._read(lambda db: told_by(db, row.incarnation))

    async def slay(self, row: TaskRow) -> Slain:
        """End what still runs of it, unseen by anyone."""
        if self.is_former(row):
            return Slain()
        grasp = await self._disk.do(lambda: _seize(row))
        if grasp.init is None and not grasp.shims:
            return Slain()
        log.warning("what is left of %s/%s is killed: its bundle %s is gone", row.namespace, row.id, row.bundle)
        for pidfd in grasp.shims:  # before they can see the end of the rest
            _kill(pidfd)
            await self._ended(pidfd)
        ended, killed = None, False
        if grasp.init is not None:
            killed = not _has_ended(grasp.init)
            _kill(grasp.init)
            with contextlib.suppress(Unavailable):
                ended = await self._reaper.adopt(row.pid, grasp.init)
        for pidfd in grasp.kin.values():
            _kill(pidfd)
            os.close(pidfd)
        if grasp.cgroup is not None:
            await self._remove(grasp.cgroup, own=True)
        return Slain(any=True, init=ended, killed=killed)

    async def clean(self, row: TaskRow, spec: Mapping[str, Any]) -> None:
        """Remove what a runtime keeps of it outside of its bundle."""
        name = f"{row.id}-{row.incarnation}"
        if root := row.runtime.get("root"):
            await self._disk.do(lambda: shutil.rmtree(Path(root) / name, ignore_errors=True))
        path = await self._disk.do(lambda: _cgroup_path(row, name, spec))
        if path is not None:
            with contextlib.suppress(OSError, InvalidArgument):  # it is no cgroup of a task, or there are none
                for place in (Cgroup.at, Cgroup.below_ours):
                    await self._remove(place(path), own=name in path)

    async def _remove(self, cgroup: Cgroup, *, own: bool) -> None:
        """``own``: it bears the name of this task, or init was in it: nobody else has a right to be there."""
        if own:
            cgroup.kill()
            for pid in cgroup.pids():
                await self._reaper.ended(pid, _END_SECONDS)
        if own or not cgroup.occupied():
            cgroup.remove()

    def _ended(self, pidfd: int) -> Pending[None]:
        """Done when it has, or after some seconds; the pidfd is closed then."""
        ended: Pending[None] = Pending()

        def close(_: Pending[None]) -> None:
            timer.cancel()
            self.loop.unwatch(pidfd)
            os.close(pidfd)

        timer = self.loop.call_later(_END_SECONDS, lambda: ended.set(None))
        ended.then(close)
        self.loop.watch(pidfd, READ, lambda _: ended.set(None))
        return ended


def _journal(bundle: Path) -> list[Record]:
    try:
        return read_journal(str(bundle / shim.JOURNAL)).records
    except OSError:
        return []


def _seize(row: TaskRow) -> Grasp:
    """Hold on to what is certain to be the task's."""
    alone = not Path(row.bundle).exists() and _is_shim(row.shim_pid, row.bundle)  # else there may be another
    known = [row.shim_pid] if alone else _all_pids()
    grasp = Grasp()
    for pid in known:
        pidfd = _held(pid, lambda pid=pid: _is_shim(pid, row.bundle))  # type: ignore[misc]
        if pidfd is not None:
            grasp.shims.append(pidfd)
            _hold_kin(grasp, pid)
    if row.pid and row.begun:
        grasp.init = _held(row.pid, lambda: begun(row.pid) == row.begun)
    if grasp.init is not None:
        _hold_kin(grasp, row.pid)
        grasp.cgroup = Cgroup.of(row.pid)
    return grasp


def _hold_kin(grasp: Grasp, pid: int) -> None:
    for one in descendants(pid)[1:]:
        with contextlib.suppress(OSError):
            if one not in grasp.kin:
                grasp.kin[one] = os.pidfd_open(one)


def _held(pid: int, certain: Callable[[], bool]) -> int | None:
    """A pidfd; looked at again once it is held, as the pid may have become another's in between."""
    try:
        if not certain():
            return None
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if certain():
        return pidfd
    os.close(pidfd)
    return None


def _is_shim(pid: int, bundle: str) -> bool:
    try:
        folder = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - a removed one has no path
        return folder in (bundle, f"{bundle} (deleted)") and Path(f"/proc/{pid}/comm").read_text().startswith("shim:")
    except OSError:
        return False


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - an error of it is one


def _has_ended(pidfd: int) -> bool:
    """A zombie has (pidfd_open(2): readable)."""
    return bool(select.select([pidfd], [], [], 0)[0])


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _cgroup_path(row: TaskRow, name: str, spec: Mapping[str, Any]) -> str | None:
    """By the bundle's own spec, where that is kept: the container's may have been changed since."""
    with contextlib.suppress(OSError, ValueError):
        spec = json.loads(Path(row.bundle, CONFIG).read_bytes())
    linux = spec.get("linux") or {}
    if row.runtime["options"].get("systemd_cgroup"):
        return None
    if row.runtime["name"] == "process":
        return linux.get("cgroupsPath") or f"/shimyard/{name}"
    return linux.get("cgroupsPath") or f"/{name}"
