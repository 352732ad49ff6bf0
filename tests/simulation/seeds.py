"""One seed from its beginning to its verdict."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shimproc import flow
from tests.simulation.checks import Checks
from tests.simulation.clients import Client
from tests.simulation.habits import Habit, Shared, Solo
from tests.simulation.world import World

MOST_STEPS = 60_000
PATIENCE_NS = 120 * 10**9
FAULTS = (*("daemon", "shim", "forkserver") * 2, "stop", "term", "clock", "cut", "no forks")


@dataclass
class Verdict:
    """``wrong``: what must not be; empty is good."""

    seed: int
    wrong: list[str] = field(default_factory=list)
    steps: int = 0
    trace: list[str] = field(default_factory=list)
    points: set[str] = field(default_factory=set)


class Complaints(logging.Handler):
    """A fault that the product has logged with its traceback is one."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.DEBUG)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        if not self.world.kernel.current.alive:  # what is cut off says nothing any more
            return
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            trace = logging.Formatter().formatException(record.exc_info)
            self.world.complain(f"logged: {record.getMessage()}: {type(error).__name__}: {error}\n{trace}")
        elif self.world.kernel.trace is not None:
            self.world.kernel.say(f"{self.world.kernel.current} LOG {record.getMessage()}".replace(str(self.world.folder), ""))


def run(seed: int, *, traced: bool = False) -> Verdict:
    """Within ``on_stage``."""
    folder = Path(f"/dev/shm/shimyard-simulation-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    world = World(seed, folder)
    kernel = world.kernel
    kernel.trace = [] if traced else None
    handler = Complaints(world)
    root = logging.getLogger()
    root.addHandler(handler)
    verdict = Verdict(seed)
    try:
        _play(world, verdict)
    finally:
        root.removeHandler(handler)
        verdict.steps, verdict.points = kernel.steps, world.points
        verdict.trace = kernel.trace or []
        world.close()
    return verdict


def _play(world: World, verdict: Verdict) -> None:
    kernel, draw = world.kernel, world.random
    world.start_daemon()
    process = kernel.spawn("clients", "clients", kernel.init)
    habits = _habits(world, process)
    with kernel.running(process):
        for habit in habits:
            habit.client.loop.call_soon(partial(_begin, habit))
    faults = draw.choice((0, 1, 2, 3, 5, 8))
    span = draw.choice((200, 500, 1500))
    due = sorted(draw.randrange(20, span) for _ in range(faults))
    quiet_since = kernel.now
    while not all(habit.done for habit in habits):
        if due and kernel.steps >= due[0]:
            due.pop(0)
            world.fault(draw.choice(FAULTS))
            if draw.random() < 0.2:
                world.fault(draw.choice(FAULTS))
            quiet_since = kernel.now
        if not kernel.step() or kernel.steps > MOST_STEPS or (kernel.now - quiet_since > PATIENCE_NS and not due):
            verdict.wrong += [f"stuck: {stuck}" for stuck in _stuck(habits)] or ["stuck"]
            verdict.wrong += world.complaints
            return
        if world.complaints:
            verdict.wrong += world.complaints
            return
    _calm(world, verdict, process)


def _begin(habit: Habit) -> None:
    flow.spawn(habit.run(), habit.name)


def _habits(world: World, process: Any) -> list[Habit]:
    draw = world.random
    found: list[Habit] = []
    for number in range(draw.choice((1, 2, 3))):
        client = Client(process, len(world.clients))
        found.append(Solo(client, draw.choice(("n1", "n2")), f"solo{number}"))
    if draw.random() < 0.5:
        found += [Shared(Client(process, len(world.clients)), "n1", "shared") for _ in range(draw.choice((2, 3)))]
    return found


def _stuck(habits: list[Habit]) -> list[str]:
    found = []
    for habit in habits:
        if not habit.done:
            waiting = habit.client.asked.values()
            asked = [f"{ask.body['method']} {ask.body.get('key', '')} sent={ask.sent_to is not None}" for ask in waiting]
            found.append(f"{habit.name}: {asked}")
    return found


def _calm(world: World, verdict: Verdict, process: Any) -> None:
    """No more faults; what is there is removed, and then nothing may be left."""
    kernel = world.kernel
    for one in list(kernel.processes.values()):
        one.doom = None
        kernel.go_on(one)
    sweeper = Sweeper(Client(process, len(world.clients)), "n1", "shared")
    with kernel.running(process):
        flow.spawn(sweeper.run(), "sweeper")
    began = kernel.now
    settled = 0
    while not sweeper.done or kernel.now < settled:
        if not kernel.step() or kernel.steps > 2 * MOST_STEPS or kernel.now - began > 2 * PATIENCE_NS or world.complaints:
            verdict.wrong += [f"stuck: {stuck}" for stuck in _stuck([sweeper])] + world.complaints
            return
        if sweeper.done and not settled:
            settled = kernel.now + 16 * 10**9
    verdict.wrong += world.complaints + Checks(world).run()


class Sweeper(Habit):
    """Removes what the others have left."""

    async def run(self) -> None:
        """Until nothing is there."""
        for _ in range(40):
            left = 0
            for namespace in ("n1", "n2"):
                left += await self._sweep(namespace)
            if not left:
                self.done = True
                return
            await self.client.pause(1.0)
        self.wrong("sweep", {"error": "there is always something left"})
        self.done = True

    async def _sweep(self, namespace: str) -> int:
        tasks = await self.client.ask("tasks.list", {}, namespace)
        containers = await self.client.ask("containers.list", {}, namespace)
        if not tasks["ok"] or not containers["ok"]:
            return 1
        for task in tasks["result"]["tasks"]:
            await self.client.ask("tasks.delete", {"id": task["id"], "force": True}, namespace)
        for container in containers["result"]["containers"]:
            await self.client.ask("containers.delete", {"id": container["id"]}, namespace)
        return len(tasks["result"]["tasks"]) + len(containers["result"]["containers"])
