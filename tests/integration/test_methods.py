"""Every method of API.md's section 4 that this version serves does what stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.pipes import Fifo
from tests.support.scene import Scene

# -- the daemon itself


def test_version_tells_name_version_and_runtimes(daemon: Daemon) -> None:
    told = daemon.raw.using(namespace=None).call("version")
    assert told["name"] == "shimyard"
    assert told["api"] == [1]
    assert told["pid"] == daemon.pid
    runtimes = {one["name"]: one for one in told["runtimes"]}
    assert {"crun", "runc", "process"} <= runtimes.keys()
    assert all({"name", "path", "version", "usable", "why"} <= one.keys() for one in runtimes.values())
    assert all(one["usable"] or one["why"] for one in runtimes.values())


def test_health_counts_tasks_and_tells_the_last_event(plain_scene: Scene) -> None:
    before = plain_scene.api.call("health")
    plain_scene.run(plain_scene.sleeper())
    after = plain_scene.api.call("health")
    assert after["status"] == "ok"
    assert after["tasks"] == before["tasks"] + 1
    assert after["actors"] > before["actors"]
    assert after["uptime_ns"] > before["uptime_ns"] > 0
    assert after["events"]["last_seq"] > before["events"]["last_seq"]


# -- namespaces


def test_namespaces_are_made_changed_listed_and_deleted(plain_scene: Scene) -> None:
    api, name = plain_scene.api, f"{plain_scene.token}.room"
    made = api.call("namespaces.create", name=name, labels={"a": "1"})
    assert (made["name"], made["labels"]) == (name, {"a": "1"})
    api.refused("already_exists", "namespaces.create", name=name)
    assert api.call("namespaces.update", name=name, labels={"b": "2"})["labels"] == {"b": "2"}
    assert {"name": name, "labels": {"b": "2"}} in api.call("namespaces.list")["namespaces"]
    api.call("namespaces.delete", name=name)
    api.refused("not_found", "namespaces.delete", name=name)
    api.refused("not_found", "namespaces.update", name=name, labels={})
    assert name not in [one["name"] for one in api.call("namespaces.list")["namespaces"]]


def test_a_namespace_that_is_not_empty_stays(plain_scene: Scene) -> None:
    params = plain_scene.params("/bin/true")
    plain_scene.api.call("containers.create", **params)
    plain_scene.api.refused("failed_precondition", "namespaces.delete", name=plain_scene.token)
    assert plain_scene.api.call("containers.get", id=params["id"])


def test_the_same_id_in_two_namespaces_is_two_containers(plain_scene: Scene) -> None:
    other = Scene(plain_scene.daemon, plain_scene.image, "process")
    params = plain_scene.sleeper()
    first, second = plain_scene.run(params), other.run(params)
    assert first["pid"] != second["pid"]
    other.api.call("tasks.kill", id=params["id"], signal=9)
    assert other.wait(params["id"])["exit_status"] == 137
    assert plain_scene.get(params["id"])["status"] == "running"
    other.clear()


# -- containers


def test_a_container_comes_back_as_it_was_given(scene: Scene) -> None:
    params = scene.params("/bin/true", labels={"app": "web"}, stop={"signal": "SIGINT", "grace": 2.5}, timeout=60.0)
    made = scene.api.call("containers.create", **params)
    assert made == scene.api.call("containers.get", id=params["id"])
    assert made["namespace"] == scene.token
    assert made["spec"] == params["spec"]
    assert made["labels"] == {"app": "web"}
    assert made["stop"] == {"signal": "SIGINT", "grace": 2.5}
    assert made["timeout"] == 60.0
    assert made["runtime"]["name"] == scene.runtime
    assert made["created_at"] == made["updated_at"] > 0
    scene.api.refused("already_exists", "containers.create", **params)


def test_a_container_is_changed_and_deleted(plain_scene: Scene) -> None:
    api, params = plain_scene.api, plain_scene.params("/bin/false", labels={"a": "1"})
    made = api.call("containers.create", **params)
    spec = plain_scene.params("/bin/true")["spec"]
    changed = api.call("containers.update", id=params["id"], labels={"b": "2"}, spec=spec)
    assert (changed["labels"], changed["spec"], changed["created_at"]) == ({"b": "2"}, spec, made["created_at"])
    assert changed["updated_at"] > made["updated_at"]
    api.call("tasks.create", id=params["id"])
    api.call("tasks.start", id=params["id"])
    assert plain_scene.wait(params["id"])["exit_status"] == 0
    plain_scene.remove(params["id"])
    for method in ("get", "update", "delete"):
        api.refused("not_found", f"containers.{method}", id=params["id"])
    api.refused("not_found", "tasks.create", id=params["id"])


def test_containers_are_filtered_by_their_labels(plain_scene: Scene) -> None:
    api = plain_scene.api
    for colour in ("red", "green", "blue"):
        api.call("containers.create", **plain_scene.params("/bin/true", labels={"colour": colour, "kind": "test"}))

    def colours(*filters: str) -> list[str]:
        found = api.call("containers.list", filters=list(filters))["containers"]
        return sorted(one["labels"]["colour"] for one in found)

    assert colours() == ["blue", "green", "red"]
    assert colours("labels.colour==red") == ["red"]
    assert colours("labels.colour==red", "labels.colour==blue") == ["blue", "red"]
    assert colours("labels.kind==test,labels.colour!=red") == ["blue", "green"]
    assert colours("labels.colour~=^(re|gre)") == ["green", "red"]
    error = api.refused("invalid_argument", "containers.list", filters=["==red"])
    assert "filters[0]" in error.message


# -- tasks


def test_a_task_goes_from_created_to_running_to_stopped(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin = fifo("in")
    params = scene.shell("read line", stdio={"stdin": stdin.uri})
    task = scene.create(params)
    assert (task["id"], task["namespace"], task["status"]) == (params["id"], scene.token, "created")
    assert (task["exit_status"], task["exited_at"], task["started_at"]) == (None, None, None)
    assert task["runtime"]["name"] == scene.runtime
    assert task["shim"] == "alive"
    assert task["execs"] == []
    assert Path(task["bundle"]).is_dir()
    assert scene.api.call("tasks.start", id=params["id"]) == {"pid": task["pid"]}
    running = scene.get(params["id"])
    assert running["status"] == "running"
    assert running["started_at"] >= running["created_at"]
    scene.api.refused("failed_precondition", "tasks.start", id=params["id"])
    stdin.open_for_writing().write(b"go\n")
    scene.wait(params["id"])
    stopped = scene.get(params["id"])
    assert (stopped["status"], stopped["exit_status"], stopped["pid"]) == ("stopped", 0, task["pid"])
    scene.api.refused("failed_precondition", "tasks.start", id=params["id"])


def test_a_refusal_says_request_and_state(plain_scene: Scene) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    error = plain_scene.api.refused("failed_precondition", "tasks.delete", id=params["id"])
    assert "delete" in error.message
    assert "running" in error.message


def test_tasks_are_listed_and_filtered(plain_scene: Scene) -> None:
    api = plain_scene.api
    running = plain_scene.run(plain_scene.sleeper(labels={"app": "web"}))["id"]
    created = plain_scene.create(plain_scene.sleeper(labels={"app": "db"}))["id"]

    def ids(*filters: str) -> list[str]:
        return sorted(one["id"] for one in api.call("tasks.list", filters=list(filters))["tasks"])

    assert ids() == sorted([running, created])
    assert ids("status==running") == [running]
    assert ids("status==created") == [created]
    assert ids("labels.app==web,status==running", "labels.app==db") == sorted([running, created])
    assert ids("labels.app==web,status==created") == []
    assert plain_scene.daemon.raw.call("tasks.list")["tasks"] == []


def test_the_pids_of_a_task_are_those_of_the_host(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    out = fifo("out").open_for_reading()
    params = scene.shell("sleep 10000 & echo ready; wait", stdio={"stdout": out.uri})
    task = scene.run(params)
    out.read_until(b"ready\n")
    pids = [one["pid"] for one in scene.api.call("tasks.pids", id=params["id"])["pids"]]
    assert task["pid"] in pids
    assert len(pids) == 2
    commands = {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].split(b"/")[-1] for pid in pids}
    assert b"sleep" in b" ".join(commands)


def test_close_io_ends_cat(scene: Scene, fifo: Callable[[str], Fifo]) -> None:
    stdin, out = fifo("in"), fifo("out").open_for_reading()
    params = scene.params("/bin/cat", stdio={"stdin": stdin.uri, "stdout": out.uri})
    scene.run(params)
    stdin.open_for_writing().write(b"some words")
    out.read_until(b"some words")
    scene.api.call("tasks.close_io", id=params["id"], stdin=True)
    assert scene.wait(params["id"])["exit_status"] == 0
    assert out.read_to_end() == b"some words"


def test_close_io_of_a_task_without_stdin_is_refused_and_harms_nothing(scene: Scene) -> None:
    params = scene.sleeper()
    scene.run(params)
    scene.api.refused("failed_precondition", "tasks.close_io", id=params["id"], stdin=True)
    assert scene.get(params["id"])["status"] == "running"


def test_the_shim_of_a_task_is_told_of(scene: Scene) -> None:
    params = scene.sleeper()
    task = scene.run(params)
    told = scene.api.call("tasks.shim", id=params["id"])
    assert told["pid"] == task["shim_pid"] != scene.daemon.pid
    assert told["adopted"] is False
    assert told["started_at"] <= task["started_at"]
    assert Path(f"/proc/{told['pid']}").exists()


def test_run_answers_with_the_running_task(scene: Scene) -> None:
    task = scene.run(scene.sleeper())
    assert task["status"] == "running"
    assert Path(f"/proc/{task['pid']}").exists()


def test_run_with_rm_removes_task_and_container_after_the_exit(scene: Scene) -> None:
    ears = scene.daemon.subscribe()
    params = scene.params("/bin/true")
    scene.run(params, rm=True)
    ears.until("ContainerDelete", params["id"])
    ears.close()
    scene.api.refused("not_found", "tasks.get", id=params["id"])
    scene.api.refused("not_found", "containers.get", id=params["id"])


def test_run_with_wait_and_without_rm_leaves_a_stopped_task(scene: Scene) -> None:
    params = scene.shell("exit 4")
    done = scene.run(params, wait=True)
    assert done["exit"]["exit_status"] == done["task"]["exit_status"] == 4
    assert scene.get(params["id"]) == done["task"]


def test_the_spec_reaches_the_program(scene: Scene) -> None:
    process = {"env": ["PATH=/usr/bin:/bin", "GREETING=hello there"], "cwd": "/tmp", "user": {"uid": 1234, "gid": 4321}}
    done = scene.output("echo $GREETING; pwd; id -u; id -g", process=process)
    assert done["stdout"] == b"hello there\n/tmp\n1234\n4321\n"
