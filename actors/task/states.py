"""The states of a task as the daemon knows it, and nothing else. What a state does not override, it refuses.

    creating ─created─▶ created ─start─▶ starting ─started─▶ running ─exited─▶ stopped ─delete─▶ deleting
                           ▲────unstarted────┘

Requests come from clients; ``created started unstarted failed exited`` are the shim's events, once they are durable.
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

    def pids(self) -> type[TaskState]:
        self.refuse("list the processes of")

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

    def pids(self) -> type[TaskState]:
        return type(self)

    def delete(self) -> type[TaskState]:
        self.refuse("delete", "stop it first, or delete it with force")

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


class Stopped(TaskState):
    name = status = "stopped"

    def kill(self) -> type[TaskState]:
        self.over()

    def pids(self) -> type[TaskState]:
        self.over()

    def close_io(self) -> type[TaskState]:
        self.over()

    def delete(self) -> type[TaskState]:
        return Deleting

    def unstarted(self) -> type[TaskState]:
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


TASK_STATES = (Creating, Created, Starting, Running, Stopped, Deleting)
REQUESTS = (
    "start", "kill", "close_io", "pids", "delete", "force_delete", "created", "started", "unstarted", "exited",
)  # fmt: skip
