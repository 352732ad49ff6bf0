"""The metrics as Prometheus gets them: what they tell is so, whatever other clients of the endpoint do."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon, DaemonError
from tests.support.scene import Scene
from tests.support.specs import Image

Values = dict[tuple[str, ...], float]
SECONDS = 20.0
MANY = 100


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = str(path)

    def connect(self) -> None:
        """To the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def scraped(connection: http.client.HTTPConnection) -> Values:
    """By (name, *label values)."""
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in samples}


@pytest.fixture
def watched(image: Image) -> Iterator[Scene]:
    """A scene on a daemon of its own, whose metrics are at a unix socket."""
    daemon = Daemon()
    try:
        path = daemon.folder / "metrics.sock"
        daemon.configured(f'[metrics]\naddress = "{path}"\ntasks = 2\n').start()
        yield Scene(daemon, image, "process")
        assert daemon.stop() == 0
        assert not path.exists()
    finally:
        daemon.destroy()


def values(scene: Scene) -> Values:
    """What a scrape tells now."""
    return scraped(UnixConnection(scene.daemon.folder / "metrics.sock"))


def states(scene: Scene) -> dict[str, float]:
    """How many tasks are in which state."""
    return {key[1]: value for key, value in values(scene).items() if key[0] == "shimyard_tasks" and value}


def test_tasks_are_counted_by_state_through_a_restart_of_the_daemon(watched: Scene) -> None:
    made, ran, ended = (watched.sleeper() for _ in range(3))
    watched.create(made)
    watched.run(ran)
    watched.run(ended)
    assert states(watched) == {"created": 1, "running": 2}
    watched.api.call("tasks.kill", id=ended["id"], signal="SIGKILL")
    watched.wait(ended["id"])
    assert states(watched) == {"created": 1, "running": 1, "stopped": 1}
    watched.daemon.kill9()
    watched.daemon.restart()
    assert states(watched) == {"created": 1, "running": 1, "stopped": 1}
    watched.remove(made["id"], force=True)
    watched.remove(ran["id"], force=True)
    watched.remove(ended["id"])
    assert states(watched) == {}
    watched.clear()


def test_requests_events_and_the_log_are_told(watched: Scene) -> None:
    watched.output("exit 3")
    watched.api.refused("not_found", "tasks.start", id="nobody")
    watched.lifecycle(watched.params("/bin/true"))
    last_seq = watched.daemon.last_seq()
    with_subscriber = watched.daemon.subscribe()
    request = watched.api.send("events.watch", since=0)
    assert watched.api.reply(request)["more"]
    found = values(watched)
    with_subscriber.close()
    assert found["shimyard_requests_total", "ok", "tasks.run"] == 1
    assert found["shimyard_requests_total", "not_found", "tasks.start"] == 1
    for method in ("tasks.create", "tasks.delete"):
        assert found["shimyard_request_duration_seconds_count", method] == 1
        assert 0 < found["shimyard_request_duration_seconds_sum", method] < SECONDS
    assert ("shimyard_request_duration_seconds_count", "tasks.wait") not in found
    assert found["shimyard_events_total", "TaskExit"] == 2
    assert found["shimyard_task_exits_total", "none"] == 2
    assert found["shimyard_task_run_seconds_count",] == 2
    assert found["shimyard_event_last_seq",] == last_seq
    assert 0 < found["shimyard_commits_total",] <= last_seq * 2
    assert found["shimyard_commits_pending",] == 0
    assert found["shimyard_subscribers",] == 1
    assert found["shimyard_streams",] == 1
    assert found["shimyard_database_size_bytes", "main"] > 0
    watched.clear()


def test_of_so_many_tasks_single_use_is_told_and_how_many_are_left_out(watched: Scene) -> None:
    params = [watched.sleeper() for _ in range(3)]
    for one in params:
        watched.run(one)
    found = values(watched)
    told = [key for key in found if key[0] == "shimyard_task_memory_usage_bytes"]
    assert len(told) == 2
    assert all(found[key] > 0 and key[1] == watched.token for key in told)
    assert found["shimyard_tasks_left_out",] == 1
    watched.clear()


def test_silent_and_slow_clients_hold_up_neither_a_scrape_nor_the_daemon(watched: Scene) -> None:
    path = str(watched.daemon.folder / "metrics.sock")
    clients = []
    for number in range(MANY):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SECONDS)
        client.connect(path)
        client.sendall(b"GET /metrics HTTP/1.1\r\n" + (b"\r\n" if number % 2 else b""))  # half of them never read
        clients.append(client)
    assert values(watched)["shimyard_info", "0.1.0"] == 1
    assert watched.output("echo on")["stdout"] == b"on\n"
    for client in clients:
        client.close()
    watched.clear()


def test_over_tcp_at_a_port_that_is_told(image: Image) -> None:
    daemon = Daemon().configured('[metrics]\naddress = "127.0.0.1:0"\ntasks = 10\n')
    try:
        scene = Scene(daemon.start(), image, "process")
        scene.run(params := scene.sleeper())
        port = re.search(r"metrics at http://127\.0\.0\.1:(\d+)/metrics", daemon.log)
        assert port
        found = scraped(http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=SECONDS))
        assert found["shimyard_task_pids", scene.token, params["id"]] >= 1
        scene.clear()
    finally:
        daemon.destroy()


def refusal(daemon: Daemon) -> str:
    """Why it does not start."""
    try:
        with pytest.raises(DaemonError) as caught:
            daemon.start()
        return str(caught.value)
    finally:
        daemon.destroy()


def test_without_the_library_the_daemon_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text('raise ImportError("not here")')
    daemon = Daemon(environment={"PYTHONPATH": str(tmp_path)}).configured('[metrics]\naddress = "127.0.0.1:0"\n')
    assert "metrics.address: the library prometheus-client is missing" in refusal(daemon)


def test_an_address_that_is_none_is_refused_at_the_start() -> None:
    assert "metrics.address" in refusal(Daemon().configured('[metrics]\naddress = "9187"\n'))
