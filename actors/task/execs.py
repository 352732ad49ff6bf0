"""The execs of a task as the daemon knows them: what the durable events of the shim have told, and who waits for their ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.records import Exit, Process, Stdio
from actors.task.events import START_FAILED
from actors.task.exec_states import Created, ExecState, Running, Starting
from shimproc.errors import NotFound
from shimproc.flow import Pending
from shimproc.messages import Deleted, ExecAdded, Exited, Message, Started, StartFailed


@dataclass(slots=True)
class Exec:
    """One."""

    id: str
    stdio: Stdio
    program: str
    state: ExecState = field(default_factory=Created)
    pid: int = 0
    exit: Pending[Exit] = field(default_factory=Pending)

    def view(self, task_id: str) -> Process:
        """The Process record of API.md section 3."""
        ended = self.exit.result() if self.exit.done else None
        return Process(
            id=self.id,
            task_id=task_id,
            status=self.state.status,
            pid=self.pid,
            exit_status=ended.exit_status if ended else None,
            exited_at=ended.exited_at if ended else None,
            stdio=self.stdio,
        )

    def apply(self, event: Message) -> None:
        """A durable event moves the state."""
        match event:
            case Started():
                self.state, self.pid = self.state.started()(), event.pid
            case Exited():
                self._end(Exit(self.id, event.pid, event.status, event.at, event.reason))
            case StartFailed():
                self._end(Exit(self.id, event.pid, event.status, event.at, START_FAILED))

    def _end(self, ended: Exit) -> None:
        self.state = self.state.exited()()
        self.pid = ended.pid
        self.exit.set(ended)


class Execs:
    """Of one task."""

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id
        self._execs: dict[str, Exec] = {}

    def find(self, exec_id: str) -> Exec | None:
        """One, or None."""
        return self._execs.get(exec_id)

    def has(self, exec_id: str) -> bool:
        """Is there one of this id?"""
        return exec_id in self._execs

    def get(self, exec_id: str) -> Exec:
        """One; ``NotFound``."""
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"the task {self._task_id} has no exec {exec_id}")
        return found

    def apply(self, exec_id: str, event: Message) -> None:
        """What a durable event says of an exec."""
        if isinstance(event, ExecAdded):
            self._execs[exec_id] = Exec(exec_id, Stdio(**event.stdio), event.program)
        elif isinstance(event, Deleted):
            self._forget(exec_id)
        elif exec_id in self._execs:
            self._execs[exec_id].apply(event)

    def record(self, event: Deleted) -> Exit:
        """How an exec that is being deleted has ended."""
        one = self.find(event.process)
        reason = one.exit.result().reason if one is not None and one.exit.done else None
        return Exit(event.process, event.pid, event.status, event.exited_at, reason)

    def running(self, prefix: str) -> list[Exec]:
        """Those that run, or are being started, whose ids begin so."""
        return [one for name, one in self._execs.items() if name.startswith(prefix) and isinstance(one.state, Starting | Running)]

    def views(self) -> tuple[Process, ...]:
        """All, in the order of their being added."""
        return tuple(one.view(self._task_id) for one in self._execs.values())

    def end_waits(self) -> None:
        """The task is gone: nobody hears of an exec any more."""
        for exec_id in list(self._execs):
            self._forget(exec_id)

    def _forget(self, exec_id: str) -> None:
        gone = self._execs.pop(exec_id, None)
        if gone is not None and not gone.exit.done:
            gone.exit.fail(NotFound(f"the exec {exec_id} was deleted before it had been started"))
