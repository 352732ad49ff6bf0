"""``Client``: the API for ordinary code.

A call blocks its thread until the answer is there. Each thread has a connection of its own, made when it first asks.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import zmq

from actors import locations
from actors.client import calls
from actors.client.attach import Attached
from actors.client.attaching import Attaching
from actors.client.calls import Wanted
from actors.client.connection import Connection
from actors.client.cursors import Cursor, EventCursor, LogCursor
from actors.client.execs import Chosen, ExecOptions, Execution, process_of
from actors.client.line import PATIENCE, Curve
from actors.client.rooms import Room
from actors.client.runs import CompletedTask, Input, Options, RunOptions, completed, params_of, runtime_of
from actors.client.shared import SharedConnection
from actors.records import Envelope, Exit, LogChunk
from shimproc.errors import AlreadyExists, DeadlineExceeded, FailedPrecondition, NotFound, ShimyardError

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
C = TypeVar("C", Connection, SharedConnection)
_GIVE_UP_SECONDS = 5.0


def _blocking(make: Callable[P, Wanted[T]]) -> Callable[Concatenate[Room[Client], P], T]:
    """The call that ``make`` describes, done."""

    def method(room: Room[Client], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return room.client.perform(make(*args, **kwargs))

    functools.update_wrapper(method, make)
    return method


class NamespaceRoom(Room["Client"]):
    """``client.namespaces``."""

    create = _blocking(calls.Namespaces.create)
    update = _blocking(calls.Namespaces.update)
    list = _blocking(calls.Namespaces.list)
    delete = _blocking(calls.Namespaces.delete)


class ContainerRoom(Room["Client"]):
    """``client.containers``."""

    create = _blocking(calls.Containers.create)
    get = _blocking(calls.Containers.get)
    list = _blocking(calls.Containers.list)
    update = _blocking(calls.Containers.update)
    delete = _blocking(calls.Containers.delete)


class TaskRoom(Room["Client"]):
    """``client.tasks``."""

    create = _blocking(calls.Tasks.create)
    start = _blocking(calls.Tasks.start)
    run = _blocking(calls.Tasks.run)
    get = _blocking(calls.Tasks.get)
    list = _blocking(calls.Tasks.list)
    wait = _blocking(calls.Tasks.wait)
    kill = _blocking(calls.Tasks.kill)
    stop = _blocking(calls.Tasks.stop)
    delete = _blocking(calls.Tasks.delete)
    exec = _blocking(calls.Tasks.exec)
    delete_process = _blocking(calls.Tasks.delete_process)
    resize = _blocking(calls.Tasks.resize)
    close_io = _blocking(calls.Tasks.close_io)
    pids = _blocking(calls.Tasks.pids)
    pause = _blocking(calls.Tasks.pause)
    resume = _blocking(calls.Tasks.resume)
    checkpoint = _blocking(calls.Tasks.checkpoint)
    update = _blocking(calls.Tasks.update)
    metrics = _blocking(calls.Tasks.metrics)
    shim = _blocking(calls.Tasks.shim)

    def logs(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        exec_id: str | None = None,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> Iterator[LogChunk]:
        """What it has written to its managed log; with ``follow`` until it ends. ``since``: ns since the epoch."""
        return self.client.stream(LogCursor(calls.log_params(id, exec_id, follow, tail, since)))

    def attach(
        self,
        id: str,  # noqa: A002 - the wire's name
        *,
        exec_id: str | None = None,
        stdin: bool = False,
        reattach: bool = False,
        kill_on_disconnect: bool = False,
    ) -> Attached:
        """Its streams, from now on, of a process that may be about to start; use it in a ``with``, or ``close`` it.

        Parameters
        ----------
        stdin : it may be written to.
        reattach : after a lost connection it goes on, without what was written meanwhile; else ``AttachmentLost``.
        kill_on_disconnect : the process is killed if this client goes without a ``close``.
        """
        return self.client.attach(Attaching(id, exec_id, stdin=stdin, reattach=reattach, kills=kill_on_disconnect))


class EventRoom(Room["Client"]):
    """``client.events``; called, it is the stream itself."""

    publish = _blocking(calls.Events.publish)
    replay = _blocking(calls.Events.replay)

    def __call__(self, since: int | None = None, filters: Sequence[str] | None = None) -> Iterator[Envelope]:
        """Every event after ``since`` (default: from this call on), once, in order, and without a hole; it has no end.

        A daemon that is killed and started again is waited for, as long as the client's patience lasts. Raises
        ``EventsLost`` if events after ``since`` are no longer kept. An event's ``seq`` is where to resume.
        """
        if since is None:
            since = int(self.client.health()["events"]["last_seq"])
        return self.client.stream(EventCursor(since, filters))

    stream = __call__


class Client:
    """A client of one daemon. Use it in a ``with``, or ``close`` it; threads may share it.

    Parameters
    ----------
    address : of the API socket; default: that of the daemon on this host (``SHIMYARD_STATE``).
    namespace : where its methods look and work.
    timeout : seconds for each call, then ``DeadlineExceeded``; None waits as long as it takes.
    patience : seconds that a daemon may be away, before ``Unavailable``. A request cut off is sent again with its key.
    curve : keys, for a ``tcp://`` address.

    Raises ``shimproc.errors.ShimyardError``, one class a code of the API.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        namespace: str = "default",
        timeout: float | None = None,
        patience: float = PATIENCE,
        curve: Curve | None = None,
    ) -> None:
        self._address = address or locations.api_address(locations.state_dir().absolute())
        self._namespace = namespace
        self._timeout = timeout
        self._patience = patience
        self._curve = curve
        self._threads = threading.local()
        self._context: zmq.Context[Any] | None = None
        self._connections: weakref.WeakSet[Connection | SharedConnection] = weakref.WeakSet()
        self._making = threading.Lock()
        self.namespaces = NamespaceRoom(self)
        self.containers = ContainerRoom(self)
        self.tasks = TaskRoom(self)
        self.events = EventRoom(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections; what is asked afterwards opens new ones."""
        with self._making:
            context, self._context = self._context, None
            for connection in list(self._connections):
                connection.close()
            self._threads = threading.local()
        if context is not None:
            context.term()

    def version(self) -> Mapping[str, Any]:
        """What the daemon is, and which runtimes it can use."""
        return self.perform(calls.version())

    def health(self) -> Mapping[str, Any]:
        """How the daemon is."""
        return self.perform(calls.health())

    def run(
        self,
        args: Sequence[str],
        **options: Unpack[RunOptions],
    ) -> CompletedTask:
        """Run a command in a container of its own and wait for its end, as ``subprocess.run`` does for a process.

        Parameters
        ----------
        args : the command's words.
        options : ``input`` for its stdin; ``check`` to raise ``TaskFailed``; ``timeout`` in seconds, after
            which it is stopped and ``TaskTimeout`` raised; ``env`` on top of the usual; ``cwd``; ``name`` (default: a
            made-up one); ``runtime``; ``spec`` and ``rootfs`` (default: a private overlay over the host's files);
            ``labels``; ``capture``, the bytes kept of each stream.

        Leaves nothing behind: neither task nor container, also when this thread is interrupted.
        """
        chosen = Options(**options)
        runtime = runtime_of(chosen, self._default_runtime if chosen.runtime is None else "")
        with Input(chosen.input) as stdin:
            params = params_of(args, chosen, runtime, stdin)
            try:
                answer = self.tasks.run(**params)
            except (KeyboardInterrupt, SystemExit):
                with contextlib.suppress(ShimyardError), Client.like(self, _GIVE_UP_SECONDS) as other:
                    other.tasks.delete(params["id"], force=True)
                raise
        return completed(args, chosen, answer)

    def exec(
        self,
        id: str,  # noqa: A002 - the wire's name
        args: Sequence[str],
        **options: Unpack[ExecOptions],
    ) -> CompletedTask:
        """Run a command inside a running task and wait for its end, as ``subprocess.run`` does for a process.

        Parameters
        ----------
        id : the task's.
        args : the command's words.
        options : ``input`` for its stdin; ``check`` to raise ``TaskFailed``; ``timeout`` in seconds, after which it is
            killed and ``TaskTimeout`` raised; ``env`` on top of the container's; ``cwd`` and ``user`` (``USER[:GROUP]``, a
            uid, or an OCI user) in place of the container's; ``privileged``: with every capability; ``name``, its exec id;
            ``capture``, the bytes kept of each stream.

        The exec is removed whatever happens, also when this thread is interrupted.
        """
        chosen = Chosen(**options)
        with Input(chosen.input) as stdin:
            process = process_of(self.containers.get(id).spec, args, chosen, self.tasks.get(id))
            run = Execution(id, process, chosen, stdin)
            try:
                ended = self._execute(run, chosen.timeout)
                self.perform(run.remove())
            except AlreadyExists:  # another's
                raise
            except BaseException:
                with contextlib.suppress(ShimyardError), Client.like(self, _GIVE_UP_SECONDS) as other:
                    _discard(other, run)
                raise
        return run.completed(ended)

    def _execute(self, run: Execution, timeout: float | None) -> Exit:
        self.perform(run.add())
        self.perform(run.start())
        try:
            for piece in self.stream(run.cursor, None if timeout is None else time.monotonic() + timeout):
                run.take(piece)
        except DeadlineExceeded:
            run.is_late = True
            with contextlib.suppress(NotFound):
                self.perform(run.kill())
            for piece in self.stream(run.cursor):
                run.take(piece)
        return self.perform(run.wait())

    @classmethod
    def like(cls, client: Client, timeout: float | None) -> Client:
        """Another one to the same daemon and namespace."""
        return cls(
            client._address,
            namespace=client._namespace,
            timeout=timeout,
            patience=client._patience,
            curve=client._curve,
        )

    @functools.cached_property
    def _default_runtime(self) -> str:
        return str(self.version()["default_runtime"])

    def perform(self, wanted: Wanted[T]) -> T:
        """Ask, and read the answer."""
        return wanted.read(self._connection().ask(wanted.method, self._namespace, wanted.params, self._timeout))

    def perform_all(self, wanted: Sequence[Wanted[T]]) -> list[T | ShimyardError]:
        """Ask many things at once, and read the answers, in order; what was refused is its error."""
        asked = [(one.method, one.params) for one in wanted]
        done = self._connection().ask_all(asked, self._namespace, self._timeout)
        return [request.error or one.read(request.result) for one, request in zip(wanted, done, strict=True)]

    def stream(self, cursor: Cursor[S], deadline: float | None = None) -> Iterator[S]:
        """What a streaming method sends, from the cursor's place on. ``deadline``: of ``time.monotonic``."""
        return self._connection().stream(self._namespace, cursor, deadline)

    def attach(self, attaching: Attaching) -> Attached:
        """See ``client.tasks.attach``. It has a connection of its own."""
        return Attached(attaching, self._namespace, lambda: self._connected(SharedConnection), self.perform)

    def _connection(self) -> Connection:
        found: Connection | None = getattr(self._threads, "connection", None)
        if found is None:
            found = self._threads.connection = self._connected(Connection)
        return found

    def _connected(self, kind: Callable[[zmq.Context[Any], str, float, Curve | None], C]) -> C:
        with self._making:
            if self._context is None:
                self._context = zmq.Context()
            made = kind(self._context, self._address, self._patience, self._curve)
            self._connections.add(made)
        return made


def _discard(client: Client, run: Execution) -> None:
    """Whatever state it is in."""
    try:
        client.perform(run.remove())
    except FailedPrecondition:  # it runs
        with contextlib.suppress(NotFound):
            client.perform(run.kill())
        client.perform(run.wait())
        client.perform(run.remove())
