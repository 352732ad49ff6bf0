"""The execs of a task in its shim: id -> exec, and what concerns all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial

from shimproc.errors import AlreadyExists, NotFound
from shimproc.flow import Pending
from shimproc.messages import Exec as Request
from shimproc.messages import ExecAdded, Message
from shimproc.process.estate import Estate
from shimproc.process.exec import Exec, recalled
from shimproc.process.host import Host
from shimproc.runtimes.backend import Backend, ExecFiles

_END_SECONDS = 10.0
"""How long an exec that was killed may be in the kernel's hands before init's exit is told without its own."""


class Execs:
    """Of one task."""

    def __init__(self, host: Host, bundle: str) -> None:
        self._host = host
        self._bundle = bundle
        self._execs: dict[str, Exec] = {}

    def __bool__(self) -> bool:
        return bool(self._execs)

    def add(self, request: Request) -> dict[str, int]:
        """One more, to be started later; written down, then journaled. ``AlreadyExists`` leaves the existing one untouched."""
        if request.process in self._execs:
            raise AlreadyExists(f"the exec {request.process} exists already; delete it, or take another id")
        files = ExecFiles(self._bundle, request.process)
        files.write(request.spec)
        told = ExecAdded(time.time_ns(), request.process, request.spec["args"][0], request.stdio, request.log)
        self._host.emit_now(told)
        self._execs[request.process] = Exec(self._host, told, files)
        return {}

    def get(self, exec_id: str) -> Exec:
        """One; ``NotFound``."""
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"the task has no exec {exec_id}")
        return found

    def alive(self) -> list[str]:
        """The ids of those that run, or are being started."""
        return [one.id for one in self._execs.values() if one.is_alive]

    async def delete(self, exec_id: str) -> dict[str, int]:
        """Forget one that does not run."""
        record = await self.get(exec_id).delete()
        self._execs.pop(exec_id, None)
        return record

    async def delete_all(self) -> None:
        """The task is being deleted; none runs any more."""
        for exec_id in list(self._execs):
            await self.delete(exec_id)

    def named(self, pids: Iterable[int]) -> list[dict[str, int | str]]:
        """Processes, with the exec's id where one is an exec's first."""
        ids = {one.pid: one.id for one in self._execs.values() if one.is_alive}
        return [{"pid": pid, "exec_id": ids[pid]} if pid in ids else {"pid": pid} for pid in pids]

    def end(self) -> Pending[None]:
        """Init has ended: all others end, too; done when their exits are told, at once if there is none."""
        over: Pending[None] = Pending()
        alive = {one.id for one in self._execs.values() if one.is_alive}
        if not alive:
            over.set(None)
            return over

        def ended(exec_id: str, _: Pending[None]) -> None:
            alive.discard(exec_id)
            if not alive:
                timer.cancel()
                over.set(None)

        timer = self._host.loop.call_later(_END_SECONDS, lambda: over.set(None))
        for exec_id in list(alive):
            self._execs[exec_id].slay().then(partial(ended, exec_id))
        return over

    def entrust(self) -> None:
        """To a keeper that has nothing of ours yet."""
        for one in self._execs.values():
            one.entrust()

    def recall(self, events: Sequence[Message]) -> None:
        """Those that a journal tells of."""
        self._execs = recalled(self._host, events, self._bundle)

    async def adopt(self, backend: Backend, estate: Estate) -> None:
        """Go on with what a killed shim had."""
        for one in self._execs.values():
            await one.adopt(backend, estate)
