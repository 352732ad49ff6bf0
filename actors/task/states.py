"""The states of a task as the daemon knows it, and nothing else. What a state does not override, it refuses.

    creating ─created─▶ created ─start─▶ starting ─started─▶ running ─exited─▶ stopped ─delete─▶ deleting
                           ▲────unstarted────┘                  running ─pause─▶ pausing ─paused─▶ paused ─resumed─▶ running
    running ─checkpoint─▶ checkpointing ─checkpointed─▶ running      paused ─checkpoint─▶ checkpointing_paused ─▶ paused

Requests come from clients; ``created started unstarted paused resumed checkpointed exited`` are the shim's events, once they are
durable. What a checkpoint has stopped for a while is running, or paused, to clients.
"""

from __future__ import annotations

from typing import ClassVar

from shimproc.machine import State


class TaskState(State):
    """What a task may do now. ``status`` is what clients see."""

    status: ClassVar[str]

    def start(self) -> type[TaskState]:
        self.refuse("start")

    def kill(self) -> type[TaskState]:
        self.refuse("kill")

    def close_io(self) -> type[TaskState]:
        self.refuse("close the stdin of")

    def attach(self) -> type[TaskState]:
        self.refuse("attach to")

    def resize(self) -> type[TaskState]:
        self.refuse("resize the terminal of")

    def pids(self) -> type[TaskState]:
        self.refuse("list the processes of")

    def metrics(self) -> type[TaskState]:
        self.refuse("read the metrics of")

    def exec(self) -> type[TaskState]:
        self.refuse("exec in")

    def pause(self) -> type[TaskState]:
        self.refuse("pause")

    def resume(self) -> type[TaskState]:
        self.refuse("resume")

    def checkpoint(self) -> type[TaskState]:
        self.refuse("checkpoint")

    def update(self) -> type[TaskState]:
        self.refuse("update the limits of")

    def delete(self) -> type[TaskState]:
        self.refuse("delete")

    def force_delete(self) -> type[TaskState]:
        return self.delete()

    def created(self) -> type[TaskState]:
        self.refuse("finish creating")

    def started(self) -> type[TaskState]:
        self.refuse("finish starting")

    def unstarted(self) -> type[TaskState]:
        self.refuse("fail to start")

    def paused(self) -> type[TaskState]:
        self.refuse("finish pausing")

    def unpaused(self) -> type[TaskState]:
        self.refuse("fail to pause")

    def resumed(self) -> type[TaskState]:
        self.refuse("finish resuming")

    def checkpointed(self) -> type[TaskState]:
        self.refuse("finish checkpointing")

    def uncheckpointed(self) -> type[TaskState]:
        self.refuse("fail to checkpoint")

    def exited(self) -> type[TaskState]:
        self.refuse("end")


class Creating(TaskState):
    name = status = "creating"

    def created(self) -> type[TaskState]:
        return Created


class Alive(TaskState):
    """What every state has in common in which init exists."""

    def kill(self) -> type[TaskState]:
        return type(self)

    def close_io(self) -> type[TaskState]:
        return type(self)

    def attach(self) -> type[TaskState]:
        return type(self)

    def resize(self) -> type[TaskState]:
        return type(self)

    def pids(self) -> type[TaskState]:
        return type(self)

    def metrics(self) -> type[TaskState]:
        return type(self)

    def delete(self) -> type[TaskState]:
        self.refuse("delete", "stop it first, or delete it with force")

    def update(self) -> type[TaskState]:
        return type(self)

    def force_delete(self) -> type[TaskState]:
        return Deleting

    def exited(self) -> type[TaskState]:
        return Stopped


class Created(Alive):
    name = status = "created"

    def start(self) -> type[TaskState]:
        return Starting

    def started(self) -> type[TaskState]:
        return Running

    def exec(self) -> type[TaskState]:
        return Created

    def delete(self) -> type[TaskState]:
        return Deleting


class Starting(Alive):
    name = "starting"
    status = "created"

    def started(self) -> type[TaskState]:
        return Running

    def unstarted(self) -> type[TaskState]:
        return Created


class Running(Alive):
    name = status = "running"

    def exec(self) -> type[TaskState]:
        return Running

    def pause(self) -> type[TaskState]:
        return Pausing

    def checkpoint(self) -> type[TaskState]:
        return Checkpointing

    def checkpointed(self) -> type[TaskState]:
        return Running

    def uncheckpointed(self) -> type[TaskState]:
        return Running

    def paused(self) -> type[TaskState]:
        return Paused

    def unpaused(self) -> type[TaskState]:
        return Running

    def resumed(self) -> type[TaskState]:
        return Running


class Pausing(Alive):
    name = status = "pausing"

    def paused(self) -> type[TaskState]:
        return Paused

    def unpaused(self) -> type[TaskState]:
        return Running


class Paused(Alive):
    name = status = "paused"

    def resume(self) -> type[TaskState]:
        return Paused

    def unpaused(self) -> type[TaskState]:
        return Paused

    def resumed(self) -> type[TaskState]:
        return Running


    def checkpoint(self) -> type[TaskState]:
        return CheckpointingPaused

    def checkpointed(self) -> type[TaskState]:
        return Paused

    def uncheckpointed(self) -> type[TaskState]:
        return Paused


class Checkpointing(Alive):
    """Stopped for now, by CRIU: what would change it meanwhile waits, but for what ends it."""

    name = "checkpointing"
    status = "running"

    def update(self) -> type[TaskState]:
        self.refuse("update the limits of")

    def checkpointed(self) -> type[TaskState]:
        return Running

    def uncheckpointed(self) -> type[TaskState]:
        return Running


class CheckpointingPaused(Checkpointing):
    name = "checkpointing_paused"
    status = "paused"

    def checkpointed(self) -> type[TaskState]:
        return Paused

    def uncheckpointed(self) -> type[TaskState]:
        return Paused


class Stopped(TaskState):
    name = status = "stopped"

    def kill(self) -> type[TaskState]:
        self.over()

    def attach(self) -> type[TaskState]:
        self.over()

    def resize(self) -> type[TaskState]:
        self.over()

    def pids(self) -> type[TaskState]:
        self.over()

    def close_io(self) -> type[TaskState]:
        self.over()

    def delete(self) -> type[TaskState]:
        return Deleting

    def unstarted(self) -> type[TaskState]:
        return Stopped

    def unpaused(self) -> type[TaskState]:
        return Stopped

    def uncheckpointed(self) -> type[TaskState]:
        return Stopped


class Deleting(TaskState):
    name = status = "deleting"

    def kill(self) -> type[TaskState]:
        return Deleting

    def exited(self) -> type[TaskState]:
        return Deleting

    def started(self) -> type[TaskState]:
        return Deleting

    def unstarted(self) -> type[TaskState]:
        return Deleting

    def paused(self) -> type[TaskState]:
        return Deleting

    def unpaused(self) -> type[TaskState]:
        return Deleting

    def resumed(self) -> type[TaskState]:
        return Deleting

    def checkpointed(self) -> type[TaskState]:
        return Deleting

    def uncheckpointed(self) -> type[TaskState]:
        return Deleting


TASK_STATES = (
    Creating, Created, Starting, Running, Pausing, Paused, Checkpointing, CheckpointingPaused, Stopped, Deleting,
)  # fmt: skip
REQUESTS = (
    "start", "kill", "close_io", "attach", "resize",
    "pids", "metrics", "exec", "pause", "resume", "checkpoint", "update", "delete", "force_delete", "created", "started",
    "unstarted", "paused", "unpaused", "resumed", "checkpointed", "uncheckpointed", "exited",
)  # fmt: skip
