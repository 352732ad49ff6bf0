"""What clients do: one that has a task for itself and knows what every answer must be, and one that shares it with others."""

from __future__ import annotations

from typing import Any

from actors.methods import METHODS
from tests.simulation.clients import LOST, Client
from tests.simulation.stage import STAGE

AGAIN = ("unavailable", "lost", "deadline_exceeded", "resource_exhausted")
"""Codes after which one asks again."""


MEDDLING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tasks.pause", {}), ("tasks.resume", {}), ("tasks.get", {}), ("tasks.pids", {}), ("tasks.list", {}),
    ("tasks.kill", {"signal": "SIGTERM"}), ("tasks.kill", {"signal": "SIGUSR1", "all": True}),
    ("tasks.update", {"resources": {"pids": {"limit": 9}}}), ("tasks.shim", {}), ("containers.get", {}),
)  # fmt: skip


def spec_of(args: list[str]) -> dict[str, Any]:
    """An OCI spec."""
    return {"ociVersion": "1.0.2", "process": {"args": args, "cwd": "/"}, "root": {"path": "/"}}


class Habit:
    """A client with a will."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self.client = client
        self.random = client.random
        self.namespace = namespace
        self.name = name
        self.done = False
        self.doubted = False
        self.lives = False
        """Does its init run, and will until it is told to end?"""
        self._keys = 0

    def job(self) -> list[str]:
        """A program."""
        draw = self.random
        seconds = draw.choice(("0", "0", f"{draw.random() * 0.05:.4f}", f"{draw.random():.4f}", "-"))
        return ["job", seconds, str(draw.choice((0, 0, 1, 7, 65))), draw.choice(("die", "die", "ignore", "3"))]

    async def run(self) -> None:
        """All that it wants."""
        raise NotImplementedError

    async def ask(self, method: str, keyed: bool = True, **params: Any) -> dict[str, Any]:
        """About its task."""
        key = None
        if keyed:
            self._keys += 1
            key = f"{self.name}-{self._keys}"
        return await self.client.ask(method, {"id": self.name, **params}, self.namespace, key=key)

    async def until_told(self, method: str, **params: Any) -> dict[str, Any]:
        """Asked, without a key, until there is an answer."""
        for _ in range(50):
            reply = await self.ask(method, keyed=False, **params)
            if reply["ok"] or reply["error"]["code"] not in AGAIN:
                return reply
            await self.client.pause(0.2)
        self.wrong(method, reply)
        return reply

    async def surely(self, method: str, *allowed: str, **params: Any) -> dict[str, Any]:
        """Asked with a key, and with another where it was not possible; must be done, or fail with one of ``allowed``.

        What was not possible may have been done all the same, or is still being undone.
        """
        doubtful: tuple[str, ...] = ()
        for _ in range(60):
            reply = await self.ask(method, **params)
            code = "" if reply["ok"] else reply["error"]["code"]
            if not code or code in allowed:
                return reply
            if code in AGAIN:
                self.doubted = True
                doubtful = ("not_found", "failed_precondition", "already_exists")
            elif code == "already_exists" and doubtful and method in ("tasks.run", "tasks.create"):
                pass
            elif code in doubtful:
                return reply
            else:
                break
            await self.client.pause(0.5)
        self.wrong(method, reply)
        return reply

    def wrong(self, method: str, reply: dict[str, Any]) -> None:
        """This is no answer that may be."""
        STAGE.world.complain(f"{method} of {self.namespace}/{self.name}: {reply.get('error') or reply.get('result')}")


class Solo(Habit):
    """Nobody else touches its task: every answer is foreseen."""

    async def run(self) -> None:
        """A life."""
        for number in range(self.random.choice((1, 1, 2))):
            if number:
                await self.client.pause(0.1)
            await (self._by_steps() if self.random.random() < 0.7 else self._at_once())
        self.done = True

    async def _by_steps(self) -> None:
        draw = self.random
        args = draw.choice((self.job(), self.job(), self.job(), self.job(), ["missing"], ["uncreatable"]))
        await self.surely("containers.create", spec=spec_of(args))
        made = await self.surely("tasks.create", *(("invalid_argument", "unknown") if args[0] == "uncreatable" else ()))
        if made["ok"]:
            if draw.random() < 0.9:
                await self._live(args)
            await self._remove()
        elif args[0] != "uncreatable":
            self.wrong("tasks.create", made)
        await self.surely("containers.delete")

    async def _live(self, args: list[str]) -> None:
        started = await self.surely("tasks.start", *(("invalid_argument", "failed_precondition") if args[0] == "missing" else ()))
        if not started["ok"] or args[0] == "missing":  # the shim may die before it can say that there is no such program
            return
        pid = started["result"]["pid"]
        self.lives = args[1] == "-"
        if self.random.random() < 0.5:
            await self._meddle()
        for number in range(self.random.choice((0, 0, 1, 2))):
            await self._exec(f"e{number}")
        self.lives = False
        if args[1] == "-":
            await self._end()
        if self.random.random() < 0.8:
            told = await self.until_told("tasks.wait")
            if not told["ok"] or told["result"]["pid"] != pid:
                self.wrong("tasks.wait", told)
            else:
                STAGE.world.check_exit("tasks.wait", told["result"])

    async def _meddle(self) -> None:
        """Something on the way, whose refusal is nothing odd: the program may have ended."""
        for _ in range(self.random.choice((1, 2, 3))):
            method, params = self.random.choice(MEDDLING)
            self.lives = self.lives and method != "tasks.kill"
            await self._one(method, params)
            if self.random.random() < 0.3:
                await self.client.pause(0.02)
            if method == "tasks.pause":
                await self.surely("tasks.resume", "failed_precondition", "not_found")

    async def _exec(self, exec_id: str) -> None:
        """One more process; while init lives nothing of it may be refused."""
        draw = self.random
        args = draw.choice((self.job(), self.job(), self.job(), ["missing"]))
        may = () if self.lives else ("failed_precondition", "not_found")
        added = await self.surely("tasks.exec", *may, exec_id=exec_id, process={"args": args, "cwd": "/"})
        if not added["ok"]:
            return
        if draw.random() < 0.9:
            unable = ("invalid_argument", "failed_precondition") if args[0] == "missing" else ()
            started = await self.surely("tasks.start", *may, *unable, exec_id=exec_id)
            if args[0] == "missing" and started["ok"]:
                self.wrong("tasks.start of an exec that is not there", started)
            if args[0] != "missing" and started["ok"]:
                await self._exec_ends(exec_id, started["result"]["pid"], forever=args[1] == "-")
        if draw.random() < 0.7:
            await self.surely("tasks.delete_process", *may, exec_id=exec_id)

    async def _exec_ends(self, exec_id: str, pid: int, *, forever: bool) -> None:
        if forever or self.random.random() < 0.2:
            await self.surely("tasks.kill", "not_found", exec_id=exec_id, signal="SIGKILL")
        told = await self.until_told("tasks.wait", exec_id=exec_id)
        if told["ok"] and told["result"]["pid"] == pid:
            STAGE.world.check_exit("tasks.wait of an exec", told["result"])
        elif self.lives or told["ok"]:
            self.wrong("tasks.wait of an exec", told)

    async def _one(self, method: str, params: dict[str, Any]) -> None:
        if method == "tasks.list":
            reply = await self.client.ask(method, {}, self.namespace)
        else:
            reply = await self.ask(method, METHODS[method].changes and self.random.random() < 0.7, **params)
        may = (*AGAIN, "failed_precondition", "not_found", "unimplemented")
        if not reply["ok"] and reply["error"]["code"] not in may:
            self.wrong(method, reply)

    async def _end(self) -> None:
        """It does not end by itself."""
        draw = self.random.random()
        if draw < 0.4:
            stopped = await self.surely("tasks.stop", grace=self.random.choice((0.0, 0.05, 1.0)))
            STAGE.world.check_exit("tasks.stop", stopped.get("result"))
            return
        if draw < 0.6:  # as people do
            await self.surely("tasks.kill", "not_found", signal="SIGTERM")
            await self.client.pause(0.05)
        await self.surely("tasks.kill", "not_found", signal="SIGKILL")

    async def _remove(self) -> None:
        gentle = self.random.random() < 0.4
        deleted: dict[str, Any] = LOST
        if gentle:
            deleted = await self.surely("tasks.delete", "failed_precondition")
        if not deleted["ok"] and deleted["error"]["code"] != "not_found":  # else it was done, and could not be said
            deleted = await self.surely("tasks.delete", force=True)
        if deleted["ok"] and deleted["result"]["exited_at"]:
            STAGE.world.check_exit("tasks.delete", deleted["result"])
        gone = await self.until_told("tasks.get")
        if gone["ok"] or gone["error"]["code"] != "not_found":
            self.wrong("tasks.get after delete", gone)

    async def _at_once(self) -> None:
        draw = self.random
        args = draw.choice((self.job(), self.job(), self.job(), ["missing"], ["uncreatable"]))
        wait, rm = draw.random() < 0.5, draw.random() < 0.5
        if args[0] == "job" and args[1] == "-" and (wait or rm):
            args[1] = "0.2"
        fails = args[0] != "job"
        may = ("invalid_argument", "unknown", "failed_precondition") if fails else ()
        ran = await self.surely("tasks.run", *may, spec=spec_of(args), wait=wait, rm=rm)
        if fails:
            await self._check_failed(ran, rm=rm)
            return
        if wait and ran["ok"]:
            STAGE.world.check_exit("tasks.run", ran["result"]["exit"])
        if not rm:
            await self._remove()
            await self.surely("containers.delete", *(("not_found",) if self.doubted else ()))
        else:
            await self._until_gone(160)

    async def _check_failed(self, ran: dict[str, Any], *, rm: bool) -> None:
        """Nothing is left; or, where the shim was killed before it could say so, what the runtime has left says 1."""
        if ran["ok"]:
            if ran["result"].get("task", ran["result"])["exit_status"] not in (None, 1):
                self.wrong("tasks.run", ran)
            elif rm:
                await self._until_gone(160)
            else:
                await self._remove()
                await self.surely("containers.delete")
        else:
            await self._until_gone(60)

    async def _until_gone(self, tries: int) -> None:
        for _ in range(tries):
            gone = await self.until_told("containers.get")
            if not gone["ok"]:
                return
            await self.client.pause(2.0)
        self.wrong("containers.get after run with rm", gone)


class Shared(Habit):
    """Others do what they like to the same task: any refusal may be, but no fault, and no silence."""

    async def run(self) -> None:
        """Some deeds."""
        for _ in range(self.random.randrange(3, 9)):
            method, params = self._deed()
            timeout = self.random.choice((0, 0, 0.05, 1.0))
            key = None
            if self.random.random() < 0.5 and METHODS[method].changes:
                self._keys += 1
                key = f"{self.client.identity.decode()}-{self.name}-{self._keys}"
            if method == "tasks.wait":
                timeout = timeout or 0.5
            reply = await self.client.ask(method, params, self.namespace, key=key, timeout=timeout)
            if not reply["ok"] and reply["error"]["code"] in ("internal", "permission_denied"):
                self.wrong(method, reply)
            if reply["ok"] and method in ("tasks.wait", "tasks.stop"):
                STAGE.world.check_exit(method, reply["result"])
            if self.random.random() < 0.3:
                await self.client.pause(0.05)
        self.done = True

    def _more(self) -> dict[str, Any]:
        """What a container may have besides."""
        draw = self.random
        more: dict[str, Any] = {}
        if draw.random() < 0.3:
            more["restart"] = {"policy": draw.choice(("always", "on-failure", "unless-stopped")), "backoff": 0.01}
        if draw.random() < 0.2:
            more["timeout"] = draw.choice((0.01, 0.3))
        if draw.random() < 0.2:
            more["health"] = {"args": ["job", "0.001", draw.choice("001"), "die"], "interval": 0.05, "timeout": 0.1}
        return more

    def _deed(self) -> tuple[str, dict[str, Any]]:
        draw, me = self.random, {"id": self.name}
        one = {**me, "exec_id": draw.choice(("e1", "e2"))}
        deeds: tuple[tuple[str, dict[str, Any]], ...] = (
            ("containers.create", {**me, "spec": spec_of(self.job()), **self._more()}),
            ("tasks.create", me), ("tasks.create", me), ("tasks.start", me), ("tasks.start", me),
            ("tasks.run", {**me, "spec": spec_of(self.job()), "rm": draw.random() < 0.5}),
            ("tasks.kill", {**me, "signal": draw.choice((9, 15)), "all": draw.random() < 0.3}),
            ("tasks.stop", {**me, "grace": 0.05}), ("tasks.wait", me), ("tasks.get", me), ("tasks.list", {}),
            ("tasks.pause", me), ("tasks.resume", me), ("tasks.delete", {**me, "force": draw.random() < 0.6}),
            ("containers.delete", me), ("tasks.pids", me), ("tasks.exec", {**one, "process": {"args": self.job(), "cwd": "/"}}),
            ("tasks.start", one), ("tasks.wait", one), ("tasks.kill", {**one, "signal": 9}), ("tasks.delete_process", one),
            ("containers.update", {**me, "restart": {"policy": draw.choice(("no", "always", "on-failure"))}}),
        )  # fmt: skip
        return deeds[draw.randrange(len(deeds))]
