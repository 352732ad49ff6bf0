"""What daemon, forkserver and shim say to each other; each is one CBOR frame (``shimproc.wire``).

    daemon -> shim        {"q": number, "verb": "start", ...fields}          a request
                          {"ack": n}                                         all events up to n are durable
                          {"grant": number, "n": n}                          an attached client takes n more chunks
    shim   -> daemon      {"a": number, "n": last event, "ok": {...}}        its answer; it may be relied on
                          {"a": number, "n": last event, "error": {...}}     once event n is durable
                          {"n": n, "event": {"kind": "exited", ...fields}}   an event, numbered per shim from 1
                          {"attached": number, "stream", "at", "data"}       output for an attached client
                          {"attached": number, "end": error or null}         it was all
    daemon -> forkserver  {"q": number, "verb": "fork", ...fields} + 1 fd    the shim's end of its first link
    forkserver -> daemon  {"a": number, "ok": {"pid"}} + 1 fd                a pidfd of the new shim
                          {"shim": pid, "status": wait status}               a shim has ended

An event is in the shim's journal before it is sent, and is sent again on each new link until it is acked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeVar

from shimproc.errors import InvalidArgument, shown

M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True)
class Message:
    """Base of requests and events: fields are plain data, as CBOR has it."""

    tag: ClassVar[str]

    def to_map(self) -> dict[str, Any]:
        """The fields as a map."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        """The message; fields of a later version are ignored, missing ones are ``InvalidArgument``."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        try:
            return cls(**known)
        except TypeError as error:
            raise InvalidArgument(f"{cls.tag}: {error}") from error


@dataclass(frozen=True, slots=True)
class Fork(Message):
    """Make a shim for ``bundle``. ``adopt``: its shim is gone; a new one takes over, or one that already has gets the link."""

    tag: ClassVar[str] = "fork"
    bundle: str
    name: str
    cgroup: str | None = None
    oom_score_adj: int | None = None
    debug: bool = False
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Create(Message):
    """Make the task: mounts, stdio, and its init held before the user's program.

    ``runtime``: {name, command, root, options}; ``runtime_id``: what the OCI runtime calls it, unique on the host; ``log``:
    {path, max_size, max_files}; ``capture``: bytes of each stream to keep; ``checkpoint``: {path, parent, work_path}, to be
    restored by the start; ``origin``: what the daemon wants to find here should it lose its own record of the task."""

    tag: ClassVar[str] = "create"
    runtime_id: str
    bundle: str
    runtime: Mapping[str, Any]
    stdio: Mapping[str, Any]
    mounts: tuple[Mapping[str, Any], ...]
    log: Mapping[str, Any]
    capture: int | None = None
    checkpoint: Mapping[str, Any] | None = None
    origin: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Exec(Message):
    """Add a process to the task, to be started later. ``spec``: an OCI process; ``log``: as in ``Create``."""

    tag: ClassVar[str] = "exec"
    process: str
    spec: Mapping[str, Any]
    stdio: Mapping[str, Any]
    log: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Start(Message):
    """Let the process go. ``process`` is "" for init, else an exec's id; so in all that follow."""

    tag: ClassVar[str] = "start"
    process: str = ""


@dataclass(frozen=True, slots=True)
class Kill(Message):
    """Send a signal; ``reason`` becomes the exit's reason if the process dies of it."""

    tag: ClassVar[str] = "kill"
    signal: int
    all: bool = False
    process: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Delete(Message):
    """Remove the task; with ``force`` whatever its state, killing first."""

    tag: ClassVar[str] = "delete"
    force: bool = False


@dataclass(frozen=True, slots=True)
class DeleteProcess(Message):
    """Remove an exec that does not run."""

    tag: ClassVar[str] = "delete_process"
    process: str


@dataclass(frozen=True, slots=True)
class Pause(Message):
    """Freeze every process of the container."""

    tag: ClassVar[str] = "pause"


@dataclass(frozen=True, slots=True)
class Resume(Message):
    """Let them go on."""

    tag: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True)
class Checkpoint(Message):
    """Write init and what descends from it to ``path``, and let them go on, or with ``exit`` end them.

    ``work_path``: where CRIU's log goes. The rest are what CRIU is to put up with (``runtimes.criu``). While one is at work,
    another with its path waits for that.
    """

    tag: ClassVar[str] = "checkpoint"
    path: str
    work_path: str = ""
    exit: bool = False
    open_tcp: bool = False
    external_unix_sockets: bool = False
    terminal: bool = False
    file_locks: bool = False
    empty_namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Update(Message):
    """Change limits while the task runs: OCI ``linux.resources``."""

    tag: ClassVar[str] = "update"
    resources: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CloseIO(Message):
    """Close the process's stdin."""

    tag: ClassVar[str] = "close_io"
    process: str = ""


@dataclass(frozen=True, slots=True)
class Resize(Message):
    """The size of the process's terminal, in characters."""

    tag: ClassVar[str] = "resize"
    width: int
    height: int
    process: str = ""


@dataclass(frozen=True, slots=True)
class Attach(Message):
    """Send what the process writes from now on, too, as far as it is granted. ``number``: the daemon's name for it."""

    tag: ClassVar[str] = "attach"
    number: int
    process: str = ""


@dataclass(frozen=True, slots=True)
class Detach(Message):
    """No more."""

    tag: ClassVar[str] = "detach"
    number: int
    process: str = ""


