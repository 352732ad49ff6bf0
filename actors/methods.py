"""The public API as data (API.md, section 4): which methods there are. What they take is in ``actors.params``.

Apart from it, since a client needs this much alone, and a command line is to start quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Method(NamedTuple):
    """A row of the table: whether a namespace is required, whether it streams, whether it changes something."""

    namespaced: bool = True
    streams: bool = False
    changes: bool = False


METHODS: Mapping[str, Method] = {
    "version": Method(namespaced=False),
    "health": Method(namespaced=False),
    "namespaces.create": Method(namespaced=False, changes=True),
    "namespaces.update": Method(namespaced=False, changes=True),
    "namespaces.list": Method(namespaced=False),
    "namespaces.delete": Method(namespaced=False, changes=True),
    "containers.create": Method(changes=True),
    "containers.get": Method(),
    "containers.list": Method(),
    "containers.update": Method(changes=True),
    "containers.delete": Method(changes=True),
    "tasks.create": Method(changes=True),
    "tasks.start": Method(changes=True),
    "tasks.run": Method(changes=True),
    "tasks.get": Method(),
    "tasks.list": Method(),
    "tasks.wait": Method(),
    "tasks.kill": Method(changes=True),
    "tasks.stop": Method(changes=True),
    "tasks.delete": Method(changes=True),
    "tasks.exec": Method(changes=True),
    "tasks.delete_process": Method(changes=True),
    "tasks.resize": Method(changes=True),
    "tasks.close_io": Method(changes=True),
    "tasks.pids": Method(),
    "tasks.pause": Method(changes=True),
    "tasks.resume": Method(changes=True),
    "tasks.checkpoint": Method(changes=True),
    "tasks.update": Method(changes=True),
    "tasks.metrics": Method(),
    "tasks.logs": Method(streams=True),
    "tasks.attach": Method(streams=True),
    "tasks.attach.write": Method(namespaced=False),
    "tasks.shim": Method(),
    "stream.credit": Method(namespaced=False),
    "stream.cancel": Method(namespaced=False),
    "events.watch": Method(namespaced=False, streams=True),
    "events.publish": Method(changes=True),
    "events.replay": Method(namespaced=False),
}
