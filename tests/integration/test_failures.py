"""What cannot be made or started says why, and leaves nothing (BEHAVIOURS 21-24); the fixtures look for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import proc
from tests.support.events import Subscriber, check_order, of, topics
from tests.support.scene import Scene
from tests.support.specs import Image, Map
from tests.support.wire import WireError

MISSING = "/bin/does-not-exist"


def failed_start(scene: Scene, params: Map) -> WireError:
    """Create and start what cannot be started; the error. Whether create or start finds out is the runtime's affair."""
    scene.api.call("containers.create", **params)
    try:
        scene.api.call("tasks.create", id=params["id"])
    except WireError as error:
        scene.api.refused("not_found", "tasks.get", id=params["id"])
        return error
    try:
        scene.api.call("tasks.start", id=params["id"])
    except WireError as error:
        assert scene.get(params["id"])["status"] in ("created", "stopped")
        scene.api.call("tasks.delete", id=params["id"])
        return error
    raise AssertionError("it started")


def test_a_missing_binary_fails_the_start_without_an_exit_event_and_can_be_deleted(
    scene: Scene, ears: Subscriber
) -> None:
    params = scene.params(MISSING)
    error = failed_start(scene, params)
    assert error.code == "invalid_argument"
    assert MISSING in error.message
    scene.api.call("containers.delete", id=params["id"])
    heard = topics(of(ears.up_to(scene.daemon.last_seq()), params["id"]))
    assert heard[0] == "/containers/create"
    assert heard[-1] == "/containers/delete"
    assert "/tasks/start" not in heard
    assert "/tasks/exit" not in heard


def test_a_file_that_is_no_program_fails_the_start(scene: Scene) -> None:
    error = failed_start(scene, scene.params("/etc"))
    assert error.code == "invalid_argument"


def test_tasks_run_of_a_missing_binary_leaves_nothing_at_all(scene: Scene) -> None:
    params = scene.params(MISSING)
    error = scene.api.refused("invalid_argument", "tasks.run", **params)
    assert MISSING in error.message
    scene.api.refused("not_found", "tasks.get", id=params["id"])
    scene.api.refused("not_found", "containers.get", id=params["id"])


def test_the_id_of_a_failed_run_can_be_used_again(scene: Scene) -> None:
    params = scene.params(MISSING)
    scene.api.refused("invalid_argument", "tasks.run", **params)
    again = scene.params("/bin/true", id=params["id"])
    assert scene.run(again, wait=True, rm=True)["exit"]["exit_status"] == 0


@pytest.mark.parametrize("by", ["request", "somebody else"])
def test_an_init_killed_between_create_and_start_is_stopped_and_deletable(
    scene: Scene, ears: Subscriber, by: str
) -> None:
    params = scene.sleeper()
    task = scene.create(params)
    if by == "request":
        scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    else:
        with proc.pidfds_of([task["pid"]]) as pidfds:
            signal.pidfd_send_signal(pidfds[0], signal.SIGKILL)
    assert scene.wait(params["id"])["exit_status"] == 137
    assert scene.get(params["id"])["status"] == "stopped"
    scene.api.refused("failed_precondition", "tasks.start", id=params["id"])
    assert scene.remove(params["id"])["exit_status"] == 137
    heard = topics(of(ears.up_to(scene.daemon.last_seq()), params["id"]))
    assert heard == ["/containers/create", "/tasks/create", "/tasks/exit", "/tasks/delete", "/containers/delete"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"process": None}, "spec.process"),
        ({"process": {"args": [], "cwd": "/"}}, "spec.process.args"),
        ({"process": {"args": ["/bin/true", 5], "cwd": "/"}}, "spec.process.args"),
        ({"process": {"args": ["/bin/true"], "cwd": "relative"}}, "spec.process.cwd"),
        ({"process": {"args": ["/bin/true"], "cwd": "/", "env": ["NOVALUE"]}}, "spec.process.env"),
        ({"ociVersion": 7}, "spec.ociVersion"),
    ],
    ids=["no process", "no args", "a number in args", "a relative cwd", "env without a value", "a number as version"],
)
def test_a_bad_spec_is_refused_by_the_name_of_the_field(plain_scene: Scene, change: Map, named: str) -> None:
    params = plain_scene.params("/bin/true")
    params["spec"] |= change
    error = plain_scene.api.refused("invalid_argument", "containers.create", **params)
    assert named in error.message
    plain_scene.api.refused("not_found", "containers.get", id=params["id"])


@pytest.mark.parametrize(
    "mount",
    [
        {"type": "bind", "source": "/nowhere/at/all", "options": ["rbind", "ro"]},
        {"type": "nosuchfs", "source": "none", "options": []},
        {"type": "tmpfs", "source": "tmpfs", "options": ["size=nonsense"]},
    ],
    ids=["a source that is missing", "an unknown type", "a bad option"],
)
def test_a_bad_mount_is_refused_by_its_place_in_rootfs(scene: Scene, mount: Map) -> None:
    params = scene.params("/bin/true", rootfs=[*scene.image.mounts, mount])
    scene.api.call("containers.create", **params)
    error = scene.api.refused("invalid_argument", "tasks.create", id=params["id"])
    assert f"rootfs[{len(scene.image.mounts)}]" in error.message
    scene.api.refused("not_found", "tasks.get", id=params["id"])


