"""The states of an exec as the daemon knows it, and nothing else. What a state does not override, it refuses.

    created ─start─▶ starting ─started─▶ running ─exited─▶ stopped ─delete─▶ (gone)

Requests come from clients; ``started unstarted exited`` are the shim's events, once they are durable.
"""

from __future__ import annotations

from typing import ClassVar

from shimproc.machine import State


class ExecState(State):
    """What an exec may do now. ``status`` is what clients see."""

    noun = "exec"
    status: ClassVar[str]

    def start(self) -> type[ExecState]:
        self.refuse("start")

    def kill(self) -> type[ExecState]:
        self.refuse("kill")

    def close_io(self) -> type[ExecState]:
        self.refuse("close the stdin of")

    def attach(self) -> type[ExecState]:
        return type(self)

    def resize(self) -> type[ExecState]:
        self.refuse("resize the terminal of")

    def delete(self) -> type[ExecState]:
        self.refuse("delete")

    def started(self) -> type[ExecState]:
        self.refuse("finish starting")

    def unstarted(self) -> type[ExecState]:
        self.refuse("fail to start")

    def exited(self) -> type[ExecState]:
        self.refuse("end")


class Created(ExecState):
    name = status = "created"

    def start(self) -> type[ExecState]:
        return Starting

    def delete(self) -> type[ExecState]:
        return Created

    def started(self) -> type[ExecState]:
        return Running

    def exited(self) -> type[ExecState]:
        return Stopped


class Starting(ExecState):
    name = "starting"
    status = "created"

    def started(self) -> type[ExecState]:
        return Running

    def unstarted(self) -> type[ExecState]:
        return Created

    def exited(self) -> type[ExecState]:
        return Stopped


class Running(ExecState):
    name = status = "running"

    def resize(self) -> type[ExecState]:
        return Running

    def kill(self) -> type[ExecState]:
        return Running

    def close_io(self) -> type[ExecState]:
        return Running

    def exited(self) -> type[ExecState]:
        return Stopped


class Stopped(ExecState):
    name = status = "stopped"

    def attach(self) -> type[ExecState]:
        self.over()

    def resize(self) -> type[ExecState]:
        self.over()

    def kill(self) -> type[ExecState]:
        self.over()

    def close_io(self) -> type[ExecState]:
        self.over()

    def unstarted(self) -> type[ExecState]:
        return Stopped

    def delete(self) -> type[ExecState]:
        return Stopped


EXEC_STATES = (Created, Starting, Running, Stopped)
REQUESTS = ("start", "kill", "close_io", "attach", "resize", "delete", "started", "unstarted", "exited")
