"""A host that was started again: what ran has ended with it, and that is told; what had stopped is kept; nothing is left behind,
and no process that has the pid of one from before is touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.store.database import close_database, open_database
from actors.store.tasks import PutTask, load_tasks
from shimproc.process.estate import begun
from tests.integration.conftest import _warm
from tests.support import leaks, proc
from tests.support.daemon import MARK, Daemon
from tests.support.events import check_order, of, topics
from tests.support.pipes import Fifo
from tests.support.reboot import WAYS, Host
from tests.support.scene import Scene
from tests.support.specs import Image

MADE = ["/containers/create", "/tasks/create"]
ENDED = ["/tasks/exit", "/tasks/delete"]


@pytest.fixture
def host(tmp_path: Path, image: Image, runtime: str) -> Iterator[Host]:
    """A daemon whose host can be started again; at the end nothing is left of any task."""
    boot = tmp_path / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    daemon = Daemon(environment={"SHIMYARD_BOOT_ID": str(boot), "SHIMYARD_CRASH": str(tmp_path / "armed")})
    (tmp_path / "armed").touch()
    try:
        daemon.start()
        _warm(daemon)
        scene = Scene(daemon, image, runtime)
        found = Host(scene, boot)
        before = leaks.Snapshot.of(daemon, scene.token)
        yield found
        print(daemon.log[-6000:])
        check_order(daemon.replay())
        scene.clear()
        leaks.check(daemon, before, scene.token)
    finally:
        daemon.destroy()


def told(host: Host, task: dict[str, Any]) -> list[str]:
    """The kinds of the events about a task, and its container, in order."""
    return topics(of(host.daemon.replay(), task["id"]))


def exits(host: Host, task: dict[str, Any]) -> list[tuple[str, int, int, str | None]]:
    """(whose, pid, status, reason) of each exit of a task."""
    events = [one["event"] for one in of(host.daemon.replay(), task["id"]) if one["type"] == "TaskExit"]
    return [(event["id"], event["pid"], event["exit_status"], event.get("reason")) for event in events]


@pytest.mark.parametrize("way", WAYS)
def test_what_ran_has_ended_and_is_deleted_and_its_container_stays(host: Host, way: str) -> None:
    running = host.scene.run(host.scene.sleeper())
    created = host.scene.create(host.scene.sleeper())
    host.reboot(way)
    for task in (running, created):
        host.scene.api.refused("not_found", "tasks.wait", id=task["id"])
        assert exits(host, task) == [(task["id"], task["pid"], 255, "shim-lost")]
        assert host.scene.api.call("containers.get", id=task["id"])["id"] == task["id"]
    assert told(host, running) == [*MADE, "/tasks/start", *ENDED]
    assert told(host, created) == [*MADE, *ENDED]
    assert host.scene.api.call("tasks.list") == {"tasks": []}
    again = host.scene.api.call("tasks.create", id=running["id"])
    assert again["status"] == "created"


@pytest.mark.parametrize("way", WAYS)
def test_with_rm_the_container_is_deleted_after_it(host: Host, way: str) -> None:
    task = host.scene.run(host.scene.sleeper(), rm=True)
    host.reboot(way)
    ears = host.daemon.subscribe()
    if "/containers/delete" not in told(host, task):
        ears.until("ContainerDelete", task["id"])
    ears.close()
    assert exits(host, task) == [(task["id"], task["pid"], 255, "shim-lost")]
    assert told(host, task) == [*MADE, "/tasks/start", *ENDED, "/containers/delete"]


@pytest.mark.parametrize("way", WAYS)
def test_what_had_stopped_keeps_its_true_status_until_it_is_deleted(host: Host, way: str) -> None:
    task = host.scene.run(host.scene.shell("exit 7"))
    ended = host.scene.wait(task["id"])
    for _ in range(2):
        host.reboot(way)
        assert host.scene.wait(task["id"]) == ended
        after = host.scene.get(task["id"])
        assert (after["status"], after["exit_status"], after["shim"]) == ("stopped", 7, "lost")
    host.scene.api.refused("not_found", "tasks.kill", id=task["id"], signal="SIGKILL")
    host.scene.api.refused("failed_precondition", "tasks.shim", id=task["id"])
    assert host.scene.remove(task["id"]) == ended
    assert told(host, task) == [*MADE, "/tasks/start", *ENDED, "/containers/delete"]


@pytest.mark.parametrize("way", WAYS)
def test_its_execs_have_ended_before_it(host: Host, way: str) -> None:
    task = host.scene.run(host.scene.sleeper())
    host.scene.exec(task["id"], "done", "exit 3")
    host.scene.api.call("tasks.wait", id=task["id"], exec_id="done")
    host.scene.exec(task["id"], "runs", "sleep 1000")
    process = host.scene.process("/bin/true")
    host.scene.api.call("tasks.exec", id=task["id"], exec_id="added", process=process)
    pids = {one["id"]: one["pid"] for one in host.scene.get(task["id"])["execs"]}
    host.reboot(way)
    host.scene.api.refused("not_found", "tasks.wait", id=task["id"])
    lost = [("runs", pids["runs"], 255, "shim-lost"), (task["id"], task["pid"], 255, "shim-lost")]
    assert exits(host, task) == [("done", pids["done"], 3, None), *lost]
    assert told(host, task).count("/tasks/delete") == 4


def test_a_journal_that_is_kept_tells_the_true_exit(host: Host, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    task = host.scene.run(host.scene.shell("read line; exit 77", stdio={"stdin": stdin.uri}))
    host.daemon.kill9()
    with proc.pidfds_of([task["pid"]]) as pidfds:
        stdin.open_for_writing().write(b"go\n")
        assert proc.all_ended(pidfds)
    host.reboot("STATE is kept")
    host.scene.api.refused("not_found", "tasks.wait", id=task["id"])
    assert exits(host, task) == [(task["id"], task["pid"], 77, None)]
    assert told(host, task) == [*MADE, "/tasks/start", *ENDED]


def test_an_emptied_state_is_as_good_as_a_start_of_the_host(host: Host) -> None:
    task = host.scene.run(host.scene.sleeper())
    host.power_off()
    host.empty_state()
    host.daemon.restart()
    host.scene.api.refused("not_found", "tasks.wait", id=task["id"])
    ((_, pid, status, reason),) = exits(host, task)
    assert (pid, status, reason) in ((task["pid"], 255, "shim-lost"), (task["pid"], 137, None))  # if nobody has reaped it yet
    assert told(host, task) == [*MADE, "/tasks/start", *ENDED]


def test_what_runs_on_when_state_is_emptied_is_ended_and_not_left_unseen(host: Host) -> None:
    task = host.scene.run(host.scene.shell("sleep 1000 & wait"))
    ours = [one for one in proc.belonging_to(host.daemon.folder, MARK) if one.pid != host.daemon.pid]
    host.daemon.kill9()
    with proc.pidfds_of([one.pid for one in ours]) as pidfds:
        host.empty_state()
        host.daemon.restart()
        host.scene.api.refused("not_found", "tasks.wait", id=task["id"])
        assert proc.all_ended(pidfds)
    ((_, _, status, reason),) = exits(host, task)
    assert (status, reason) in ((137, "bundle-lost"), (255, "shim-lost"))
    assert told(host, task) == [*MADE, "/tasks/start", *ENDED]


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_has_a_former_pid_is_not_touched(host: Host, way: str) -> None:
    task = host.scene.run(host.scene.sleeper())
    host.power_off()
    with subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True) as stranger:
        db = open_database(host.daemon.root / "shimyard.db")
        (row,) = load_tasks(db)
        taken = dataclasses.replace(row, pid=stranger.pid, shim_pid=stranger.pid, begun=begun(stranger.pid))
        PutTask(taken).statement.run(db, [PutTask(taken).columns()])
        close_database(db)
        for status in Path(host.daemon.state).glob(f"oci/*/{task['id']}-*/*"):  # what crun and runc know of it
            with contextlib.suppress(UnicodeDecodeError, OSError):
                status.write_text(status.read_text().replace(str(task["pid"]), str(stranger.pid)))
        host.start(way)
        host.scene.api.refused("not_found", "tasks.wait", id=task["id"])
        assert told(host, task) == [*MADE, "/tasks/start", *ENDED]
        assert stranger.poll() is None
        os.kill(stranger.pid, signal.SIGKILL)


@pytest.mark.parametrize("way", WAYS)
def test_of_what_was_being_made_nothing_is_left(host: Host, way: str) -> None:
    armed = Path(host.boot.with_name("armed"))
    armed.write_text("daemon: created by the shim")
    params = host.scene.sleeper()
    host.scene.api.send("tasks.run", **params)
    assert host.daemon.process is not None
    host.daemon.process.wait(20)
    host.reboot(way)
    host.scene.api.refused("not_found", "tasks.wait", id=params["id"])
    assert host.scene.api.call("tasks.list") == {"tasks": []}
    told = [topic for topic in topics(of(host.daemon.replay(), params["id"])) if topic.startswith("/tasks")]
    assert told in ([], ["/tasks/create", *ENDED])  # the shim's word was on its way


@pytest.mark.parametrize("way", WAYS)
def test_whoever_asks_again_with_the_key_of_a_run_is_told_how_it_ended(host: Host, way: str) -> None:
    params = host.scene.sleeper()
    ears = host.daemon.subscribe()
    host.scene.api.using(key="one").send("tasks.run", **params, rm=True, wait=True)
    ears.until("TaskStart", params["id"])
    ears.close()
    host.reboot(way)
    done = host.scene.api.using(key="one").call("tasks.run", **params, rm=True, wait=True)
    assert (done["exit"]["exit_status"], done["exit"]["reason"]) == (255, "shim-lost")
