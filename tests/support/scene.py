"""What most integration tests are played on: a namespace of their own on a running daemon, and one runtime.

Every id begins with the scene's token, so that what is left behind can be told apart. ``clear`` removes all by force.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.support import specs
from tests.support.daemon import MARK, Daemon
from tests.support.specs import Image, Map
from tests.support.wire import RawClient, WireError

READ_SIZE = 1 << 16


@dataclass
class Scene:
    """Makes containers and tasks, by the wire alone."""

    daemon: Daemon
    image: Image
    runtime: str
    token: str = field(default_factory=lambda: "t" + secrets.token_hex(4))
    options: dict[str, Any] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _api: RawClient | None = None

    @property
    def api(self) -> RawClient:
        """A client in this scene's namespace."""
        if self._api is None:
            self._api = self.daemon.connect(self.token)
        return self._api

    @property
    def plain(self) -> bool:
        """Does it run on the host's own files?"""
        return self.runtime == "process"

    def fresh_id(self) -> str:
        """An id that nobody has."""
        return f"{self.token}-{next(self._numbers)}"

    def params(self, *args: str, host_pids: bool = False, process: Map | None = None, **more: Any) -> Map:
        """The params of ``containers.create`` or ``tasks.run`` for this command; ``more`` goes in as it is."""
        marked = {"env": [specs.PATH, f"{MARK}={self.daemon.folder}"], **(process or {})}
        container: Map = {
            "id": self.fresh_id(),
            "spec": specs.spec(args, plain=self.plain, host_pids=host_pids, process=marked),
            "runtime": {"name": self.runtime, "options": self.options},
        }
        if not self.plain:
            container["rootfs"] = list(self.image.mounts)
        return container | more

    def shell(self, script: str, **more: Any) -> Map:
        """Like ``params``, for a shell script."""
        return self.params("/bin/sh", "-c", script, **more)

    def sleeper(self, **more: Any) -> Map:
        """Like ``params``, for what runs until it is killed."""
        return self.params("/bin/sleep", "10000", **more)

    def create(self, params: Map) -> Map:
        """Container and task; the Task, ``created``."""
        self.api.call("containers.create", **params)
        return self._map("tasks.create", id=params["id"])

    def run(self, params: Map, **how: Any) -> Map:
        """``tasks.run``: the Task, or with ``wait`` what came of it."""
        return self._map("tasks.run", **params, **how)

    def wait(self, task_id: str) -> Map:
        """The Exit."""
        return self._map("tasks.wait", id=task_id)

    def get(self, task_id: str) -> Map:
        """The Task."""
        return self._map("tasks.get", id=task_id)

    def remove(self, task_id: str, *, force: bool = False) -> Map:
        """Task and container; the task's Exit."""
        ended = self._map("tasks.delete", id=task_id, force=force)
        self.api.call("containers.delete", id=task_id)
        return ended

    def lifecycle(self, params: Map) -> Map:
        """Create, start, wait, delete, each a request; the Exit."""
        self.create(params)
        self.api.call("tasks.start", id=params["id"])
        ended = self.wait(params["id"])
        self.remove(params["id"])
        return ended

    def process(self, *args: str, **more: Any) -> Map:
        """An OCI process for an exec."""
        return {"args": list(args), "cwd": "/", "env": [specs.PATH, f"{MARK}={self.daemon.folder}"], **more}

    def exec(self, task_id: str, exec_id: str, script: str, **stdio: Any) -> Map:
        """Add an exec of a shell script, and start it; its Process as it was added."""
        process = self.process("/bin/sh", "-c", script)
        added = self._map("tasks.exec", id=task_id, exec_id=exec_id, process=process, stdio=stdio)
        self.api.call("tasks.start", id=task_id, exec_id=exec_id)
        return added

    def exec_log(self, task_id: str, exec_id: str) -> bytes:
        """All that an exec has logged, once it has ended."""
        pieces = self.api.chunks("tasks.logs", id=task_id, exec_id=exec_id, follow=True)
        return b"".join(piece["data"] for piece in pieces)

    def terminal(self, script: str, **more: Any) -> Map:
        """Like ``shell``, on a terminal."""
        params = self.shell(script, process={"terminal": True})
        params["stdio"] = {"terminal": True, **more}
        return params

    def output(self, script: str, **more: Any) -> Map:
        """Run a script to its end with its output captured."""
        return self.run(self.shell(script, **more), rm=True, wait=True, capture=1 << 20)

    def clear(self) -> None:
        """Remove every task and container of the scene, whatever state they are in."""
        for task in self.api.call("tasks.list")["tasks"]:
            with contextlib.suppress(WireError):
                self.api.call("tasks.delete", id=task["id"], force=True)
        for container in self.api.call("containers.list")["containers"]:
            self.api.call("containers.delete", id=container["id"])
        if self.token in [one["name"] for one in self.api.call("namespaces.list")["namespaces"]]:
            self.api.call("namespaces.delete", name=self.token)
        self.api.close()
        self._api = None

    def _map(self, method: str, **params: Any) -> Map:
        answer = self.api.call(method, **params)
        assert isinstance(answer, dict)
        return answer
