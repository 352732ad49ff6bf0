"""The one thread for work on bundles and logs: the loop never waits for a disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pykka

from shimproc.flow import Pending

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """Call ``work`` in the disk's thread; ``finish`` hands the outcome to the loop."""

    work: Callable[[], Any]
    receipt: Pending[Any]


class DiskActor(pykka.ThreadingActor):
    """Does one job after the other."""

    use_daemon_thread = True

    def __init__(self, call_from_thread: Callable[[Callable[[], None]], None]) -> None:
        super().__init__()
        self._call = call_from_thread

    def on_receive(self, message: Job) -> None:
        """Do a job; its failure is its receipt's."""
        try:
            result = message.work()
        except Exception as error:  # noqa: BLE001 - it is handed on
            failure = error
            self._call(lambda: message.receipt.fail(failure))
        else:
            self._call(lambda: message.receipt.set(result))


class Disk:
    """What the loop's side sees of the thread."""

    def __init__(self, ref: pykka.ActorRef[DiskActor]) -> None:
        self._ref = ref

    def do(self, work: Callable[[], T]) -> Pending[T]:
        """Run ``work`` in the disk's thread; jobs are done in order."""
        receipt: Pending[T] = Pending()
        self._ref.tell(Job(work, receipt))
        return receipt
