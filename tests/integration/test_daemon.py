"""The daemon holds no task's life: it may be stopped, killed and started again (BEHAVIOURS 25-26)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest

from tests.support import proc
from tests.support.daemon import MARK, STOP_SECONDS, Daemon
from tests.support.events import check_order, of, topics
from tests.support.pipes import Fifo
from tests.support.scene import Scene

WAYS = ("SIGTERM", "SIGKILL")


def end(daemon: Daemon, way: str) -> None:
    """End the daemon in one of the ways."""
    if way == "SIGTERM":
        assert daemon.stop() == 0
    else:
        daemon.kill9()


@pytest.mark.parametrize("way", WAYS)
def test_running_tasks_outlive_the_daemon_and_are_found_again(own_scene: Scene, way: str) -> None:
    params = own_scene.sleeper()
    before = own_scene.run(params)
    end(own_scene.daemon, way)
    os.kill(before["pid"], 0)
    own_scene.daemon.restart()
    after = own_scene.get(params["id"])
    same = ("id", "status", "pid", "shim_pid", "started_at", "created_at", "bundle", "stdio", "runtime")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    own_scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    assert own_scene.wait(params["id"])["exit_status"] == 137
    own_scene.remove(params["id"])
    told = own_scene.daemon.replay()
    check_order(told)
    lived = [
        "/containers/create",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
        "/containers/delete",
    ]
    assert topics(of(told, params["id"])) == lived


@pytest.mark.parametrize("way", WAYS)
def test_a_task_that_ended_meanwhile_has_its_true_status_and_its_exit_event(
    own_scene: Scene, fifo: Callable[[str], Fifo], way: str
) -> None:
    stdin = fifo("in")
    params = own_scene.shell("read line; exit 77", stdio={"stdin": stdin.uri})
    task = own_scene.run(params)
    seq = own_scene.daemon.last_seq()
    end(own_scene.daemon, way)
    with proc.pidfds_of([task["pid"]]) as pidfds:
        stdin.open_for_writing().write(b"go\n")
        assert proc.all_ended(pidfds)
    own_scene.daemon.restart()
    ended = own_scene.wait(params["id"])
    assert (ended["exit_status"], ended["pid"]) == (77, task["pid"])
    assert topics(of(own_scene.daemon.replay(seq), params["id"])) == ["/tasks/exit"]
    assert own_scene.remove(params["id"]) == ended


@pytest.mark.parametrize("way", WAYS)
def test_a_created_task_can_be_started_after_a_restart(own_scene: Scene, way: str) -> None:
    params = own_scene.shell("exit 12")
    task = own_scene.create(params)
    end(own_scene.daemon, way)
    own_scene.daemon.restart()
    assert own_scene.api.call("tasks.start", id=params["id"]) == {"pid": task["pid"]}
    assert own_scene.wait(params["id"])["exit_status"] == 12
    own_scene.remove(params["id"])


@pytest.mark.parametrize("way", WAYS)
def test_output_goes_on_while_there_is_no_daemon(own_scene: Scene, fifo: Callable[[str], Fifo], way: str) -> None:
    stdin, out = fifo("in"), fifo("out").open_for_reading()
    params = own_scene.params("/bin/cat", stdio={"stdin": stdin.uri, "stdout": out.uri})
    own_scene.run(params)
    stdin.open_for_writing().write(b"before ")
    out.read_until(b"before ")
    end(own_scene.daemon, way)
    stdin.write(b"meanwhile ")
    out.read_until(b"meanwhile ")
    own_scene.daemon.restart()
    stdin.write(b"after")
    stdin.close()
    assert own_scene.wait(params["id"])["exit_status"] == 0
    assert out.read_to_end() == b"before meanwhile after"
    own_scene.remove(params["id"])


def test_a_run_with_rm_is_removed_though_the_daemon_was_killed_meanwhile(
    own_scene: Scene, fifo: Callable[[str], Fifo]
) -> None:
    stdin = fifo("in")
    params = own_scene.shell("read line", stdio={"stdin": stdin.uri})
    own_scene.run(params, rm=True)
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    ears = own_scene.daemon.subscribe()
    stdin.open_for_writing().write(b"go\n")
    ears.until("ContainerDelete", params["id"])
    ears.close()
    own_scene.api.refused("not_found", "tasks.get", id=params["id"])


def test_containers_and_namespaces_outlive_the_daemon(own_scene: Scene) -> None:
    made = own_scene.api.call("containers.create", **own_scene.params("/bin/true", labels={"a": "1"}))
    own_scene.api.call("namespaces.update", name=own_scene.token, labels={"b": "2"})
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert own_scene.api.call("containers.get", id=made["id"]) == made
    assert {"name": own_scene.token, "labels": {"b": "2"}} in own_scene.api.call("namespaces.list")["namespaces"]


@pytest.mark.timeout(120)
def test_a_daemon_killed_again_and_again_loses_no_task(own_scene: Scene) -> None:
    made = [own_scene.sleeper() for _ in range(8)]
    pids = {params["id"]: own_scene.run(params)["pid"] for params in made}
    for _ in range(4):
        own_scene.daemon.kill9()
        own_scene.daemon.restart()
    assert {task["id"]: task["pid"] for task in own_scene.api.call("tasks.list")["tasks"]} == pids
    for params in made:
        own_scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
        assert own_scene.wait(params["id"])["exit_status"] == 137
    check_order(own_scene.daemon.replay())


def test_a_second_daemon_on_the_same_state_is_refused_and_the_first_serves_on(own_daemon: Daemon) -> None:
    second = own_daemon.spawn()
    assert second.wait(STOP_SECONDS) not in (0, None)
    assert str(own_daemon.pid) in own_daemon.log
    assert "--state" in own_daemon.log
    assert own_daemon.health()["status"] == "ok"
    assert own_daemon.connect().call("version")["pid"] == own_daemon.pid


def test_as_json_every_line_of_the_log_is_an_object_also_a_refusal_to_start() -> None:
    daemon = Daemon("--log-format", "json", "--log-level", "debug")
    try:
        daemon.start()
        pid = daemon.pid
        assert daemon.spawn().wait(STOP_SECONDS) == 1
        daemon.raw.refused("not_found", "tasks.get", id="nobody")
        os.kill(pid, signal.SIGUSR1)
        assert daemon.stop() == 0
        lines = [json.loads(line) for line in (daemon.folder / "log").read_text().splitlines()]
    finally:
        daemon.destroy()
    assert any(line["level"] == "critical" and f"pid {pid}" in line["message"] for line in lines)
    assert any(line["message"].startswith("serving ") for line in lines)
    assert any("the stacks of all threads" in line["message"] for line in lines)


def test_a_clean_stop_ends_daemon_and_forkserver_when_there_is_no_task() -> None:
    daemon = Daemon()
    try:
        daemon.start()
        params = {"ociVersion": "1.0.2", "process": {"args": ["/bin/true"], "cwd": "/"}, "root": {"path": "/"}}
        daemon.raw.call("tasks.run", id="one", spec=params, runtime={"name": "process"}, rm=True, wait=True)
        left = proc.belonging_to(daemon.folder, MARK)
        with proc.pidfds_of(process.pid for process in left) as pidfds:
            assert daemon.stop() == 0
            assert proc.all_ended(pidfds), f"still there: {', '.join(map(str, left))}"
    finally:
        daemon.destroy()
