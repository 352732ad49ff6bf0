"""The states of a task's processes in its shim, and nothing else.

    init: new ─create─▶ creating ─created─▶ created ─start─▶ starting ─started─▶ running ─exited─▶ stopped
          stopped ─delete─▶ deleting ─deleted─▶ deleted
          new ─create─▶ creating ─prepared─▶ prepared ─start─▶ restoring ─started─▶ running      (from a checkpoint)
    exec: added ─start─▶ starting ─started─▶ running ─exited─▶ stopped ─delete─▶ deleted

A running init may be pausing and paused, and checkpointed in either. One that dies while it is created, being started,
paused or checkpointed is stopped, too. What is prepared has no process before its start.
In-between states are states: a deed takes time.
"""

from __future__ import annotations

from shimproc.machine import State


class InitState(State):
    """Refuses everything; a state lists what it allows."""

    def create(self) -> type[InitState]:
        self.refuse("create")

    def created(self) -> type[InitState]:
        self.refuse("finish creating")

    def prepared(self) -> type[InitState]:
        self.refuse("finish preparing")

    def start(self) -> type[InitState]:
        self.refuse("start")

    def started(self) -> type[InitState]:
        self.refuse("finish starting")

    def unstarted(self) -> type[InitState]:
        self.refuse("fail to start")

    def kill(self) -> type[InitState]:
        self.refuse("kill")

    def add(self) -> type[InitState]:
        self.refuse("exec in")

    def start_exec(self) -> type[InitState]:
        self.refuse("start an exec in")

    def pause(self) -> type[InitState]:
        self.refuse("pause")

    def paused(self) -> type[InitState]:
        self.refuse("finish pausing")

    def unpaused(self) -> type[InitState]:
        self.refuse("fail to pause")

    def resume(self) -> type[InitState]:
        self.refuse("resume")

    def resumed(self) -> type[InitState]:
        self.refuse("finish resuming")

    def checkpoint(self) -> type[InitState]:
        self.refuse("checkpoint")

    def checkpointed(self) -> type[InitState]:
        self.refuse("finish checkpointing")

    def update(self) -> type[InitState]:
        self.refuse("update")

    def exited(self) -> type[InitState]:
        self.refuse("end")

    def delete(self) -> type[InitState]:
        self.refuse("delete")

    def force_delete(self) -> type[InitState]:
        return self.delete()

    def deleted(self) -> type[InitState]:
        self.refuse("finish deleting")

    def undeleted(self) -> type[InitState]:
        self.refuse("fail to delete")


class New(InitState):
    name = "new"

    def create(self) -> type[InitState]:
        return Creating

    def delete(self) -> type[InitState]:
        return Deleting


class Creating(InitState):
    name = "creating"

    def created(self) -> type[InitState]:
        return Created

    def prepared(self) -> type[InitState]:
        return Prepared

    def undeleted(self) -> type[InitState]:
        return New


class Prepared(InitState):
    name = "prepared"

    def start(self) -> type[InitState]:
        return Restoring

    def kill(self) -> type[InitState]:
        self.refuse("kill", "its process comes with the start, from the checkpoint; delete it")

    def delete(self) -> type[InitState]:
        return Deleting


class Restoring(InitState):
    name = "restoring"

    def started(self) -> type[InitState]:
        return Running

    def unstarted(self) -> type[InitState]:
        return Prepared


class Made(InitState):
    """What every state has in common in which init exists."""

    def kill(self) -> type[InitState]:
        return type(self)

    def update(self) -> type[InitState]:
        return type(self)


class Created(Made):
    name = "created"

    def start(self) -> type[InitState]:
        return Starting

    def add(self) -> type[InitState]:
        return Created

    def start_exec(self) -> type[InitState]:
        return Created

    def exited(self) -> type[InitState]:
        return Stopped

    def delete(self) -> type[InitState]:
        return Deleting


class Starting(Made):
    name = "starting"

    def started(self) -> type[InitState]:
        return Running

    def unstarted(self) -> type[InitState]:
        return Created


class Running(Made):
    name = "running"

    def add(self) -> type[InitState]:
        return Running

    def start_exec(self) -> type[InitState]:
        return Running

    def pause(self) -> type[InitState]:
        return Pausing

    def checkpoint(self) -> type[InitState]:
        return Checkpointing

    def exited(self) -> type[InitState]:
        return Stopped

    def force_delete(self) -> type[InitState]:
        return Deleting


