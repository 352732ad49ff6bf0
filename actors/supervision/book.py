"""Which tasks are to be started again, as a record for each container of which anything is to be remembered.

No record: nobody has ended its task on purpose, and it was never started again. A record is on disk before the deed that
follows from it: a daemon that is killed in between finds both what was wanted and how far it came.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from actors.catalog import Catalog
from actors.exchange import ExchangeClient
from actors.messages import Call
from actors.records import Map, Task
from actors.registry import Registry
from actors.spec import parse_signal
from actors.store.supervision import DropSupervision, PutSupervision
from actors.supervision.policy import policy_of
from shimproc import flow
from shimproc.flow import Pending

Key = tuple[str, str]
_ENDING: Final = frozenset({"SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT"})
_ALIVE: Final = frozenset({"created", "running", "pausing", "paused"})


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Of one container.

    Parameters
    ----------
    wanted : False once somebody has ended its task on purpose.
    restarts : since it was started by hand.
    streak : the last of them, as far as none ran for long.
    counted : when the exit was that the last restart follows, ns since the epoch; an exit counts once.
    stdio : of the task before, which the next one shall have, too.
    """

    wanted: bool = True
    restarts: int = 0
    streak: int = 0
    counted: int = 0
    stdio: Map | None = None


@dataclasses.dataclass(slots=True)
class _Between:
    """A task that is being started again just now: what it last showed, and when that is over."""

    task: Task | None
    over: Pending[None]


class Book:
    """(namespace, id) -> Record."""

    def __init__(
        self, records: Mapping[Key, Mapping[str, Any]], catalog: Catalog, registry: Registry, exchange: ExchangeClient
    ) -> None:
        self._records = {key: Record(**record) for key, record in records.items()}
        self._catalog = catalog
        self._registry = registry
        self._exchange = exchange
        self._between: dict[Key, _Between] = {}

    def find(self, key: Key) -> Record:
        """What is remembered; the blank record for nothing."""
        return self._records.get(key) or Record()

    def remembered(self) -> list[Key]:
        """Of which anything is known."""
        return list(self._records)

    async def put(self, key: Key, record: Record) -> None:
        """Done when it is on disk; it holds at once."""
        self._records[key] = record
        await self._exchange.publish(changes=(PutSupervision(*key, dataclasses.asdict(record)),))

    def drop(self, key: Key) -> None:
        """The task is gone, with all that was to be remembered of it."""
        if self._records.pop(key, None) is not None:
            flow.spawn(_receipt(self._exchange.publish(changes=(DropSupervision(*key),))), f"forgetting {key[1]}")

    # -- clients' requests

    def before(self, call: Call) -> Pending[None] | None:
        """To be waited for before a client's request is served; None, as nearly always, for nothing.

        A restart that is under way is over by then: clients see the task before it, or after. That a task is ended on
        purpose is on disk by then.
        """
        container_id = getattr(call.params, "id", None)
        if container_id is None or policy_of(self._catalog.find(call.namespace, container_id)) is None:
            return None
        key = (call.namespace, container_id)
        if key in self._between or self._is_on_purpose(call, key):
            return flow.start(self._before(call, key))
        return None

    async def _before(self, call: Call, key: Key) -> None:
        while (between := self._between.get(key)) is not None:
            await between.over
        if self._is_on_purpose(call, key):
            await self.put(key, dataclasses.replace(self.find(key), wanted=False))

    def _is_on_purpose(self, call: Call, key: Key) -> bool:
        """Does this request end the task, or keep it from being started again?"""
        entry = self._registry.find(*key)
        if (
            entry is None
            or entry.task is None
            or not self.find(key).wanted
            or getattr(call.params, "exec_id", None) is not None
        ):
            return False
        status = entry.task.status
        if call.method == "tasks.kill":
            return status in _ALIVE and self._ends(call.params.signal, key)
        return call.method == "tasks.stop" or (
            call.method == "tasks.delete" and (call.params.force or status in ("stopped", "created"))
        )

    def _ends(self, signal: str | int, key: Key) -> bool:
        container = self._catalog.find(*key)
        stop = None if container is None else container.stop
        ending = {parse_signal(name, "signal") for name in (*_ENDING, *(() if stop is None else (stop.signal,)))}
        return parse_signal(signal, "signal") in ending

    # -- restarts

    def begin(self, key: Key) -> None:
        """The task is taken away and made again: requests about it wait until ``end``."""
        entry = self._registry.find(*key)
        self._between[key] = _Between(None if entry is None else entry.task, Pending())

    def end(self, key: Key) -> None:
        """It is there again, or could not be made."""
        self._between.pop(key).over.set(None)

    def between(self, namespace: str) -> list[Task]:
        """What tasks that are not there just now, since they are being started again, last showed."""
        return [
            one.task
            for key, one in self._between.items()
            if key[0] == namespace and one.task is not None and not self._registry.has(*key)
        ]


async def _receipt(receipt: Pending[Any]) -> None:
    await receipt
