"""The methods of API.md section 4, typed, under the wire's names: ``client.tasks.get("x").status``.

One definition serves both clients: a method makes a ``Wanted`` (what to ask, how to read the answer); the sync client
returns the answer, the asyncio client an awaitable of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from actors.records import (
    Container,
    Envelope,
    Exit,
    Health,
    Map,
    Mount,
    Namespace,
    Process,
    Restart,
    RunResult,
    Runtime,
    Stdio,
    Stop,
    Task,
)
from actors.shape import lenient

T = TypeVar("T")
Read = Callable[[Any], T]
Pids = list[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted(Generic[T]):
    """A call to make: ``read`` turns the result's map into what the caller gets."""

    method: str
    params: Mapping[str, Any]
    read: Read[T]


def _record(cls: Callable[..., T]) -> Read[T]:
    parse = lenient(cls)
    return lambda value: parse(value, "")


def _list_of(cls: Callable[..., T], key: str) -> Read[list[T]]:
    parse = lenient(cls)
    return lambda value: [parse(item, key) for item in value[key]]


def _as_is(value: Any) -> Any:
    return value


def _nothing(_: Any) -> None:
    return None


def _pids(value: Any) -> Pids:
    return list(value["pids"])


def _run_answer(value: Any) -> Any:
    return _record(RunResult)(value) if "exit" in value else _record(Task)(value)


@dataclass(frozen=True, slots=True)
class Replay:
    """A piece of the event log; ``last_seq`` is the newest there is, ``oldest_seq`` the oldest that is kept."""

    events: tuple[Envelope, ...]
    last_seq: int
    oldest_seq: int


@dataclass(frozen=True, slots=True)
class Shim:
    """A task's shim."""

    pid: int
    version: int
    started_at: int
    adopted: bool


def version() -> Wanted[Mapping[str, Any]]:
    """What the daemon is, and which runtimes it can use."""
    return Wanted("version", {}, _as_is)


def health() -> Wanted[Mapping[str, Any]]:
    """How the daemon is."""
    return Wanted("health", {}, _as_is)


class Namespaces:
    """``namespaces.*``."""

    @staticmethod
    def create(name: str, labels: Mapping[str, str] | None = None) -> Wanted[Namespace]:
        """A new namespace."""
        return Wanted("namespaces.create", {"name": name, "labels": labels}, _record(Namespace))

    @staticmethod
    def update(name: str, labels: Mapping[str, str] | None = None) -> Wanted[Namespace]:
        """Replace its labels."""
        return Wanted("namespaces.update", {"name": name, "labels": labels}, _record(Namespace))

    @staticmethod
    def list() -> Wanted[list[Namespace]]:
        """All."""
        return Wanted("namespaces.list", {}, _list_of(Namespace, "namespaces"))

    @staticmethod
    def delete(name: str) -> Wanted[None]:
        """Remove an empty one."""
        return Wanted("namespaces.delete", {"name": name}, _nothing)


class Containers:
    """``containers.*``."""

    @staticmethod
    def create(  # noqa: PLR0913 - the contract's params
        id: str,  # noqa: A002 - the wire's name
        spec: Map,
        *,
        rootfs: Sequence[Mount] = (),
        runtime: Runtime | None = None,
        stdio: Stdio | None = None,
        labels: Mapping[str, str] | None = None,
        restart: Restart | None = None,
        stop: Stop | None = None,
        timeout: float | None = None,
        health: Health | None = None,
    ) -> Wanted[Container]:
        """A container, without a task yet."""
        return Wanted("containers.create", _given(locals()), _record(Container))

    @staticmethod
    def get(id: str) -> Wanted[Container]:  # noqa: A002
        """One."""
        return Wanted("containers.get", {"id": id}, _record(Container))

    @staticmethod
    def list(filters: Sequence[str] | None = None) -> Wanted[list[Container]]:
        """All that match."""
        return Wanted("containers.list", {"filters": filters}, _list_of(Container, "containers"))

    @staticmethod
    def update(
        id: str,  # noqa: A002
        *,
        labels: Mapping[str, str] | None = None,
        spec: Map | None = None,
        restart: Restart | None = None,
    ) -> Wanted[Container]:
        """Replace what is given."""
        return Wanted("containers.update", _given(locals()), _record(Container))

    @staticmethod
    def delete(id: str) -> Wanted[None]:  # noqa: A002
        """Remove one that has no task."""
        return Wanted("containers.delete", {"id": id}, _nothing)


