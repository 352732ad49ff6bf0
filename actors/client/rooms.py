"""The base of both clients' rooms, ``client.tasks`` and so on: what a room is bound to."""

from __future__ import annotations

from typing import Generic, TypeVar

ClientT = TypeVar("ClientT")


class Room(Generic[ClientT]):
    """The methods of one noun."""

    def __init__(self, client: ClientT) -> None:
        self.client = client
