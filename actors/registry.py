"""Which tasks there are: namespace and id -> the task's actor and what it last showed. Holds the strong refs.

(pykka's refs are weak towards the actor; a parked actor that nobody holds would be collected in silence.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pykka

from actors.records import Task
from shimproc.errors import AlreadyExists, NotFound
from shimproc.flow import Pending


@dataclass(slots=True)
class Entry:
    """A task's place; no ``ref`` while its intent is on its way to the disk, or until its turn to be taken back: then ``begin``
    makes it."""

    ref: pykka.ActorRef[Any] | None = None
    task: Task | None = None
    begin: Callable[[], None] | None = None

    def begun(self) -> pykka.ActorRef[Any] | None:
        """Its actor, now."""
        if self.begin is not None:
            begin, self.begin = self.begin, None
            begin()
        return self.ref


class Registry:
    """get, all, add, remove."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._undone: dict[tuple[str, str], Pending[None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def reserve(self, namespace: str, task_id: str) -> Entry:
        """A place for a new task; ``AlreadyExists`` leaves the existing one untouched."""
        key = (namespace, task_id)
        if key in self._entries:
            raise AlreadyExists(f"the task {task_id} exists already in namespace {namespace}")
        entry = self._entries[key] = Entry()
        return entry

    async def vacant(self, namespace: str, task_id: str) -> None:
        """Wait for what is being undone under this id: nobody is to hear of it."""
        if (undone := self._undone.get((namespace, task_id))) is not None:
            await undone

    def undo(self, namespace: str, task_id: str) -> Pending[None]:
        """This one is only there to be undone; to be set when it is."""
        key = (namespace, task_id)
        undone = self._undone[key] = Pending()
        undone.then(lambda _: self._forget(key))
        return undone

    def _forget(self, key: tuple[str, str]) -> None:
        del self._undone[key]

    def has(self, namespace: str, task_id: str) -> bool:
        """Is there one, or one on its way?"""
        return (namespace, task_id) in self._entries

    def find(self, namespace: str, task_id: str) -> Entry | None:
        """The place of a task, or None."""
        return self._entries.get((namespace, task_id))

    def ref(self, namespace: str, task_id: str) -> pykka.ActorRef[Any]:
        """The actor of a task; ``NotFound``."""
        entry = self.find(namespace, task_id)
        ref = None if entry is None else entry.begun()
        if ref is None:
            raise NotFound(f"no task {task_id} in namespace {namespace}")
        return ref

    def get(self, namespace: str, task_id: str) -> Task:
        """What a task last showed; ``NotFound``."""
        entry = self.find(namespace, task_id)
        if entry is None or entry.task is None:
            raise NotFound(f"no task {task_id} in namespace {namespace}")
        return entry.task

    def all(self, namespace: str) -> list[Task]:
        """What all tasks of a namespace last showed."""
        return [entry.task for key, entry in self._entries.items() if key[0] == namespace and entry.task is not None]

    def refs(self) -> list[pykka.ActorRef[Any]]:
        """Every task's actor."""
        return [entry.ref for entry in self._entries.values() if entry.ref is not None]

    def remove(self, namespace: str, task_id: str) -> None:
        """The place is free again."""
        self._entries.pop((namespace, task_id), None)
