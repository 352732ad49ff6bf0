"""Daemon, forkserver or shim without a free descriptor: what needs one says so, nothing spins, hangs or is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.fault.conftest import Host
from tests.support import proc
from tests.support.daemon import MARK
from tests.support.leaks import FORKSERVER
from tests.support.scene import Scene

REMEDY = "limit of open files"
LOOK_SECONDS = 1.0


@contextlib.contextmanager
def few(pid: int, more: int = 0) -> Iterator[None]:
    """No descriptors for this process beyond those that it has, and ``more``."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    numbers = sorted(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    free = [number for number in range(numbers[-1] + more + 2) if number not in numbers]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[more], hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def forkserver(scene: Scene) -> int:
    """The one that serves the scene's daemon."""
    return next(one.pid for one in proc.belonging_to(scene.daemon.folder, MARK) if one.name == FORKSERVER)


def is_idle(pid: int) -> bool:
    """Does it sleep, for as long as we look?"""
    before = ticks(pid)
    select.select([], [], [], LOOK_SECONDS)
    return ticks(pid) - before < os.sysconf("SC_CLK_TCK") * LOOK_SECONDS / 5


def ticks(pid: int) -> int:
    """Of the processor, used by it (utime and stime in proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@contextlib.contextmanager
def knocking(folder: Path, name: str) -> Iterator[None]:
    """Connections that nobody takes."""
    with contextlib.ExitStack() as open_:
        fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        open_.callback(os.close, fd)
        for _ in range(3):
            sock = open_.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(f"/proc/self/fd/{fd}/{name}")
        yield


def test_a_forkserver_without_descriptors_refuses_does_not_spin_and_serves_again(host: Host) -> None:
    params = host.scene.sleeper()
    host.scene.api.call("containers.create", **params)
    pid = forkserver(host.scene)
    for more in range(4):
        with few(pid, more):
            answer = host.scene.api.reply(host.scene.api.send("tasks.create", id=params["id"]))
            if answer["ok"]:
                host.scene.api.call("tasks.delete", id=params["id"], force=True)
                continue
            assert answer["error"]["code"] == "resource_exhausted"
            assert REMEDY in answer["error"]["message"]
            host.scene.api.refused("not_found", "tasks.get", id=params["id"])
    with few(pid), knocking(host.scene.daemon.state, "forkserver.sock"):
        assert is_idle(pid)
    assert host.scene.api.call("tasks.create", id=params["id"])["status"] == "created"
    host.scene.remove(params["id"], force=True)


def test_a_shim_without_descriptors_ends_its_task_and_tells_how(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper())
    bundle = Path(task["bundle"])
    with few(task["shim_pid"]):
        with knocking(bundle, "shim.sock"):
            assert is_idle(task["shim_pid"])
        host.scene.api.call("tasks.kill", id=task["id"], signal="SIGKILL")
        assert host.scene.wait(task["id"])["exit_status"] == 137
    assert host.scene.remove(task["id"])["exit_status"] == 137


def test_a_shim_that_has_none_to_delete_with_says_so_and_does_it_later(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper())
    with few(task["shim_pid"]), proc.pidfds_of([task["pid"]]) as pidfds:
        request = host.scene.api.send("tasks.delete", id=task["id"], force=True)
        assert proc.all_ended(pidfds)
        answer = host.scene.api.reply(request)
        if not host.scene.plain:
            assert answer["error"]["code"] == "resource_exhausted", answer
            assert REMEDY in answer["error"]["message"]
            assert host.scene.wait(task["id"])["exit_status"] == 137
            assert host.scene.get(task["id"])["status"] == "stopped"
    if not answer["ok"]:
        assert host.scene.api.call("tasks.delete", id=task["id"])["exit_status"] == 137
    host.scene.api.call("containers.delete", id=task["id"])


def test_a_daemon_without_descriptors_still_ends_tasks_and_refuses_new_ones(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper())
    params = host.scene.sleeper()
    for more in range(4):
        with few(host.scene.daemon.pid, more):
            answer = host.scene.api.reply(host.scene.api.send("tasks.run", **params))
            if answer["ok"]:
                host.scene.remove(params["id"], force=True)
                continue
            assert answer["error"]["code"] == "resource_exhausted"
            assert REMEDY in answer["error"]["message"]
            host.scene.api.refused("not_found", "tasks.get", id=params["id"])
    with few(host.scene.daemon.pid):
        host.scene.api.call("tasks.kill", id=task["id"], signal="SIGTERM")
        host.scene.api.call("tasks.kill", id=task["id"], signal="SIGKILL") if not host.scene.plain else None
        assert host.scene.wait(task["id"])["exit_status"] in (137, 143)
    host.scene.remove(task["id"])


def test_a_shim_is_followed_though_its_forkserver_has_no_descriptors_at_first(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper())
    subscriber = host.hear()
    with few(forkserver(host.scene)), proc.pidfds_of([task["shim_pid"]]) as pidfds:
        signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
        assert proc.all_ended(pidfds)
        subscriber.until("TaskShimLost", task["id"])
        os.kill(task["pid"], 0)
    subscriber.until("TaskShimAdopted", task["id"])
    host.scene.api.call("tasks.kill", id=task["id"], signal="SIGKILL")
    assert host.scene.wait(task["id"])["exit_status"] == 137
    host.scene.remove(task["id"])
