"""At start: what former daemons left. Finished, undone or taken back, all at once, while the daemon serves.

A create that was cut off (its intent says ``creating``: nobody was told of it) is undone: shim, container, mounts,
bundle, row, and the container of a ``tasks.run``. Every other task is taken back by an actor of its own, which asks its
shim. Bundles that no row knows are swept before the first new task is made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from actors import bundle
from actors.catalog import Catalog
from actors.disk import Disk
from actors.runtime import TakeBack
from actors.store.tasks import TaskRow
from actors.task.events import CREATING

log = logging.getLogger(__name__)


def sort_out(rows: Iterable[TaskRow], catalog: Catalog) -> TakeBack:
    """What is to be taken back and what undone; a row whose container is gone cannot be gone on with."""
    sorted_rows = []
    for row in rows:
        whole = row.phase != CREATING and catalog.find(row.namespace, row.id) is not None
        sorted_rows.append((row, not whole))
    return TakeBack(tuple(sorted_rows))


async def sweep(disk: Disk, state: Path, rows: Iterable[TaskRow]) -> None:
    """Remove bundles that no row knows: a delete got as far as its commit, and no further."""
    known = {Path(row.bundle) for row in rows}
    await disk.do(lambda: bundle.sweep(state, known))