class Pausing(Made):
    name = "pausing"

    def paused(self) -> type[InitState]:
        return Paused

    def unpaused(self) -> type[InitState]:
        return Running

    def exited(self) -> type[InitState]:
        return Stopped

    def force_delete(self) -> type[InitState]:
        return Deleting


class Paused(Made):
    name = "paused"

    def resume(self) -> type[InitState]:
        return Paused

    def resumed(self) -> type[InitState]:
        return Running

    def checkpoint(self) -> type[InitState]:
        return CheckpointingPaused

    def exited(self) -> type[InitState]:
        return Stopped

    def force_delete(self) -> type[InitState]:
        return Deleting


class Checkpointing(Made):
    """CRIU has stopped it for now. Also where it returns to, done or failed."""

    name = "checkpointing"

    def checkpointed(self) -> type[InitState]:
        return Running

    def update(self) -> type[InitState]:
        self.refuse("update")

    def force_delete(self) -> type[InitState]:
        return Deleting


class CheckpointingPaused(Checkpointing):
    name = "checkpointing_paused"

    def checkpointed(self) -> type[InitState]:
        return Paused


class Stopped(InitState):
    name = "stopped"

    def kill(self) -> type[InitState]:
        self.over()

    def delete(self) -> type[InitState]:
        return Deleting


class Deleting(InitState):
    name = "deleting"

    def kill(self) -> type[InitState]:
        return Deleting

    def exited(self) -> type[InitState]:
        return Deleting

    def deleted(self) -> type[InitState]:
        return Deleted

    def undeleted(self) -> type[InitState]:
        return Stopped


class Deleted(InitState):
    name = "deleted"

    def kill(self) -> type[InitState]:
        self.over()

    def delete(self) -> type[InitState]:
        return Deleted


INIT_STATES = (
    New, Creating, Created, Prepared, Restoring, Starting, Running, Pausing, Paused, Checkpointing, CheckpointingPaused,
    Stopped, Deleting, Deleted,
)  # fmt: skip
REQUESTS = (
    "create", "created", "prepared", "start", "started", "unstarted", "kill", "add", "start_exec", "pause", "paused",
    "unpaused", "resume", "resumed", "checkpoint", "checkpointed", "update", "exited", "delete", "force_delete", "deleted",
    "undeleted",
)  # fmt: skip


class ExecState(State):
    """Refuses everything; a state lists what it allows."""

    noun = "exec"

    def start(self) -> type[ExecState]:
        self.refuse("start")

    def started(self) -> type[ExecState]:
        self.refuse("finish starting")

    def unstarted(self) -> type[ExecState]:
        self.refuse("fail to start")

    def kill(self) -> type[ExecState]:
        self.refuse("kill")

    def exited(self) -> type[ExecState]:
        self.refuse("end")

    def delete(self) -> type[ExecState]:
        self.refuse("delete")


class ExecAdded(ExecState):
    name = "added"

    def start(self) -> type[ExecState]:
        return ExecStarting

    def delete(self) -> type[ExecState]:
        return ExecDeleted


class ExecStarting(ExecState):
    name = "starting"

    def started(self) -> type[ExecState]:
        return ExecRunning

    def unstarted(self) -> type[ExecState]:
        return ExecAdded

    def exited(self) -> type[ExecState]:
        return ExecStopped


class ExecRunning(ExecState):
    name = "running"

    def kill(self) -> type[ExecState]:
        return ExecRunning

    def exited(self) -> type[ExecState]:
        return ExecStopped


class ExecStopped(ExecState):
    name = "stopped"

    def kill(self) -> type[ExecState]:
        self.over()

    def delete(self) -> type[ExecState]:
        return ExecDeleted


class ExecDeleted(ExecState):
    name = "deleted"

    def kill(self) -> type[ExecState]:
        self.over()

    def delete(self) -> type[ExecState]:
        return ExecDeleted


EXEC_STATES = (ExecAdded, ExecStarting, ExecRunning, ExecStopped, ExecDeleted)
EXEC_REQUESTS = ("start", "started", "unstarted", "kill", "exited", "delete")
