"""At start: what former daemons left. Finished, undone or taken back, all at once, while the daemon serves.

A create that was cut off (its intent says ``creating``: nobody was told of it) is undone: shim, container, mounts,
bundle, row, and the container of a ``tasks.run``; a removal that was cut off is finished. Every other task is taken back by
an actor of its own, which asks its shim. A bundle that no row knows has a task that the database has lost, which is salvaged,
or one that is over: those, and logs of containers that are gone, are swept before the first new task is made: the disk's one
thread does it first.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from actors import bundle, logfiles
from actors.catalog import Catalog
from actors.disk import Disk
from actors.messages import Begun
from actors.runtime import Former, Salvaged, TakeBack
from actors.store.events import last_told
from actors.store.tasks import TaskRow
from actors.task.events import CREATING, DELETED, whole
from actors.task.origin import found_in
from shimproc.crash import point

log = logging.getLogger(__name__)
Task = tuple[str, str]


def names(rows: Iterable[TaskRow]) -> list[Task]:
    """(namespace, id) of each."""
    return [(row.namespace, row.id) for row in rows]


def salvage(state: Path, rows: Iterable[TaskRow], catalog: Catalog) -> list[Salvaged]:
    """Tasks that are in no database, and in their bundles; their containers are put into the catalog, if they are not there."""
    found = []
    for path in bundle.strangers(state, {Path(row.bundle) for row in rows}):
        told = found_in(path)
        if told is None or told[0].phase == DELETED:  # it was on its way out, and is swept
            continue
        row, container = told
        log.warning("%s is the bundle of a task that the database does not know; it is taken back from there", path)
        is_new = row.phase != CREATING and catalog.find(row.namespace, row.id) is None
        if is_new:
            catalog.put_container(container)
        found.append(Salvaged(row, container if is_new else None))
    return found


def well_known(db: sqlite3.Connection, rows: Iterable[TaskRow], catalog: Catalog) -> dict[str, int]:
    """By incarnation, of each task that its row tells whole, the number of its shim's last event: it need not tell it all again.
    One that has a deadline must, as that counts from a clock that the row does not have."""
    found = {}
    for row in rows:
        container = catalog.find(row.namespace, row.id)
        if container is not None and container.timeout is None and whole(row, last := last_told(db, row.incarnation)):
            found[row.incarnation] = last
    return found


def sort_out(
    rows: Iterable[TaskRow],
    salvaged: Iterable[Salvaged],
    catalog: Catalog,
    known: Mapping[str, int],
    unanswered: Mapping[Task, Sequence[Begun]],
) -> TakeBack:
    """What is to be taken back and what undone; a row whose container is gone cannot be gone on with.

    Parameters
    ----------
    salvaged : those that the database does not know.
    known : of ``well_known``.
    unanswered : by (namespace, id) what a former daemon had begun.
    """
    found = [Former(one.row, (), undo=one.row.phase == CREATING, salvaged=one) for one in salvaged]
    for row in rows:
        goes_on = row.phase not in (CREATING, DELETED) and catalog.find(row.namespace, row.id) is not None
        begun = tuple(unanswered.get((row.namespace, row.id), ()))
        found.append(Former(row, begun, undo=not goes_on, known=known.get(row.incarnation, 0)))
    return TakeBack(tuple(found))


async def sweep(disk: Disk, state: Path, rows: Iterable[TaskRow]) -> None:
    """Remove bundles that no row knows: a delete got as far as its commit, and no further."""
    known = {Path(row.bundle) for row in rows}
    await disk.do(lambda: bundle.sweep(state, known))
    point("daemon: bundles swept")


async def sweep_logs(disk: Disk, root: Path, catalog: Catalog) -> None:
    """Remove logs of containers that are gone: a daemon was killed right after it had dropped them."""
    known = {(container.namespace, container.id) for container in catalog.all_containers()}
    await disk.do(lambda: logfiles.sweep(root / "logs", known))
