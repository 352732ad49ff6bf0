"""``tasks.logs``: reads a container's managed log, from its end or from a time on, and follows it while its task runs.

Files are read in the disk's thread, a block at a time, only while the client has credit. Following waits on inotify(7),
never on a clock; it ends when the process has, by the task's own word, and everything is read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.catalog import Catalog
from actors.disk import Disk
from actors.dispatch import LoopActor, post
from actors.logfiles import LogCursor
from actors.messages import Call, Stream
from actors.params import ProcessRef
from actors.records import Process
from actors.registry import Registry
from actors.supervision.asking import Answer
from shimproc import linux
from shimproc.errors import InvalidArgument, NotFound
from shimproc.flow import Pending, spawn
from shimproc.loop import READ, LoopLike

Key = tuple[str, str, str]
"""Namespace, container id, and the id of the process: the container's for its init, else the exec's."""
_ENDED = frozenset({"stopped", "deleting"})


@dataclass(slots=True)
class Reader:
    """One streaming answer."""

    key: Key
    cursor: LogCursor
    follow: bool
    stream: Stream | None = None
    waiting: list[Any] = field(default_factory=list)
    busy: bool = False
    grown: bool = True
    over: bool = False
    inotify: int | None = None
    ended: Answer = field(default_factory=Answer)


class LogsActor(LoopActor):
    """All readers of managed logs.

    Parameters
    ----------
    path : where the log of (namespace, container id, exec id or None) is kept.
    """

    def __init__(
        self,
        loop: LoopLike,
        disk: Disk,
        known: tuple[Catalog, Registry],
        path: Callable[[str, str, str | None], Path],
    ) -> None:
        super().__init__(loop)
        self._disk = disk
        self._catalog, self._registry = known
        self._path = path
        self._readers: list[Reader] = []

    def on_call(self, call: Call) -> None:
        """``tasks.logs``; ``NotFound`` without the container."""
        params = call.params
        self._catalog.container(call.namespace, params.id)
        if params.exec_id is not None and self._exec(call.namespace, params.id, params.exec_id) is None:
            raise NotFound(f"the task {params.id} has no exec {params.exec_id}")
        if params.tail is not None and params.tail < 0:
            raise InvalidArgument("tail: it is the number of last chunks, 0 or more")
        cursor = LogCursor(self._path(call.namespace, params.id, params.exec_id), params.tail, params.since or 0)
        key = (call.namespace, params.id, params.exec_id or params.id)
        reader = Reader(key, cursor, bool(params.follow) and self._runs(key))
        if reader.follow:
            self._follow(reader)
            self._follow_until_exit(reader, params.exec_id)
        self._readers.append(reader)
        reader.stream = call.reply.stream(params.credit, lambda: self._go(reader), lambda: self._end(reader))
        self._go(reader)

    def _runs(self, key: Key) -> bool:
        namespace, task_id, process_id = key
        if process_id != task_id:
            found = self._exec(namespace, task_id, process_id)
            return found is not None and found.status not in _ENDED
        entry = self._registry.find(namespace, task_id)
        return entry is not None and (entry.task is None or entry.task.status not in _ENDED)

    def _exec(self, namespace: str, task_id: str, exec_id: str) -> Process | None:
        entry = self._registry.find(namespace, task_id)
        execs = () if entry is None or entry.task is None else entry.task.execs
        return next((one for one in execs if one.id == exec_id), None)

    def _follow(self, reader: Reader) -> None:
        """Watch before reading, so that nothing written in between is missed."""
        folder = reader.cursor.path.parent
        if folder.is_dir():
            reader.inotify = linux.inotify_init()
            linux.inotify_add_watch(reader.inotify, str(folder), linux.IN_MODIFY | linux.IN_CREATE | linux.IN_MOVED_TO)
            self.loop.watch(reader.inotify, READ, lambda _: self._on_growth(reader))

    def _follow_until_exit(self, reader: Reader, exec_id: str | None) -> None:
        """A process that has ended writes no more. Its task is asked: it knows before anybody else, so no exit is missed that
        was on its way when the reader came."""
        namespace, task_id, _ = reader.key
        entry = self._registry.find(namespace, task_id)
        ref = None if entry is None else entry.begun()
        if ref is None:
            reader.follow = False
            return
        post(ref, Call("tasks.wait", namespace, ProcessRef(task_id, exec_id), reader.ended))

        def finish(_: Pending[Any]) -> None:
            reader.follow, reader.grown = False, True
            self._go(reader)

        reader.ended.came.then(finish)

    def _on_growth(self, reader: Reader) -> None:
        assert reader.inotify is not None
        with contextlib.suppress(BlockingIOError):
            os.read(reader.inotify, 65536)
        reader.grown = True
        self._go(reader)

    def _go(self, reader: Reader) -> None:
        """Send what is read while the client takes it, read on while there is more."""
        stream = reader.stream
        if reader.over or stream is None:
            return
        while reader.waiting and stream.room() > 0:
            stream.send(reader.waiting.pop(0))
        if reader.waiting or reader.busy:
            return
        if reader.grown:
            reader.busy, reader.grown = True, False
            spawn(self._read(reader), "reading of a log")
        elif not reader.follow:
            stream.end()
            self._end(reader)

    async def _read(self, reader: Reader) -> None:
        try:
            chunks, more = await self._disk.do(reader.cursor.read)
        except OSError as error:
            if reader.stream is not None:
                reader.stream.end(NotFound(f"the log cannot be read: {error.strerror}"))
            self._end(reader)
            return
        finally:
            reader.busy = False
        reader.waiting = [{"stream": chunk.stream, "timestamp": chunk.timestamp, "data": chunk.data} for chunk in chunks]
        reader.grown = reader.grown or more
        self._go(reader)

    def _end(self, reader: Reader) -> None:
        if reader.over:
            return
        reader.over, reader.ended.open = True, False
        self._readers.remove(reader)
        if reader.inotify is not None:
            self.loop.unwatch(reader.inotify)
            os.close(reader.inotify)
        self._disk.do(reader.cursor.close)
