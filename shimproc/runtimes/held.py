"""A plain process that is forked and held, then let go: an init of the runtime ``process``, or an exec of it."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Mapping
from typing import Any, Final

from shimproc.errors import FailedPrecondition
from shimproc.io.console import Console, make_terminal
from shimproc.reaper import Reaper
from shimproc.runtimes.exec_child import Held, become, failure_of

_GO: Final = b"\1"


class HeldProcess:
    """The child waits on a pipe before the user's program; if whoever holds the other end goes, it ends.

    Parameters
    ----------
    spec : what of an OCI config a plain process heeds; ``process`` above all.
    chroot : the rootfs, where one is mounted for the task.
    """

    def __init__(self, spec: Mapping[str, Any], chroot: str | None, reaper: Reaper) -> None:
        self._spec = spec
        self._chroot = chroot
        self._reaper = reaper
        self._go: int | None = None
        self._failed: int | None = None

    def fork(self, fds: tuple[int, int, int], console: Console | None) -> int:
        """Its pid; ``fds`` become its 0, 1 and 2, or a terminal, for ``console``. ``OSError`` of pipe(2), pty(7) and fork(2).

        The child's ends are closed here, so that end-of-file means what it should; ours are kept for ``start``.
        """
        with contextlib.ExitStack() as childs:
            if console is not None:
                slave = self._make_terminal(console)
                childs.callback(os.close, slave)
                fds = (slave, slave, slave)
            hold, self._go = os.pipe2(os.O_CLOEXEC)
            childs.callback(os.close, hold)
            self._failed, report = os.pipe2(os.O_CLOEXEC)
            childs.callback(os.close, report)
            pid = os.fork()
            if pid == 0:
                become(self._spec, Held(hold, report, fds, self._chroot))
        return pid

    def _make_terminal(self, console: Console) -> int:
        process = self._spec["process"]
        user, size = process.get("user") or {}, process.get("consoleSize")
        owner = (user.get("uid", os.geteuid()), user.get("gid", os.getegid()))
        return make_terminal(console, (size["width"], size["height"]) if size else None, owner)

    @property
    def keepsakes(self) -> Mapping[str, int]:
        """What a held one waits on."""
        held = {"go": self._go, "failed": self._failed}
        return {name: fd for name, fd in held.items() if fd is not None}

    def adopt(self, kept: dict[str, int]) -> None:
        """One that a killed shim made; it can still be let go. What is taken of ``kept`` is removed there."""
        self._go, self._failed = kept.pop("go", None), kept.pop("failed", None)

    def is_started(self) -> bool:
        """Its end of the report's pipe is closed once it is a program, or gone."""
        if self._failed is None:
            return True
        poll = select.poll()
        poll.register(self._failed, select.POLLIN)
        return bool(poll.poll(0))

    async def start(self) -> None:
        """Let it go, and hear whether the program could be started: end-of-file means that it was.

        An error with ``details.kind`` names the field that is at fault; ``FailedPrecondition``: it has ended before.
        """
        if self._go is None or self._failed is None:
            raise FailedPrecondition("the process was started already")
        try:
            os.write(self._go, _GO)
            await self._reaper.readable(self._failed)
            told = os.read(self._failed, 4096)
        except BrokenPipeError as error:
            raise FailedPrecondition("the process has ended before it was started") from error
        finally:
            self.close()
        if told:
            raise failure_of(told)

    def close(self) -> None:
        """Our ends: a child that is still held hears it, and ends."""
        for fd in (self._go, self._failed):
            if fd is not None:
                os.close(fd)
        self._go = self._failed = None