class Tasks:
    """``tasks.*`` but for the streaming ones."""

    @staticmethod
    def create(
        id: str,  # noqa: A002
        *,
        stdio: Stdio | None = None,
        checkpoint: str | None = None,
        parent_checkpoint: str | None = None,
    ) -> Wanted[Task]:
        """Make the container's task, held before its program."""
        return Wanted("tasks.create", _given(locals()), _record(Task))

    @staticmethod
    def start(id: str, *, exec_id: str | None = None) -> Wanted[Mapping[str, int]]:  # noqa: A002
        """Let it go; ``{pid}``."""
        return Wanted("tasks.start", _given(locals()), _as_is)

    @staticmethod
    def run(  # noqa: PLR0913
        id: str,  # noqa: A002
        spec: Map,
        *,
        rootfs: Sequence[Mount] = (),
        runtime: Runtime | None = None,
        stdio: Stdio | None = None,
        labels: Mapping[str, str] | None = None,
        restart: Restart | None = None,
        stop: Stop | None = None,
        timeout: float | None = None,
        health: Health | None = None,
        rm: bool = False,
        wait: bool = False,
        capture: int | None = None,
    ) -> Wanted[Any]:
        """Container, create and start in one: a ``Task``, or with ``wait`` a ``RunResult``."""
        return Wanted("tasks.run", _given(locals()), _run_answer)

    @staticmethod
    def get(id: str) -> Wanted[Task]:  # noqa: A002
        """One."""
        return Wanted("tasks.get", {"id": id}, _record(Task))

    @staticmethod
    def list(filters: Sequence[str] | None = None) -> Wanted[list[Task]]:
        """All that match."""
        return Wanted("tasks.list", {"filters": filters}, _list_of(Task, "tasks"))

    @staticmethod
    def wait(id: str, *, exec_id: str | None = None) -> Wanted[Exit]:  # noqa: A002
        """How it ended, once it has."""
        return Wanted("tasks.wait", _given(locals()), _record(Exit))

    @staticmethod
    def kill(id: str, signal: int | str, *, all: bool = False, exec_id: str | None = None) -> Wanted[None]:  # noqa: A002
        """Send a signal."""
        return Wanted("tasks.kill", _given(locals()), _nothing)

    @staticmethod
    def stop(id: str, *, signal: int | str | None = None, grace: float | None = None) -> Wanted[Exit]:  # noqa: A002
        """Ask it to end, insist after ``grace`` seconds."""
        return Wanted("tasks.stop", _given(locals()), _record(Exit))

    @staticmethod
    def delete(id: str, *, force: bool = False) -> Wanted[Exit]:  # noqa: A002
        """Remove it."""
        return Wanted("tasks.delete", _given(locals()), _record(Exit))

    @staticmethod
    def exec(id: str, exec_id: str, process: Map, *, stdio: Stdio | None = None) -> Wanted[Process]:  # noqa: A002
        """Add a process to it."""
        return Wanted("tasks.exec", _given(locals()), _record(Process))

    @staticmethod
    def delete_process(id: str, exec_id: str) -> Wanted[Exit]:  # noqa: A002
        """Remove an exec."""
        return Wanted("tasks.delete_process", _given(locals()), _record(Exit))

    @staticmethod
    def resize(id: str, width: int, height: int, *, exec_id: str | None = None) -> Wanted[None]:  # noqa: A002
        """Set its terminal's size."""
        return Wanted("tasks.resize", _given(locals()), _nothing)

    @staticmethod
    def close_io(id: str, *, stdin: bool = True, exec_id: str | None = None) -> Wanted[None]:  # noqa: A002
        """End its stdin."""
        return Wanted("tasks.close_io", _given(locals()), _nothing)

    @staticmethod
    def pids(id: str) -> Wanted[Pids]:  # noqa: A002
        """Its processes: ``{pid, exec_id?}`` each."""
        return Wanted("tasks.pids", {"id": id}, _pids)

    @staticmethod
    def pause(id: str) -> Wanted[None]:  # noqa: A002
        """Freeze it."""
        return Wanted("tasks.pause", {"id": id}, _nothing)

    @staticmethod
    def resume(id: str) -> Wanted[None]:  # noqa: A002
        """Thaw it."""
        return Wanted("tasks.resume", {"id": id}, _nothing)

    @staticmethod
    def checkpoint(  # noqa: PLR0913
        id: str,  # noqa: A002
        path: str,
        *,
        exit: bool = False,  # noqa: A002
        open_tcp: bool = False,
        external_unix_sockets: bool = False,
        terminal: bool = False,
        file_locks: bool = False,
        empty_namespaces: Sequence[str] = (),
        work_path: str | None = None,
    ) -> Wanted[None]:
        """Have CRIU write its state to a folder; ``create`` with that as its ``checkpoint`` restores it."""
        return Wanted("tasks.checkpoint", _given(locals()), _nothing)

    @staticmethod
    def update(id: str, resources: Map) -> Wanted[None]:  # noqa: A002
        """Change its limits."""
        return Wanted("tasks.update", _given(locals()), _nothing)

    @staticmethod
    def metrics(id: str) -> Wanted[Mapping[str, Any]]:  # noqa: A002
        """What it uses."""
        return Wanted("tasks.metrics", {"id": id}, _as_is)

    @staticmethod
    def shim(id: str) -> Wanted[Shim]:  # noqa: A002
        """Its shim."""
        return Wanted("tasks.shim", {"id": id}, _record(Shim))


class Events:
    """``events.publish`` and ``events.replay``."""

    @staticmethod
    def publish(topic: str, event: Map) -> Wanted[int]:
        """Publish an event of one's own; its seq."""
        return Wanted("events.publish", {"topic": topic, "event": event}, lambda value: int(value["seq"]))

    @staticmethod
    def replay(since: int, *, limit: int | None = None, filters: Sequence[str] | None = None) -> Wanted[Replay]:
        """A piece of the log after ``since``."""
        return Wanted("events.replay", _given(locals()), _record(Replay))


def log_params(
    id: str,  # noqa: A002
    exec_id: str | None,
    follow: bool,
    tail: int | None,
    since: int | None,
) -> dict[str, Any]:
    """The params of ``tasks.logs``."""
    return _given(locals())


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
