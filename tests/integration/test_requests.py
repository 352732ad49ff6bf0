"""The request as such: what is refused, by which code, before any method is served; and who may ask at all."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import cbor2
import pytest

from actors.methods import METHODS
from tests.support.daemon import Daemon
from tests.support.scene import Scene

NOT_SERVED_YET = frozenset({"tasks.checkpoint"})
OF_ONE_TASK = (
    *("get", "wait", "kill", "stop", "start", "delete", "pids", "shim", "close_io", "logs"),
    *("exec", "delete_process", "resize", "pause", "resume", "update", "attach"),
)
NEEDED: dict[str, dict[str, Any]] = {
    "kill": {"signal": 9},
    "close_io": {"stdin": True},
    "exec": {"exec_id": "x", "process": {"args": ["/bin/true"], "cwd": "/"}},
    "delete_process": {"exec_id": "x"},
    "resize": {"width": 80, "height": 24},
    "update": {"resources": {"pids": {"limit": 9}}},
}


@pytest.mark.parametrize("method", sorted(name for name, row in METHODS.items() if row.namespaced))
def test_a_namespace_is_required(daemon: Daemon, method: str) -> None:
    error = daemon.raw.using(namespace=None).refused("failed_precondition", method)
    assert "namespace is required" in error.message


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_unknown_param_is_refused_by_its_name(daemon: Daemon, method: str) -> None:
    error = daemon.raw.refused("invalid_argument", method, nonsense=1)
    assert "nonsense" in error.message


@pytest.mark.parametrize("method", [f"tasks.{name}" for name in OF_ONE_TASK] + ["containers.get", "containers.delete"])
def test_a_value_of_the_wrong_type_is_refused_by_its_name(daemon: Daemon, method: str) -> None:
    error = daemon.raw.refused("invalid_argument", method, id=5)
    assert "id" in error.message


@pytest.mark.parametrize("name", OF_ONE_TASK)
def test_a_task_that_is_not_there_is_not_found(daemon: Daemon, name: str) -> None:
    error = daemon.raw.refused("not_found", f"tasks.{name}", id="nobody", **NEEDED.get(name, {}))
    assert "nobody" in error.message


@pytest.mark.parametrize("method", sorted(NOT_SERVED_YET))
def test_what_this_version_does_not_serve_is_unimplemented(plain_scene: Scene, method: str) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    more = {"path": "/nowhere"} if method == "tasks.checkpoint" else {}
    plain_scene.api.refused("unimplemented", method, id=params["id"], **more)


@pytest.mark.parametrize("method", ["no.such.method", "tasks", "tasks.", "Tasks.get", ""])
def test_an_unknown_method_is_unimplemented(daemon: Daemon, method: str) -> None:
    daemon.raw.refused("unimplemented", method)


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_unimplemented_and_told_the_versions_served(daemon: Daemon, version: int) -> None:
    error = daemon.raw.using(v=version).refused("unimplemented", "health")
    assert "1" in error.message


@pytest.mark.parametrize(
    "bad", ["../../etc", "", "a" * 77, ".hidden", "-dash", "a..b", "a/b", "a b", "ümlaut", "a\0b", "a-"]
)
def test_what_is_no_identifier_is_refused_before_anything_touches_the_disk(plain_scene: Scene, bad: str) -> None:
    api = plain_scene.api
    assert (
        "id" in api.refused("invalid_argument", "containers.create", **plain_scene.params("/bin/true", id=bad)).message
    )
    assert "namespace" in api.using(namespace=bad).refused("invalid_argument", "tasks.list").message


@pytest.mark.parametrize("request_id", [1, -5, 2**63, "text", b"bytes", ""])
def test_the_id_of_a_request_is_echoed(daemon: Daemon, request_id: object) -> None:
    client = daemon.connect()
    client.send_frames(b"", cbor2.dumps({"v": 1, "id": request_id, "method": "health", "params": {}}))
    assert client.reply(request_id)["ok"]
    client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\x00",
        b"garbage",
        cbor2.dumps([1, 2]),
        cbor2.dumps({"v": 1})[:-1],
        b"\x81" * 5000,
        cbor2.dumps({}) * 2,
    ],
    ids=["nothing", "a break", "a number", "garbage", "a list", "cut short", "very deep", "two at once"],
)
def test_what_is_not_one_map_is_answered_and_service_goes_on(daemon: Daemon, body: bytes) -> None:
    client = daemon.connect()
    client.send_frames(b"", body)
    answer = client.reply(None)
    assert (answer["ok"], answer["error"]["code"]) == (False, "invalid_argument")
    assert client.call("health")["status"] == "ok"
    client.close()


def test_a_thousand_requests_in_flight_are_all_answered(daemon: Daemon) -> None:
    sent = [daemon.raw.send("health") for _ in range(1000)]
    assert all(daemon.raw.reply(request)["ok"] for request in sent)


def test_a_deadline_passes_and_what_was_begun_goes_on(scene: Scene) -> None:
    params = scene.sleeper()
    scene.run(params)
    scene.api.using(timeout=0.2).refused("deadline_exceeded", "tasks.wait", id=params["id"])
    stop = scene.api.using(timeout=0.2).send("tasks.stop", id=params["id"], signal="SIGCONT", grace=0.5)
    assert scene.api.reply(stop)["error"]["code"] == "deadline_exceeded"
    assert scene.wait(params["id"])["exit_status"] == 137


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused(own_daemon: Daemon) -> None:
    # The socket's mode keeps others out; the peer's uid is checked besides. Open the door to see the second guard.
    sock = own_daemon.state / "api.sock"
    assert sock.stat().st_mode & 0o777 == 0o600
    assert own_daemon.state.stat().st_mode & 0o777 == 0o711
    sock.chmod(0o666)
    script = """
        import os, sys
        from tests.support.wire import RawClient
        os.setgid(65534); os.setuid(65534)
        RawClient.connect(sys.argv[1], "tests").refused("permission_denied", "tasks.list")
    """
    checkout = Path(__file__).parents[2]
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", textwrap.dedent(script), own_daemon.api],
        {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_is_asked_while_the_daemon_starts_is_answered_however_early(own_daemon: Daemon) -> None:
    """A client that connects as soon as there is a socket: none of the daemon's own checks may take its request."""
    for _ in range(5):
        own_daemon.kill9()
        (own_daemon.state / "api.sock").unlink()
        own_daemon.process = own_daemon.spawn()
        while not (own_daemon.state / "api.sock").exists():
            os.sched_yield()
        with own_daemon.connect() as early:
            assert early.call("health")["status"] == "ok"
