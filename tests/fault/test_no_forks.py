"""A forkserver or a shim that may make no process: who must end a task needs none, and what needs one says so and is retried."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.conftest import Host
from tests.fault.test_few_descriptors import forkserver
from tests.support import cgroups, proc
from tests.support.pipes import Fifo

REMEDY = "limit of processes"
PIDS = Path("/sys/fs/cgroup/pids")
SECONDS = 10.0


@contextlib.contextmanager
def no_forks(pid: int) -> Iterator[None]:
    """A pids cgroup for this process alone, with room for no other (cgroups(7)); then it is let out again."""
    if not (PIDS / "cgroup.procs").exists():
        pytest.skip("this host has no pids controller of cgroup v1")
    home = next(line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if ":pids:" in line)
    group = PIDS / f"sy-{os.getpid()}-{pid}"
    group.mkdir()
    try:
        (group / "pids.max").write_text("1")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                Path(f"{PIDS}{home}", "cgroup.procs").write_text(left)
        deadline = time.monotonic() + SECONDS
        while group.exists() and time.monotonic() < deadline:  # whoever has just ended is in it until he is reaped
            cgroups.remove([group.name])
        assert not group.exists()


def test_a_forkserver_that_cannot_fork_refuses_and_serves_again(host: Host) -> None:
    params = host.scene.sleeper()
    host.scene.api.call("containers.create", **params)
    with no_forks(forkserver(host.scene)):
        error = host.scene.api.refused("resource_exhausted", "tasks.create", id=params["id"])
        assert REMEDY in error.message
        host.scene.api.refused("not_found", "tasks.get", id=params["id"])
        assert not list(host.state.path.glob(f"tasks/*/{params['id']}"))
    host.scene.api.call("tasks.create", id=params["id"])
    host.scene.remove(params["id"], force=True)


@pytest.mark.parametrize("how", ["kill", "stop", "delete"])
def test_a_shim_that_cannot_fork_ends_its_task_all_the_same(host: Host, how: str) -> None:
    task = host.scene.run(host.scene.shell("trap '' TERM; sleep 10000 & wait; wait"))
    with no_forks(task["shim_pid"]), proc.pidfds_of([task["pid"]]) as pidfds:
        api = host.scene.api
        if how == "kill":
            api.call("tasks.kill", id=task["id"], signal="SIGKILL", all=True)
            assert host.scene.wait(task["id"])["exit_status"] == 137
        elif how == "stop":
            assert api.call("tasks.stop", id=task["id"], grace=0.05)["exit_status"] == 137
        answer = api.reply(api.send("tasks.delete", id=task["id"], force=True))
        assert proc.all_ended(pidfds)
        if not host.scene.plain:  # a runtime's delete is a process
            assert answer["error"]["code"] == "resource_exhausted", answer
            assert REMEDY in answer["error"]["message"]
            assert host.scene.get(task["id"])["status"] == "stopped"
    if not answer["ok"]:
        assert host.scene.api.call("tasks.delete", id=task["id"])["exit_status"] == 137
    host.scene.api.call("containers.delete", id=task["id"])


def test_a_start_that_cannot_fork_is_refused_and_can_be_repeated(host: Host) -> None:
    params = host.scene.shell("exit 8")
    task = host.scene.create(params)
    with no_forks(task["shim_pid"]):
        if host.scene.plain:  # it was forked by the create
            host.scene.api.call("tasks.start", id=params["id"])
        else:
            error = host.scene.api.refused("resource_exhausted", "tasks.start", id=params["id"])
            assert REMEDY in error.message
            assert host.scene.get(params["id"])["status"] == "created"
    if not host.scene.plain:
        host.scene.api.call("tasks.start", id=params["id"])
    assert host.scene.wait(params["id"])["exit_status"] == 8
    host.scene.remove(params["id"])


def test_a_run_with_rm_is_removed_once_its_shim_can_fork(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper(), rm=True)
    subscriber = host.hear()
    with no_forks(task["shim_pid"]):
        host.scene.api.call("tasks.kill", id=task["id"], signal="SIGKILL")
        subscriber.until("TaskExit", task["id"])
    subscriber.until("ContainerDelete", task["id"])


def test_a_killed_shim_breaks_no_pipe_while_there_can_be_no_other(host: Host, tmp_path: Path) -> None:
    stdin, stdout = Fifo(tmp_path / "in"), Fifo(tmp_path / "out").open_for_reading()
    try:
        script = "while read word; do echo $word; done; exit 5"
        task = host.scene.run(host.scene.shell(script, stdio={"stdin": stdin.uri, "stdout": stdout.uri}))
        stdin.open_for_writing().write(b"first\n")
        stdout.read_until(b"first\n")
        subscriber = host.hear()
        with no_forks(forkserver(host.scene)), proc.pidfds_of([task["shim_pid"]]) as pidfds:
            signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
            assert proc.all_ended(pidfds)
            subscriber.until("TaskShimLost", task["id"])
            stdin.write(b"second\n")
        subscriber.until("TaskShimAdopted", task["id"])
        assert stdout.read_until(b"second\n") == b"first\nsecond\n"
        host.scene.api.call("tasks.close_io", id=task["id"], stdin=True)
        assert host.scene.wait(task["id"])["exit_status"] == 5
        host.scene.remove(task["id"])
    finally:
        stdin.close()
        stdout.close()
