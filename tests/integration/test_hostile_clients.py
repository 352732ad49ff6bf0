"""Clients that flood, never read, lie about who they are or send what is no request: nobody else notices (API.md, 2)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import pytest
import zmq

from tests.support import proc
from tests.support.daemon import Daemon
from tests.support.scene import Scene
from tests.support.specs import Image
from tests.support.wire import RawClient

ROUNDS = 20
REQUESTS, STREAMS = 100, 5
WORST, LONGEST = 0.5, 5.0
"""Seconds that another's request may take in the middle, and at worst, while an attack goes on, on a busy machine."""


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"v": 1, "id": 1, "method": method, "namespace": "tests", "params": params}


HUGE = cbor2.dumps(request("containers.create", id="x", spec={"many": [{}] * 5_000_000}))
LONG = cbor2.dumps(request("containers.create", id="x", spec={"k" * (1 << 20): ["a"] * 50_000}))
MESSAGES: dict[str, tuple[bytes, ...]] = {
    "empty": (b"", b""),
    "garbage": (b"", b"\xde\xad\xbe\xef" * 64),
    "deep": (b"", b"\x81" * 100_000),
    "truncated": (b"", cbor2.dumps(request("tasks.list"))[:-3]),
    "wrong types": (b"", cbor2.dumps(request("tasks.kill", id=[], signal={}, all="x"))),
    "many frames": (b"",) * 1000,
    "one frame": (b"x",),
    "millions of values": (b"", HUGE),
    "long keys": (b"", LONG),
    "a text of 15 MB": (b"", cbor2.dumps(request("version") | {"namespace": "n" * (15 << 20)})),
}


@pytest.fixture
def attacker(daemon: Daemon) -> Iterator[RawClient]:
    """A client of its own, which is gone at the end."""
    client = daemon.connect()
    yield client
    client.close()


def latencies(client: RawClient, meanwhile: Callable[[], object]) -> list[float]:
    """Seconds of a round trip each; before each one something else is done to the daemon."""
    taken = []
    for _ in range(ROUNDS):
        meanwhile()
        begun = time.monotonic()
        assert client.call("version")["name"] == "shimyard"
        taken.append(time.monotonic() - begun)
    return taken


@pytest.mark.parametrize("kind", MESSAGES)
def test_what_is_no_request_is_answered_and_slows_nobody(daemon: Daemon, attacker: RawClient, kind: str) -> None:
    frames = MESSAGES[kind]
    attacker.send_frames(*frames)
    answer = attacker.reply(1 if kind in ("wrong types", "millions of values", "long keys", "a text of 15 MB") else None)
    assert answer["error"]["code"] in ("invalid_argument", "failed_precondition")
    assert len(answer["error"]["message"]) < 5000
    quiet = latencies(daemon.raw, lambda: None)
    loud = latencies(daemon.raw, lambda: attacker.send_frames(*frames))
    assert statistics.median(loud) < max(20 * statistics.median(quiet), WORST), (quiet, loud)
    assert max(loud) < max(20 * max(quiet), LONGEST)


def test_a_frame_over_the_bound_is_not_read_and_only_its_sender_is_cut_off(daemon: Daemon, attacker: RawClient) -> None:
    attacker.call("version")
    attacker.send_frames(b"", b"\0" * ((16 << 20) + 1))
    assert daemon.raw.call("version")["name"] == "shimyard"
    assert attacker.call("version")["name"] == "shimyard"  # libzmq has connected again


def test_ten_thousand_requests_in_flight_are_all_answered(daemon: Daemon) -> None:
    client = daemon.connect()
    sent = [client.send("version" if number % 2 else "tasks.list") for number in range(10_000)]
    assert all(client.reply(one)["ok"] for one in sent)
    client.close()


@pytest.fixture
def strict(image: Image) -> Iterator[Scene]:
    """A scene on a daemon that grants a client little."""
    found = Daemon().configured(f"[api]\nrequests_per_client = {REQUESTS}\nstreams_per_client = {STREAMS}\n")
    try:
        scene = Scene(found.start(), image, "process")
        yield scene
        scene.clear()
    finally:
        found.destroy()


def test_beyond_its_bound_a_client_is_refused_and_others_are_not(strict: Scene) -> None:
    params = strict.sleeper()
    strict.run(params)
    client = strict.daemon.connect(strict.token)
    waits = [client.send("tasks.wait", id=params["id"]) for _ in range(REQUESTS)]
    error = client.refused("resource_exhausted", "version")
    assert "api.requests_per_client" in error.message
    assert strict.daemon.raw.call("version")["name"] == "shimyard"
    strict.api.call("tasks.kill", id=params["id"], signal=9)
    assert {client.result(one)["exit_status"] for one in waits} == {137}
    assert client.call("version")["name"] == "shimyard"


