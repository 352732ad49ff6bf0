"""A database that is lost while tasks run: they are taken back from their bundles, and end as they would have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.store.database import close_database, open_database
from actors.store.tasks import DropTask
from tests.integration.test_adoption import forkserver_of, kill
from tests.support import proc
from tests.support.daemon import Daemon
from tests.support.events import check_order, of, topics
from tests.support.pipes import Fifo
from tests.support.scene import Scene

LIVED = ["/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete", "/containers/delete"]


def lose(daemon: Daemon) -> None:
    """The daemon is killed, and its database is gone."""
    daemon.kill9()
    for file in daemon.root.glob("shimyard.db*"):
        file.unlink()


def same(task: dict[str, Any]) -> dict[str, Any]:
    """What must not be another's."""
    kept = ("id", "namespace", "status", "pid", "shim_pid", "stdio", "bundle", "runtime", "created_at", "started_at", "shim")
    return {name: task[name] for name in kept}


def test_what_runs_is_taken_back_with_its_container(own_scene: Scene) -> None:
    limits = {"labels": {"a": "1"}, "stop": {"signal": "SIGKILL", "grace": 1.0}, "timeout": 1000.0}
    task = own_scene.run(params := own_scene.sleeper(**limits))
    container = own_scene.api.call("containers.get", id=task["id"])
    lose(own_scene.daemon)
    own_scene.daemon.restart()
    assert task["id"] in [one["id"] for one in own_scene.api.call("tasks.list")["tasks"]]
    assert task["pid"] in [one["pid"] for one in own_scene.api.call("tasks.pids", id=task["id"])["pids"]]
    assert same(own_scene.get(task["id"])) == same(task)
    again = own_scene.api.call("containers.get", id=task["id"])
    if not own_scene.plain:  # the spec's own root.path is not kept, where mounts take its place
        again["spec"]["root"] = container["spec"]["root"]
    assert again == container
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    ended = own_scene.api.call("tasks.stop", id=task["id"])
    assert ended["exit_status"] == 137
    own_scene.remove(task["id"])
    check_order(own_scene.daemon.replay())
    assert topics(of(own_scene.daemon.replay(), params["id"])) == LIVED


def test_what_has_ended_meanwhile_has_its_true_status(own_scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    task = own_scene.run(own_scene.shell("read line; exit 77", stdio={"stdin": stdin.uri}))
    stopped = own_scene.run(own_scene.shell("exit 3"))
    own_scene.wait(stopped["id"])
    lose(own_scene.daemon)
    with proc.pidfds_of([task["pid"]]) as pidfds:
        stdin.open_for_writing().write(b"go\n")
        assert proc.all_ended(pidfds)
    own_scene.daemon.restart()
    for one, status in ((task, 77), (stopped, 3)):
        assert own_scene.wait(one["id"])["exit_status"] == status
        own_scene.remove(one["id"])
        assert topics(of(own_scene.daemon.replay(), one["id"])) == LIVED
    check_order(own_scene.daemon.replay())


def test_what_was_created_can_be_started(own_scene: Scene) -> None:
    task = own_scene.create(own_scene.shell("exit 5"))
    lose(own_scene.daemon)
    own_scene.daemon.restart()
    assert own_scene.api.call("tasks.start", id=task["id"]) == {"pid": task["pid"]}
    assert own_scene.wait(task["id"])["exit_status"] == 5
    own_scene.remove(task["id"])


def test_with_rm_it_is_removed_after_its_exit(own_scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    task = own_scene.run(own_scene.shell("read line", stdio={"stdin": stdin.uri}), rm=True)
    lose(own_scene.daemon)
    own_scene.daemon.restart()
    ears = own_scene.daemon.subscribe()
    stdin.open_for_writing().write(b"go\n")
    ears.until("ContainerDelete", task["id"])
    ears.close()


def test_its_row_alone_may_be_lost(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())
    own_scene.daemon.kill9()
    db = open_database(own_scene.daemon.root / "shimyard.db")
    change = DropTask(own_scene.token, task["id"])
    change.statement.run(db, [change.columns()])
    close_database(db)
    own_scene.daemon.restart()
    own_scene.api.call("tasks.pids", id=task["id"])
    assert same(own_scene.get(task["id"])) == same(task)
    own_scene.api.call("tasks.stop", id=task["id"], grace=0)
    own_scene.remove(task["id"])
    check_order(own_scene.daemon.replay())
    assert topics(of(own_scene.daemon.replay(), task["id"])) == LIVED


def test_without_its_shim_another_takes_it_over(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())
    forkserver = forkserver_of(own_scene.daemon)
    lose(own_scene.daemon)
    kill(forkserver, task["shim_pid"])
    own_scene.daemon.restart()
    own_scene.api.call("tasks.pids", id=task["id"])
    assert own_scene.get(task["id"])["pid"] == task["pid"]
    own_scene.api.call("tasks.kill", id=task["id"], signal="SIGKILL")
    own_scene.wait(task["id"])
    own_scene.remove(task["id"])
    check_order(own_scene.daemon.replay())


def test_of_what_was_not_made_yet_nothing_is_left(own_scene: Scene) -> None:
    task = own_scene.create(own_scene.sleeper())
    bundle = Path(task["bundle"])
    forkserver = forkserver_of(own_scene.daemon)
    lose(own_scene.daemon)
    kill(forkserver, task["shim_pid"])
    (bundle / "journal").unlink()  # killed just before it was written
    with proc.pidfds_of([task["pid"]]) as pidfds:
        own_scene.daemon.restart()
        made = own_scene.create(own_scene.params("/bin/true") | {"id": task["id"]})
        assert proc.all_ended(pidfds)
    assert made["pid"] != task["pid"]
    own_scene.remove(task["id"], force=True)


def test_what_is_no_bundle_of_a_task_is_swept(own_scene: Scene) -> None:
    folder = own_scene.daemon.state / "tasks" / own_scene.token
    own_scene.daemon.kill9()
    for name in ("empty", "odd"):
        (folder / name).mkdir(parents=True)
    (folder / "odd" / "create.cbor").write_bytes(b"\xff")
    own_scene.daemon.restart()
    own_scene.lifecycle(own_scene.params("/bin/true"))  # the disk's thread does one thing after the other
    assert not folder.exists()
    shutil.rmtree(folder, ignore_errors=True)
