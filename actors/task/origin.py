"""What a bundle tells of its task when the database does not know it any more: it was lost, or put back as it was some time ago.

With its create request each shim writes down where the task came from: its container, but for the spec, which is the bundle's
config.json, and the first of its row. The journal has the rest.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cbor2

from actors.bundle import CONFIG
from actors.records import Container, Map
from actors.shape import dump, lenient
from actors.store.tasks import TaskRow
from actors.task.events import CREATING, advanced
from shimproc import shim
from shimproc.errors import ShimyardError
from shimproc.journal import read_journal
from shimproc.messages import Create, event_of
from shimproc.service import INTENT

log = logging.getLogger(__name__)
_OF_ROW = ("incarnation", "created_at", "rm", "no_shim", "extra", "boot")


def origin_of(row: TaskRow, container: Container) -> Map:
    """What ``found_in`` needs, besides what the bundle has anyway."""
    kept = {name: value for name, value in dump(container).items() if name not in ("spec", "rootfs")}
    return {"container": kept, "task": {name: getattr(row, name) for name in _OF_ROW}}


def found_in(bundle: Path) -> tuple[TaskRow, Container] | None:
    """The task of a bundle that no row knows; ``creating`` while its shim has not made it; None for what was not even begun."""
    try:
        request = Create.from_map(cbor2.loads((bundle / INTENT).read_bytes()))
        spec = json.loads((bundle / CONFIG).read_bytes())
    except (OSError, ValueError, cbor2.CBORError, ShimyardError) as error:
        log.debug("%s is no task's: %s", bundle, error)
        return None
    found = _parsed(bundle, request, spec)
    if found is None:
        return None
    row, container = found
    for values in _told_in(bundle):
        row = advanced(row, event_of(values), 0)
    return row, container


def _parsed(bundle: Path, request: Create, spec: Map) -> tuple[TaskRow, Container] | None:
    origin = request.origin or {}
    told: dict[str, Any] = {"id": bundle.name, "namespace": bundle.parent.name, **origin.get("container", {})}
    try:
        container = lenient(Container)({**told, "spec": spec, "rootfs": list(request.mounts)}, "container")
        row = TaskRow(
            namespace=bundle.parent.name,
            id=bundle.name,
            bundle=str(bundle),
            phase=CREATING,
            runtime=request.runtime,
            stdio=request.stdio,
            **{"incarnation": request.runtime_id.removeprefix(f"{bundle.name}-"), "created_at": 0, **origin.get("task", {})},
        )
    except (TypeError, ShimyardError) as error:
        log.error("%s has a task that nobody can read: %s", bundle, error)
        return None
    return row, container


def _told_in(bundle: Path) -> list[dict[str, Any]]:
    try:
        return [values for _, values in read_journal(str(bundle / shim.JOURNAL)).records]
    except OSError:
        return []
