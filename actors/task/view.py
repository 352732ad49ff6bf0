"""What is known of a task, and how clients see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.records import Exit, Process, RunResult, Runtime, RuntimeOptions, Stdio, Task
from actors.store.tasks import TaskRow
from shimproc.flow import Pending
from shimproc.messages import Exited


@dataclass(slots=True)
class Facts:
    """What the durable events have told so far. Only the task's own actor changes it."""

    pid: int = 0
    shim_pid: int = 0
    shim: str = "alive"
    started_at: int | None = None
    deleted: bool = False
    exited: Exited | None = None
    exit: Pending[Exit] = field(default_factory=Pending)

    @classmethod
    def of(cls, row: TaskRow) -> Facts:
        """What a former daemon knew; whether the shim lives is yet to be seen."""
        known = cls(row.pid, row.shim_pid, shim="unknown", started_at=row.started_at)
        if row.exited is not None:
            known.end(row.id, Exited(**row.exited))
        return known

    def end(self, task_id: str, event: Exited) -> None:
        """The process has ended."""
        self.exited = event
        self.exit.set(Exit(task_id, event.pid, event.status, event.at, event.reason))


def view(row: TaskRow, status: str, facts: Facts, execs: tuple[Process, ...] = ()) -> Task:
    """The Task record of API.md section 3."""
    exited = facts.exited
    return Task(
        id=row.id,
        namespace=row.namespace,
        status=status,
        pid=facts.pid,
        exit_status=exited.status if exited else None,
        exited_at=exited.at if exited else None,
        created_at=row.created_at,
        started_at=facts.started_at,
        stdio=Stdio(**row.stdio),
        bundle=row.bundle,
        runtime=Runtime(row.runtime["name"], RuntimeOptions(**row.runtime["options"])),
        shim_pid=facts.shim_pid,
        execs=execs,
        restarts=row.extra.get("restarts", 0),
        shim=facts.shim,
        health=row.extra.get("health"),
    )


def last_known(row: TaskRow) -> Task:
    """A task of a former daemon, until its shim has been heard."""
    return view(row, row.phase, Facts.of(row))


def run_result(task: Task, facts: Facts, *, captured: bool) -> RunResult:
    """What ``tasks.run`` with ``wait`` answers once the task has ended."""
    ended = facts.exit.result()
    if not captured or facts.exited is None:
        return RunResult(task, ended)
    exited = facts.exited
    return RunResult(task, ended, exited.stdout or b"", exited.stderr or b"", bool(exited.truncated))