def test_a_limit_that_the_host_cannot_give_is_refused(scene: Scene) -> None:
    """No cgroup of it may be left: the scene looks."""
    if scene.plain:
        pytest.skip("a plain process is not bound to cpus")
    params = scene.params("/bin/true")
    params["spec"]["linux"]["resources"] = {"cpu": {"cpus": "900"}}
    scene.api.call("containers.create", **params)
    scene.api.refused("invalid_argument", "tasks.create", id=params["id"])
    scene.api.refused("not_found", "tasks.get", id=params["id"])


def test_a_missing_rootfs_is_refused(scene: Scene) -> None:
    if scene.plain:
        pytest.skip("a plain process has no rootfs")
    params = scene.params("/bin/true")
    del params["rootfs"]
    params["spec"]["root"]["path"] = "/nowhere/at/all"
    error = scene.api.refused("invalid_argument", "tasks.run", **params)
    assert "/nowhere/at/all" in error.message
    scene.api.refused("not_found", "containers.get", id=params["id"])


@pytest.mark.parametrize(
    ("name", "code"), [("nosuchruntime", "invalid_argument"), ("/nowhere/runtime", "failed_precondition")]
)
def test_a_runtime_that_is_not_there_is_refused_by_its_name(plain_scene: Scene, name: str, code: str) -> None:
    params = plain_scene.params("/bin/true", runtime={"name": name})
    error = plain_scene.api.refused(code, "tasks.run", **params)
    assert name in error.message
    plain_scene.api.refused("not_found", "containers.get", id=params["id"])


def test_a_runtimes_own_words_and_its_command_are_in_the_error(
    plain_scene: Scene, tmp_path: Path, image: Image
) -> None:
    runtime = fake_runtime(tmp_path, "echo 'the moon is in the wrong quarter' >&2; exit 42")
    params = plain_scene.params("/bin/true", runtime={"name": str(runtime)}, rootfs=list(image.mounts))
    error = plain_scene.api.refused("unknown", "tasks.run", **params)
    assert "the moon is in the wrong quarter" in error.message
    assert error.details["exit_status"] == 42
    assert str(runtime) in error.details["command"]
    assert "the moon" in error.details["stderr"]


def test_a_stdio_path_that_cannot_be_opened_is_refused_by_its_name(scene: Scene, tmp_path: Path) -> None:
    params = scene.params("/bin/true", stdio={"stdout": f"file://{tmp_path}/no/such/folder/out"})
    scene.api.call("containers.create", **params)
    with pytest.raises(WireError, match=r"(invalid_argument|failed_precondition): .*stdio\.stdout"):
        scene.api.call("tasks.create", id=params["id"])
    scene.api.refused("not_found", "tasks.get", id=params["id"])


def test_create_of_an_id_that_exists_leaves_the_existing_task_untouched(scene: Scene) -> None:
    params = scene.sleeper(labels={"first": "yes"})
    before = scene.run(params)
    other = scene.params("/bin/false", id=params["id"], labels={"first": "no"})
    scene.api.refused("already_exists", "containers.create", **other)
    scene.api.refused("already_exists", "tasks.create", id=params["id"])
    scene.api.refused("already_exists", "tasks.run", **other)
    assert scene.get(params["id"]) == before
    assert scene.api.call("containers.get", id=params["id"])["labels"] == {"first": "yes"}
    assert Path(before["bundle"], "config.json").exists()
    os.kill(before["pid"], 0)
    scene.api.call("tasks.kill", id=params["id"], signal="SIGKILL")
    assert scene.wait(params["id"])["exit_status"] == 137


def test_two_creates_of_the_same_id_at_once_make_one_task(scene: Scene) -> None:
    params = scene.sleeper()
    sent = [scene.api.send("tasks.run", **params) for _ in range(8)]
    answers: list[dict[str, Any]] = [scene.api.reply(request) for request in sent]
    codes = sorted("ok" if answer["ok"] else answer["error"]["code"] for answer in answers)
    assert codes == ["already_exists"] * 7 + ["ok"]
    assert scene.get(params["id"])["status"] == "running"


def test_a_failed_create_between_good_ones_disturbs_no_order(scene: Scene, ears: Subscriber) -> None:
    good = [scene.params("/bin/true") for _ in range(4)]
    sent: list[tuple[int, Callable[[dict[str, Any]], bool]]] = []
    for params in good:
        sent.append((scene.api.send("tasks.run", **params, rm=True, wait=True), lambda answer: answer["ok"]))
        bad = scene.api.send("tasks.run", **scene.params(MISSING), rm=True, wait=True)
        sent.append((bad, lambda answer: not answer["ok"]))
    for request, expected in sent:
        answer = scene.api.reply(request)
        assert expected(answer), answer
    heard = ears.up_to(scene.daemon.last_seq())
    check_order(heard)
    for params in good:
        assert topics(of(heard, params["id"]))[1:-1] == [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exit",
            "/tasks/delete",
        ]


def fake_runtime(folder: Path, script: str) -> Path:
    """An OCI runtime that does what the script says."""
    path = folder / "runtime"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