def test_a_client_has_so_many_streams_and_no_more(strict: Scene) -> None:
    client = strict.daemon.connect(strict.token)
    streams = [client.reply(client.send("events.watch"))["stream"] for _ in range(STREAMS)]
    for method, params in (("events.watch", {}), ("tasks.logs", {"id": "x"})):
        if method == "tasks.logs":
            client.call("containers.create", **strict.params("/bin/true", id="x"))
        assert "api.streams_per_client" in client.refused("resource_exhausted", method, **params).message
    client.call("stream.cancel", stream=streams[0])
    assert client.reply(client.send("events.watch"))["more"]
    assert strict.api.reply(strict.api.send("events.watch"))["more"]


def test_short_waits_repeated_for_ever_do_not_use_up_the_bound(strict: Scene) -> None:
    params = strict.sleeper()
    strict.run(params)
    hasty = strict.api.using(timeout=0.001)
    for _ in range(4 * REQUESTS):
        hasty.refused("deadline_exceeded", "tasks.wait", id=params["id"])
    assert strict.get(params["id"])["status"] == "running"


def test_stops_that_nobody_waits_for_any_more_count_until_they_are_done(strict: Scene) -> None:
    params = strict.sleeper()
    strict.run(params)
    hasty = strict.api.using(timeout=0.001)
    for _ in range(REQUESTS):
        hasty.refused("deadline_exceeded", "tasks.stop", id=params["id"], signal="SIGCONT", grace=1e9)
    strict.api.refused("resource_exhausted", "version")
    other = strict.daemon.raw.using(namespace=strict.token)
    other.call("tasks.kill", id=params["id"], signal=9)
    assert other.call("tasks.wait", id=params["id"])["exit_status"] == 137
    assert_soon(strict.daemon, lambda: bool(strict.api.reply(strict.api.send("version"))["ok"]))


def test_a_stream_ends_with_its_client_and_so_do_its_waits(strict: Scene) -> None:
    params = strict.sleeper()
    strict.run(params)
    strict.daemon.health()
    quiet = descriptors(strict.daemon)
    for _ in range(30):
        client = strict.daemon.connect(strict.token)
        assert client.reply(client.send("tasks.logs", id=params["id"], follow=True))["more"]
        client.send("tasks.wait", id=params["id"])
        client.close()
    assert_soon(strict.daemon, lambda: descriptors(strict.daemon) <= quiet)


@pytest.mark.parametrize("grace", [float("nan"), float("inf"), -1.0])
def test_a_time_that_is_none_is_refused_and_stops_no_clock(plain_scene: Scene, grace: float) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    plain_scene.api.refused("invalid_argument", "tasks.stop", id=params["id"], grace=grace)
    plain_scene.api.using(timeout=0.05).refused("deadline_exceeded", "tasks.wait", id=params["id"])
    assert plain_scene.api.call("tasks.stop", id=params["id"], signal="SIGCONT", grace=0.05)["exit_status"] == 137


@pytest.mark.parametrize("since", [-1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("method", ["events.replay", "events.watch"])
def test_what_is_no_number_of_an_event_is_refused(daemon: Daemon, method: str, since: int) -> None:
    assert "since" in daemon.raw.refused("invalid_argument", method, since=since).message


def test_another_clients_name_takes_none_of_its_answers(plain_scene: Scene) -> None:
    params = plain_scene.sleeper()
    plain_scene.run(params)
    honest, liar = (named(plain_scene.daemon, b"the same") for _ in range(2))
    wait = honest.using(namespace=plain_scene.token).send("tasks.wait", id=params["id"])
    assert honest.call("version")["name"] == "shimyard"
    liar.send("version")
    plain_scene.api.call("tasks.kill", id=params["id"], signal=9)
    assert honest.result(wait)["exit_status"] == 137
    assert not liar.connection.socket.poll(0)
    honest.close()
    liar.close()


def test_a_client_that_sends_and_never_reads_slows_nobody(daemon: Daemon, attacker: RawClient) -> None:
    attacker.connection.socket.setsockopt(zmq.RCVHWM, 1)
    quiet = latencies(daemon.raw, lambda: None)
    for _ in range(2000):
        attacker.send("version")
    loud = latencies(daemon.raw, lambda: [attacker.send("version") for _ in range(50)])
    assert statistics.median(loud) < max(20 * statistics.median(quiet), WORST), (quiet, loud)


def named(daemon: Daemon, name: bytes) -> RawClient:
    """A client that gives itself a name."""
    client = RawClient.connect("inproc://nowhere", None)
    client.connection.socket.disconnect("inproc://nowhere")
    client.connection.socket.setsockopt(zmq.ROUTING_ID, name)
    client.connection.socket.connect(daemon.api)
    return client


def descriptors(daemon: Daemon) -> int:
    """How many the daemon has."""
    return sum(proc.descriptors(daemon.pid).values())


def assert_soon(daemon: Daemon, so: Callable[[], bool]) -> None:
    """After some round trips at most."""
    deadline = time.monotonic() + 10
    while not so():
        assert time.monotonic() < deadline
        daemon.health()
