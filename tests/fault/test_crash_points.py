"""Each named step of create, start, exit and delete, killed right there: nothing is lost, nothing is left.

A client runs a task in four steps, and another in one, each request with its key; the process that comes to the point first
dies, the daemon is started again if it was that, and the client goes on as if nothing had happened.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.client import Client
from actors.records import Runtime, Stdio
from actors.specs import default_spec, host_rootfs
from shimproc.crash import POINTS
from tests.fault.test_random_kills import NAMESPACE, check_lives
from tests.support import proc
from tests.support.daemon import MARK, Daemon
from tests.support.runtimes import need
from tests.support.sources import sources

SCRIPT = "echo told; exit 7"
SECONDS = 60.0


@pytest.fixture(params=["crun", "process"])
def runtime(request: pytest.FixtureRequest) -> str:
    """One that is a program of its own, and the one that is built in."""
    return need(request.param)


@pytest.fixture
def armed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with the point armed, followed by another whenever it dies."""
    daemon = Daemon(environment={"SHIMYARD_CRASH": f"{request.param}:{tmp_path}/fired"})
    try:
        daemon.start()
        yield daemon
        assert (tmp_path / "fired").exists(), "nobody came to the point"
        left = [one for one in proc.belonging_to(daemon.folder, MARK) if one.name.startswith("shim:")]
        with proc.pidfds_of([one.pid for one in left]) as pidfds:
            assert proc.all_ended(pidfds), f"still there: {', '.join(map(str, left))}"
        assert not [str(path) for path in daemon.state.glob("tasks/*/*")]
    finally:
        daemon.destroy()


def follow(daemon: Daemon, over: threading.Event) -> None:
    """Start it again when it has died."""
    while not over.is_set():
        process = daemon.process
        assert process is not None
        process.wait()
        if not over.is_set():
            daemon.process = None
            daemon.restart()


def live(client: Client, runtime: str) -> None:
    """Two lives, and what must be true of them."""
    plain = runtime == "process"
    spec = default_spec(["/bin/sh", "-c", SCRIPT], host=plain)
    rootfs = () if plain else host_rootfs()
    stdio = Stdio("", "log:", "log:")
    client.containers.create("steps", spec, rootfs=rootfs, runtime=Runtime(runtime), stdio=stdio)
    made = client.tasks.create("steps")
    assert client.tasks.start("steps") == {"pid": made.pid}
    ended = client.tasks.wait("steps")
    assert (ended.exit_status, ended.pid, ended.reason) == (7, made.pid, None)
    assert [piece.data for piece in client.tasks.logs("steps", follow=True)] == [b"told\n"]
    assert client.tasks.delete("steps") == ended
    client.containers.delete("steps")
    since = int(client.health()["events"]["last_seq"])
    done = client.run(["/bin/sh", "-c", SCRIPT], runtime=runtime, name="run")
    assert (done.returncode, done.stdout) == (7, b"told\n")
    next(iter(client.events(since=since, filters=["topic==/containers/delete"])))  # a daemon that died may be late with it
    assert client.tasks.list() == []
    assert client.containers.list() == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("armed", POINTS, indirect=True)
def test_a_kill_right_there_loses_nothing(armed: Daemon, runtime: str) -> None:
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(armed, over), daemon=True)
    follower.start()
    try:
        with Client(armed.api, namespace=NAMESPACE, patience=SECONDS, timeout=SECONDS) as client:
            live(client, runtime)
        assert not check_lives(armed.replay())
    finally:
        over.set()
        armed.stop()
        follower.join(SECONDS)


def test_every_point_is_somewhere_once_and_every_one_that_is_somewhere_is_named() -> None:
    calls = [
        node.args[0].value
        for source in sources("actors", "shimproc")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "point"
        if isinstance(node.args[0], ast.Constant)
    ]
    assert sorted(map(str, calls)) == sorted(POINTS)
