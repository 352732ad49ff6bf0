"""A disk without a free page, under the daemon's STATE, its ROOT or a task's own output, at every step of a task's life.

What would begin something is refused, with the remedy; what has begun goes on, is told once there is room, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault.conftest import Host
from tests.support import proc
from tests.support.daemon import DaemonError
from tests.support.events import of, topics
from tests.support.pipes import Fifo
from tests.support.scarce import SmallDisk
from tests.support.specs import Map
from tests.support.wire import WireError

REMEDY = "free some"
CAPTURED = 200_000


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Callable[[str], Fifo]]:
    """Makes named pipes; closed at the end."""
    with contextlib.ExitStack() as made:

        def make(name: str) -> Fifo:
            pipe = Fifo(tmp_path / name)
            made.callback(pipe.close)
            return pipe

        yield make


def fill(host: Host, disk: SmallDisk) -> None:
    """Until the database, or a bundle, has no page left: SQLite may first use up what it holds."""
    disk.fill()
    if disk is host.root:
        while host.scene.api.reply(host.scene.api.send("namespaces.create", name=f"{host.scene.token}x"))["ok"]:
            disk.fill()
            host.scene.api.reply(host.scene.api.send("namespaces.delete", name=f"{host.scene.token}x"))
            disk.fill()


def has_ended(pid: int) -> None:
    """Wait until a process has ended, reaped or not."""
    with contextlib.suppress(ProcessLookupError), proc.pidfds_of([pid]) as pidfds:
        assert proc.all_ended(pidfds)


def goes_on(host: Host) -> None:
    """A whole life, as if nothing had been."""
    assert host.scene.lifecycle(host.scene.shell("exit 5"))["exit_status"] == 5


def test_a_create_is_refused_and_leaves_nothing_where_bundles_have_no_room(host: Host) -> None:
    params = host.scene.sleeper()
    host.scene.api.call("containers.create", **params)
    host.state.fill()
    error = host.scene.api.refused("resource_exhausted", "tasks.create", id=params["id"])
    assert REMEDY in error.message
    assert str(host.state.path) in error.message
    host.scene.api.refused("not_found", "tasks.get", id=params["id"])
    assert not list(host.state.path.glob(f"tasks/*/{params['id']}"))
    host.state.give_room()
    host.scene.api.call("tasks.create", id=params["id"])
    host.scene.remove(params["id"], force=True)
    goes_on(host)


@pytest.mark.parametrize("pages", range(1, 9))
def test_wherever_in_a_create_the_room_ends_nothing_is_left_of_it(host: Host, pages: int) -> None:
    params = host.scene.sleeper()
    host.scene.api.call("containers.create", **params)
    spared = host.state.path / "spared"
    spared.write_bytes(bytes(4096 * pages))
    host.state.fill()
    spared.unlink()
    answer = host.scene.api.reply(host.scene.api.send("tasks.create", id=params["id"]))
    if not answer["ok"]:
        assert answer["error"]["code"] == "resource_exhausted", answer
        host.scene.api.refused("not_found", "tasks.get", id=params["id"])
        assert not list(host.state.path.glob(f"tasks/*/{params['id']}"))
    host.state.give_room()
    if answer["ok"]:
        host.scene.api.call("tasks.start", id=params["id"])
        host.scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
        assert host.scene.wait(params["id"])["exit_status"] == 137
        host.scene.remove(params["id"])


@pytest.mark.parametrize("method", ["containers.create", "tasks.run"])
def test_what_would_begin_something_is_refused_where_the_database_has_no_room(host: Host, method: str) -> None:
    fill(host, host.root)
    params = host.scene.sleeper()
    error = host.scene.api.refused("resource_exhausted", method, **params)
    assert REMEDY in error.message
    assert str(host.root.path) in error.message
    host.scene.api.using(key="again").refused("resource_exhausted", method, **params)
    assert host.scene.api.call("containers.list")["containers"] == []
    host.root.give_room()
    goes_on(host)


def test_a_task_runs_ends_and_is_told_once_the_database_has_room(host: Host, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    params = host.scene.shell("read word; exit 7", stdio={"stdin": stdin.uri})
    task = host.scene.run(params)
    fill(host, host.root)
    stdin.open_for_writing().write(b"go\n")
    has_ended(task["pid"])
    assert host.scene.get(params["id"])["status"] == "running"  # nobody is told what is not on disk
    waiting = host.scene.api.send("tasks.wait", id=params["id"])
    host.root.give_room()
    assert host.scene.api.result(waiting)["exit_status"] == 7
    assert host.scene.wait(params["id"])["exit_status"] == 7
    assert host.scene.remove(params["id"])["exit_status"] == 7
    goes_on(host)


@pytest.mark.parametrize("key", [None, "one"])
def test_what_ends_a_task_is_done_though_the_database_has_no_room(host: Host, key: str | None) -> None:
    killed, stopped, deleted = (host.scene.run(host.scene.sleeper()) for _ in range(3))
    fill(host, host.root)
    api = host.scene.api.using(key=key)
    assert api.call("tasks.kill", id=killed["id"], signal="SIGKILL") == {}
    waiting = [api.send("tasks.stop", id=stopped["id"], signal="SIGKILL"), api.send("tasks.delete", id=deleted["id"], force=True)]
    for task in (killed, stopped, deleted):
        has_ended(task["pid"])
    host.root.give_room()
    assert [api.result(request)["exit_status"] for request in waiting] == [137, 137]
    assert host.scene.wait(killed["id"])["exit_status"] == 137
    goes_on(host)


@pytest.mark.parametrize("dies", ["nobody", "shim", "daemon"])
def test_an_exit_that_the_journal_has_no_room_for_is_told_when_there_is_some(
    host: Host, fifo: Callable[[str], Fifo], dies: str
) -> None:
    stdin, stdout = fifo("in"), fifo("out").open_for_reading()
    script = f"head -c {CAPTURED} /dev/zero; read word; exit 9"
    params = host.scene.shell(script, stdio={"stdin": stdin.uri, "stdout": stdout.uri})
    waiting = host.scene.api.send("tasks.run", **params, wait=True, capture=CAPTURED)
    stdout.read_until(b"\0", CAPTURED)
    task = host.scene.get(params["id"])
    host.scene.api.call("tasks.pids", id=params["id"])  # its shim has kept them by now
    host.state.fill()
    stdin.open_for_writing().write(b"go\n")
    has_ended(task["pid"])
    host.scene.api.refused("not_found", "tasks.kill", id=params["id"], signal="SIGTERM")
    if dies == "shim":
        with proc.pidfds_of([task["shim_pid"]]) as pidfds:
            signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
            assert proc.all_ended(pidfds)
    elif dies == "daemon":
        host.scene.daemon.kill9()
        host.scene.daemon.start()
    host.state.give_room()
    assert host.scene.wait(params["id"])["exit_status"] == 9
    if dies != "daemon":
        ended = host.scene.api.result(waiting)
        assert (ended["exit"]["exit_status"], len(ended["stdout"])) == (9, CAPTURED)
    assert host.scene.remove(params["id"])["exit_status"] == 9


def test_a_run_with_rm_is_removed_once_there_is_room(host: Host, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    task = host.scene.run(host.scene.shell("read word; exit 3", stdio={"stdin": stdin.uri}), rm=True)
    fill(host, host.root)
    stdin.open_for_writing().write(b"go\n")
    has_ended(task["pid"])
    subscriber = host.hear()
    host.root.give_room()
    subscriber.until("ContainerDelete", task["id"])
    assert host.scene.api.call("containers.list")["containers"] == []


def test_a_killed_shim_is_followed_though_no_disk_has_room(host: Host, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    params = host.scene.shell("read word; echo told; exit 4", stdio={"stdin": stdin.uri, "stdout": "log:"})
    task = host.scene.run(params)
    subscriber = host.hear()
    host.state.fill()
    fill(host, host.root)
    with proc.pidfds_of([task["shim_pid"]]) as pidfds:
        signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
        assert proc.all_ended(pidfds)
    assert [one["pid"] for one in host.scene.api.call("tasks.pids", id=params["id"])["pids"]][:1] == [task["pid"]]
    stdin.open_for_writing().write(b"go\n")
    has_ended(task["pid"])
    host.state.give_room()
    host.root.give_room()
    assert host.scene.wait(params["id"])["exit_status"] == 4
    subscriber.until("TaskShimAdopted", params["id"])
    heard = topics(of(host.scene.daemon.replay(), params["id"]))
    assert heard.count("/tasks/shim-lost") == heard.count("/tasks/shim-adopted") == 1
    assert host.scene.remove(params["id"])["exit_status"] == 4


@pytest.mark.parametrize("where", ["log:", "file"])
def test_a_task_whose_output_has_no_room_is_not_held_up_and_its_loss_is_told(
    host: Host, fifo: Callable[[str], Fifo], where: str
) -> None:
    stdin = fifo("in")
    stdout = where if where == "log:" else f"file://{host.root.path}/spared.log"
    params = host.scene.shell("read word; seq 100000; exit 6", stdio={"stdin": stdin.uri, "stdout": stdout})
    waiting = host.scene.api.send("tasks.run", **params, wait=True, capture=10)  # captured, so that it goes through the shim
    stdin.open_for_writing()
    task = running(host)[0]
    fill(host, host.root)
    stdin.write(b"go\n")
    has_ended(task["pid"])
    host.root.give_room()
    ended = host.scene.api.result(waiting)
    assert (ended["exit"]["exit_status"], ended["stdout"]) == (6, b"1\n2\n3\n4\n5\n")
    told = next(one["event"] for one in of(host.scene.daemon.replay(), params["id"]) if one["type"] == "TaskExit")
    assert told["dropped"] > 588_895 - (256 << 10) - (64 << 10) - 10  # what was in the pipe, or in hand, may have found room
    host.scene.remove(params["id"])


def running(host: Host) -> list[Map]:
    """The scene's tasks, once there is one that runs."""
    while not (found := host.scene.api.call("tasks.list", filters=["status==running"])["tasks"]):
        host.scene.daemon.health()
    return list(found)


def test_a_daemon_that_cannot_open_its_database_for_want_of_room_says_so_and_its_tasks_run_on(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper())
    assert host.scene.daemon.stop() == 0
    host.root.fill()
    with pytest.raises(DaemonError, match=f"no space left.*{REMEDY}|{REMEDY}"):
        host.scene.daemon.start()
    host.root.give_room()
    host.scene.daemon.start()
    os.kill(task["pid"], 0)
    assert host.scene.get(task["id"])["pid"] == task["pid"]
    host.scene.remove(task["id"], force=True)


def test_a_daemon_starts_though_its_state_has_no_room(host: Host) -> None:
    task: Map = host.scene.run(host.scene.sleeper())
    host.scene.daemon.kill9()
    host.state.fill()
    host.scene.daemon.start()
    assert host.scene.get(task["id"])["pid"] == task["pid"]
    with pytest.raises(WireError, match=REMEDY):
        host.scene.run(host.scene.sleeper())
    host.scene.api.call("tasks.kill", id=task["id"], signal="SIGKILL")
    assert host.scene.wait(task["id"])["exit_status"] == 137
    host.state.give_room()
    goes_on(host)
