"""The states of a task's init in its shim, and nothing else.

    new ─create─▶ creating ─created─▶ created ─start─▶ starting ─started─▶ running ─exited─▶ stopped ─delete─▶ deleting ─▶ deleted

An init that dies while it is created or being started is stopped, too. In-between states are states: a deed takes time.
"""

from __future__ import annotations

from shimproc.machine import State


class InitState(State):
    """Refuses everything; a state lists what it allows."""

    def create(self) -> type[InitState]:
        self.refuse("create")

    def created(self) -> type[InitState]:
        self.refuse("finish creating")

    def start(self) -> type[InitState]:
        self.refuse("start")

    def started(self) -> type[InitState]:
        self.refuse("finish starting")

    def unstarted(self) -> type[InitState]:
        self.refuse("fail to start")

    def kill(self) -> type[InitState]:
        self.refuse("kill")

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

    def undeleted(self) -> type[InitState]:
        return New


class Created(InitState):
    name = "created"

    def start(self) -> type[InitState]:
        return Starting

    def kill(self) -> type[InitState]:
        return Created

    def exited(self) -> type[InitState]:
        return Stopped

    def delete(self) -> type[InitState]:
        return Deleting


class Starting(InitState):
    name = "starting"

    def started(self) -> type[InitState]:
        return Running

    def unstarted(self) -> type[InitState]:
        return Created

    def kill(self) -> type[InitState]:
        return Starting


class Running(InitState):
    name = "running"

    def kill(self) -> type[InitState]:
        return Running

    def exited(self) -> type[InitState]:
        return Stopped

    def force_delete(self) -> type[InitState]:
        return Deleting


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


INIT_STATES = (New, Creating, Created, Starting, Running, Stopped, Deleting, Deleted)
REQUESTS = (
    "create", "created", "start", "started", "unstarted", "kill", "exited", "delete", "force_delete", "deleted", "undeleted",
)  # fmt: skip
