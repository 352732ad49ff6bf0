"""What a task's processes need of the shim around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shimproc.flow import Pending
from shimproc.io.keepsakes import Keeper
from shimproc.loop import LoopLike
from shimproc.messages import Message
from shimproc.reaper import Reaper

FLUSH_SECONDS = 10.0
"""How long a deletion waits for a slow reader of the output."""
START_FAILED = "start-failed"
LOST = "shim-lost"
CHECKPOINTED = "checkpoint"
"""The reason of an exit that a checkpoint with ``exit`` has made."""
LOST_STATUS = 255
"""What an exit says whose status nobody can know; the seed's code for it."""
EXEC_STATUS = {"not_found_executable": 127, "not_executable": 126}
"""By ``details.kind`` of an error: the status of a process whose program could not be run, as a shell has it."""


@dataclass(frozen=True, slots=True)
class Host:
    """``emit`` journals an event, then sends it, and is done when it is journaled: on a full disk that may take long.
    ``emit_now`` refuses instead (``ResourceExhausted``).
    """

    loop: LoopLike
    reaper: Reaper
    emit: Callable[[Message], Pending[None]]
    emit_now: Callable[[Message], None]
    keeper: Keeper
