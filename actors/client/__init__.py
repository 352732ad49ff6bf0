"""Clients of the daemon: ``Client`` for ordinary code, ``AsyncClient`` for asyncio, with the methods of the API by their names.

    with Client() as client:
        print(client.run(["echo", "hello"], check=True).stdout)
        print(client.exec("web", ["ls", "/srv"], timeout=5).stdout)
        for event in client.events(): ...
"""

from typing import TYPE_CHECKING, Any

from actors.client.attach import Attached
from actors.client.attaching import AttachmentLost
from actors.client.cursors import EventsLost
from actors.client.line import Curve
from actors.client.runs import CompletedTask, TaskFailed, TaskTimeout
from actors.client.sync import Client

if TYPE_CHECKING:
    from actors.client.aio import AsyncClient

__all__ = [
    "AsyncClient",
    "Attached",
    "AttachmentLost",
    "Client",
    "CompletedTask",
    "Curve",
    "EventsLost",
    "TaskFailed",
    "TaskTimeout",
]


def __getattr__(name: str) -> Any:
    """``AsyncClient`` brings asyncio with it, which takes longer to import than a whole command line may."""
    if name == "AsyncClient":
        from actors.client.aio import AsyncClient  # noqa: PLC0415

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