@dataclass(frozen=True, slots=True)
class Write(Message):
    """To the process's stdin; answered when it is taken."""

    tag: ClassVar[str] = "write"
    data: bytes
    process: str = ""


@dataclass(frozen=True, slots=True)
class Pids(Message):
    """Which processes the task has now."""

    tag: ClassVar[str] = "pids"


@dataclass(frozen=True, slots=True)
class Metrics(Message):
    """What the task uses: {timestamp, cpu, memory, pids, io} by its cgroup; of one that has none {timestamp, tree, reaped}: its
    processes, and [user, system] ns of CPU that those used which the shim has reaped."""

    tag: ClassVar[str] = "metrics"


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first request on a link made later: replays what is not acked after ``acked``."""

    tag: ClassVar[str] = "hello"
    acked: int = 0


@dataclass(frozen=True, slots=True)
class Shutdown(Message):
    """The task is deleted and everything acked: the shim ends."""

    tag: ClassVar[str] = "shutdown"


@dataclass(frozen=True, slots=True)
class Created(Message):
    """Init exists and is held. ``begun``: when it began (``process.estate``), by which its pid is known from a later one's;
    ``oom_file``, ``oom_kills``: ``shimproc.oom.counted``. With ``checkpoint`` there is none yet (pid 0): start restores it."""

    tag: ClassVar[str] = "created"
    at: int
    pid: int
    begun: int = 0
    checkpoint: str | None = None
    oom_file: str = ""
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class ExecAdded(Message):
    """An exec is known, and can be started. ``program``: the first of its args."""

    tag: ClassVar[str] = "exec_added"
    at: int
    process: str
    program: str
    stdio: Mapping[str, Any]
    log: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Paused(Message):
    """Every process of the container is frozen."""

    tag: ClassVar[str] = "paused"
    at: int


@dataclass(frozen=True, slots=True)
class Resumed(Message):
    """They go on."""

    tag: ClassVar[str] = "resumed"
    at: int


@dataclass(frozen=True, slots=True)
class Checkpointed(Message):
    """A checkpoint is complete. ``exit``: init was ended by it, which is told next."""

    tag: ClassVar[str] = "checkpointed"
    at: int
    path: str
    exit: bool = False


@dataclass(frozen=True, slots=True)
class Started(Message):
    """The process runs the user's program. ``boottime``: since when, by a clock that nobody sets (``reaper.boottime``);
    ``oom_file``, ``oom_kills``: as in ``Created``, of one that was restored."""

    tag: ClassVar[str] = "started"
    at: int
    pid: int
    process: str = ""
    boottime: int = 0
    begun: int = 0
    oom_file: str = ""
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class StartFailed(Message):
    """The user's program could not be started; the process is gone, and that is no exit of it."""

    tag: ClassVar[str] = "start_failed"
    at: int
    pid: int
    status: int
    process: str = ""


@dataclass(frozen=True, slots=True)
class Oom(Message):
    """The kernel's OOM killer struck in the task's cgroup; ``kills``: its count by now."""

    tag: ClassVar[str] = "oom"
    at: int
    kills: int


@dataclass(frozen=True, slots=True)
class Exited(Message):
    """The process has ended; ``at`` is when. ``stdout`` and ``stderr`` are what was captured, if asked for; ``dropped``: bytes
    of its output that no destination could take, if any."""

    tag: ClassVar[str] = "exited"
    at: int
    pid: int
    status: int
    process: str = ""
    reason: str | None = None
    stdout: bytes | None = None
    stderr: bytes | None = None
    truncated: bool | None = None
    dropped: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted(Message):
    """Nothing is left of the process but this record."""

    tag: ClassVar[str] = "deleted"
    at: int
    pid: int
    status: int
    exited_at: int
    process: str = ""


REQUESTS: Mapping[str, type[Message]] = {
    cls.tag: cls
    for cls in (
        *(Fork, Create, Exec, Start, Kill, Pause, Resume, Checkpoint, Update, CloseIO, Pids, Metrics),
        *(Resize, Attach, Detach, Write, DeleteProcess, Delete, Hello, Shutdown),
    )
}
EVENTS: Mapping[str, type[Message]] = {
    cls.tag: cls for cls in (Created, ExecAdded, Started, StartFailed, Paused, Resumed, Checkpointed, Oom, Exited, Deleted)
}


def exec_of(message: Message) -> str:
    """The id of the exec that a request or event is about; "" for one about the task itself."""
    return str(getattr(message, "process", ""))


def request_frame(number: int, request: Message) -> dict[str, Any]:
    """The map of a request."""
    return {"q": number, "verb": request.tag, **request.to_map()}


def request_of(frame: Mapping[str, Any]) -> Message:
    """The request in a map; ``InvalidArgument`` for an unknown verb."""
    cls = REQUESTS.get(str(frame.get("verb")))
    if cls is None:
        raise InvalidArgument(f"unknown verb {shown(frame.get('verb'))}")
    return cls.from_map(frame)


def event_map(event: Message) -> dict[str, Any]:
    """The map of an event, as journals and frames carry it; what is None is left out."""
    return {"kind": event.tag, **{name: value for name, value in event.to_map().items() if value is not None}}


def event_of(values: Mapping[str, Any]) -> Message:
    """The event in a map; ``InvalidArgument`` for an unknown kind."""
    cls = EVENTS.get(str(values.get("kind")))
    if cls is None:
        raise InvalidArgument(f"unknown event {shown(values.get('kind'))}")
    return cls.from_map(values)
