"""The real daemon: the installed ``shimyard daemon`` as a process of its own, in a short temporary folder.

It is ready when it says so (sd_notify(3)), so nothing sleeps. ``restart`` after ``stop`` or ``kill9`` starts a new one
on the same folders, as an upgrade or a crash would. ``destroy`` ends all that was ever started there, by pidfd.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import cgroups, proc
from tests.support.events import Subscriber
from tests.support.wire import RawClient

if TYPE_CHECKING:
    from actors.client import Client

READY_SECONDS = 20.0
STOP_SECONDS = 20.0
MARK = "SHIMYARD_TEST"
"""In the environment of the daemon and of every test container, with the folder's path: whose process is it?"""


def command() -> str:
    """The installed command, beside this Python."""
    found = Path(sys.executable).with_name("shimyard")
    if not found.exists():
        raise pytest.UsageError(f"{found} is missing: pip install -e '.[test]'")
    return str(found)


class DaemonError(Exception):
    """The daemon did not come up or did not end; the message has its log."""


class Daemon:
    """One daemon on folders of its own.

    Parameters
    ----------
    arguments : more arguments for ``shimyard daemon``.
    environment : more variables for it.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="shimyard-test-"))
        self.folder.chmod(0o711)
        self.state = self.folder / "state"
        self.root = self.folder / "root"
        self._log = self.folder / "log"
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._clients: list[RawClient | Subscriber | Client] = []
        self.process: subprocess.Popen[bytes] | None = None

    def configured(self, text: str) -> Daemon:
        """The same with a config file of this content; before its start."""
        file = self.folder / "config.toml"
        file.write_text(text, encoding="utf-8")
        self._arguments = (*self._arguments, "--config", str(file))
        return self

    # -- its life

    def start(self) -> Daemon:
        """Start it and wait until it is ready; ``DaemonError`` with its log if it does not get there."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            path = self.folder / "ready.sock"
            path.unlink(missing_ok=True)
            ready.bind(str(path))
            self.process = self.spawn({"NOTIFY_SOCKET": str(path)})
            self._await_ready(ready, self.process)
        return self

    def spawn(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start another daemon process on the same folders, and do not wait for it."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [command(), "daemon", "--state", str(self.state), "--root", str(self.root), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment() | self._environment | dict(environment or {}),
                start_new_session=True,
            )

    def stop(self) -> int:
        """SIGTERM, and wait; its exit status."""
        return self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """SIGKILL, and wait."""
        self._end(signal.SIGKILL)

    def restart(self) -> Daemon:
        """A new daemon on the same folders."""
        assert self.process is None, "stop it, or kill it, first"
        return self.start()

    def destroy(self) -> None:
        """End everything that was started below the folder, and remove the folder."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.close()
        if self.process is not None:
            self._end(signal.SIGKILL)
        while left := [one for one in proc.belonging_to(self.folder, MARK) if one.state != "Z"]:
            proc.kill_and_wait(left)
        for mount in reversed(proc.mounts_below(self.folder)):  # what is mounted is never walked
            subprocess.run(["umount", "--lazy", mount], check=True)
        bundles = [path.name for path in self.state.glob("tasks/*/*")]
        cgroups.remove([f"{name}-" for name in bundles])
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- ways to it

    @property
    def pid(self) -> int:
        """Of the running daemon."""
        assert self.process is not None, "the daemon is not running"
        return self.process.pid

    @property
    def api(self) -> str:
        """The address for requests."""
        return f"ipc://{self.state}/api.sock"

    @property
    def events(self) -> str:
        """The address for events."""
        return f"ipc://{self.state}/events.sock"

    @cached_property
    def raw(self) -> RawClient:
        """A foreign client in the namespace ``tests``."""
        return self.connect()

    @cached_property
    def client(self) -> Client:
        """The project's own client in the namespace ``tests``."""
        from actors.client import Client  # noqa: PLC0415 - the raw tests stand even where the client is broken

        client = Client(self.api, namespace="tests")
        self._clients.append(client)
        return client

    def connect(self, namespace: str | None = "tests") -> RawClient:
        """A foreign client of its own; closed with the daemon if not before."""
        client = RawClient.connect(self.api, namespace)
        self._clients.append(client)
        return client

    def subscribe(self) -> Subscriber:
        """Hear every event from now on."""
        subscriber = Subscriber(self.events)
        self._clients.append(subscriber)
        return subscriber

    def environment(self) -> dict[str, str]:
        """For processes that shall find this daemon, and be known as this test's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SHIMYARD_", "PYTEST_"))}
        return kept | {"SHIMYARD_STATE": str(self.state), "SHIMYARD_ROOT": str(self.root), MARK: str(self.folder)}

    # -- what is known of it

    @property
    def log(self) -> str:
        """All that the daemons on this folder, and the forkserver, have said."""
        texts = [self._log.read_text(errors="replace")] if self._log.exists() else []
        logs = sorted(self.folder.glob("*/*.log"))
        texts += [f"--- {path.name}\n{path.read_text(errors='replace')}" for path in logs]
        return "\n".join(texts)

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        answer = self.raw.call("health")
        assert isinstance(answer, dict)
        return answer

    def last_seq(self) -> int:
        """The number of the last event."""
        return int(self.health()["events"]["last_seq"])

    def replay(self, since: int = 0) -> list[dict[str, Any]]:
        """Every event after number ``since``, from the log."""
        found: list[dict[str, Any]] = []
        while page := self.raw.call("events.replay", since=since, limit=1000)["events"]:
            found += page
            since = page[-1]["seq"]
        return found

    def _await_ready(self, ready: socket.socket, process: subprocess.Popen[bytes]) -> None:
        pidfd = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(ready, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            while True:
                awake = poll.poll(READY_SECONDS * 1000)
                if (ready.fileno(), select.POLLIN) in awake:
                    if b"READY=1" in ready.recv(4096):
                        return
                    continue
                what = "ended" if awake else "was not ready in time"
                self._end(signal.SIGKILL)
                raise DaemonError(f"the daemon {what}:\n{self.log}")
        finally:
            os.close(pidfd)

    def _end(self, number: int) -> int:
        assert self.process is not None, "the daemon is not running"
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise DaemonError(f"the daemon did not end within {STOP_SECONDS} seconds:\n{self.log}") from error
