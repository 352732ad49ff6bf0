"""Which events of a task's past still matter: to a shim that takes over, and to a daemon that is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from shimproc.messages import Checkpointed, Deleted, ExecAdded, Oom, Paused, Resumed, event_of, exec_of

_LAST_COUNTS: Final = {Paused: "freezing", Resumed: "freezing", Oom: "oom", Checkpointed: "checkpoint"}


def needed(records: Sequence[tuple[int, dict[str, Any]]]) -> set[int]:
    """The numbers of those about init and about execs that are not deleted; of pauses, checkpoints and kills only the last."""
    numbers: set[int] = set()
    of_execs: dict[str, set[int]] = {}
    last: dict[str, int] = {}
    for n, values in records:
        event = event_of(values)
        exec_id = exec_of(event)
        if exec_id and isinstance(event, Deleted):
            of_execs.pop(exec_id, None)
        elif exec_id:
            if isinstance(event, ExecAdded):
                of_execs[exec_id] = set()
            of_execs.setdefault(exec_id, set()).add(n)
        elif (what := _LAST_COUNTS.get(type(event))) is not None:
            last[what] = n
        else:
            numbers.add(n)
    return numbers.union(last.values(), *of_execs.values())
