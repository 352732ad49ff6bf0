"""Every change is an event: numbered without a hole, in order, on disk before it is told (API.md, section 5)."""

from __future__ import annotations

import time

import cbor2
import pytest
import zmq

from tests.support.events import Subscriber, concerns, of, topics
from tests.support.scene import Scene

LIFE = [
    ("/containers/create", "ContainerCreate"),
    ("/tasks/create", "TaskCreate"),
    ("/tasks/start", "TaskStart"),
    ("/tasks/exit", "TaskExit"),
    ("/tasks/delete", "TaskDelete"),
    ("/containers/delete", "ContainerDelete"),
]


def test_a_life_is_told_in_order_with_its_types_and_bodies(scene: Scene, ears: Subscriber) -> None:
    params = scene.shell("exit 5", labels={"colour": "red"})
    before = time.time_ns()
    task = scene.create(params)
    scene.api.call("tasks.start", id=params["id"])
    ended = scene.wait(params["id"])
    scene.remove(params["id"])
    heard = of(ears.up_to(scene.daemon.last_seq()), params["id"])
    assert [(one["topic"], one["type"]) for one in heard] == LIFE
    assert {one["namespace"] for one in heard} == {scene.token}
    assert all(before <= one["timestamp"] <= time.time_ns() for one in heard)
    made, created, started, exited, deleted, dropped = (one["event"] for one in heard)
    assert (made["id"], made["labels"]) == (params["id"], {"colour": "red"})
    assert dropped["id"] == params["id"]
    assert {"container_id", "bundle", "rootfs", "io", "checkpoint", "pid"} <= created.keys()
    assert (created["bundle"], created["pid"]) == (task["bundle"], task["pid"])
    assert started == {"container_id": params["id"], "pid": task["pid"]}
    told = {
        "container_id": params["id"],
        "id": params["id"],
        "pid": task["pid"],
        "exit_status": 5,
        "exited_at": ended["exited_at"],
    }
    assert told.items() <= exited.items()
    assert told.items() <= deleted.items()


def test_a_namespace_is_told_of_when_its_first_container_makes_it(scene: Scene, ears: Subscriber) -> None:
    scene.api.call("containers.create", **scene.params("/bin/true"))
    heard = [one for one in ears.up_to(scene.daemon.last_seq()) if one["namespace"] == scene.token]
    assert topics(heard) == ["/namespaces/create", "/containers/create"]
    assert heard[0]["event"]["name"] == scene.token


def test_numbers_are_one_run_over_all_namespaces(scene: Scene, ears: Subscriber) -> None:
    since = ears.seq
    other = scene.daemon.connect(f"{scene.token}-other")
    for number in range(20):
        client = (scene.api, other)[number % 2]
        client.call("events.publish", topic="/tests/tick", event={"number": number})
    heard = ears.up_to(since + 20)
    assert [one["seq"] for one in heard] == list(range(since + 1, since + 21))
    assert [one["event"]["number"] for one in heard] == list(range(20))
    other.close()


def test_an_event_can_be_replayed_before_the_reply_that_depends_on_it(scene: Scene) -> None:
    since = scene.daemon.last_seq()
    params = scene.params("/bin/true")
    scene.run(params)
    assert "/tasks/start" in topics(of(scene.daemon.replay(since), params["id"]))
    scene.wait(params["id"])
    assert "/tasks/exit" in topics(of(scene.daemon.replay(since), params["id"]))
    scene.remove(params["id"])
    assert "/containers/delete" in topics(of(scene.daemon.replay(since), params["id"]))


def test_replay_gives_the_very_events_that_were_heard(scene: Scene, ears: Subscriber) -> None:
    since = ears.seq
    scene.lifecycle(scene.params("/bin/true"))
    heard = ears.up_to(scene.daemon.last_seq())
    assert scene.daemon.replay(since) == heard


def test_replay_goes_on_from_a_number_and_keeps_to_its_limit(plain_scene: Scene) -> None:
    api = plain_scene.api
    first = api.call("events.publish", topic="/tests/tick", event={"n": 0})["seq"]
    for number in range(1, 10):
        api.call("events.publish", topic="/tests/tick", event={"n": number})
    page = api.call("events.replay", since=first + 2, limit=3)
    assert [one["event"]["n"] for one in page["events"]] == [3, 4, 5]
    assert page["last_seq"] >= first + 9
    assert page["oldest_seq"] == 1
    assert api.call("events.replay", since=page["last_seq"], limit=3)["events"] == []


def test_replay_filters(plain_scene: Scene) -> None:
    api, since = plain_scene.api, plain_scene.daemon.last_seq()
    for name in ("a", "b", "c"):
        api.call("events.publish", topic=f"/tests/{name}", event={"name": name})
    found = api.call(
        "events.replay", since=since, filters=[f"topic==/tests/a,namespace=={api.namespace}", "event.name==c"]
    )
    assert [one["event"]["name"] for one in found["events"]] == ["a", "c"]


def test_a_prefix_selects_a_namespace(plain_scene: Scene) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"_/hello")
        socket.subscribe(f"{plain_scene.token}/tests/".encode())
        socket.connect(plain_scene.daemon.events)
        assert socket.recv_multipart()[0] == b"_/hello"
        other = plain_scene.daemon.connect(f"{plain_scene.token}-other")
        other.call("events.publish", topic="/tests/tick", event={"mine": False})
        other.close()
        # The second subscription may reach the daemon after the first: publish until it has.
        frames: list[bytes] = []
        while not frames:
            plain_scene.api.call("events.publish", topic="/other/tick", event={"mine": False})
            plain_scene.api.call("events.publish", topic="/tests/tick", event={"mine": True})
            if socket.poll(100):
                frames = socket.recv_multipart()
        assert frames[0] == f"{plain_scene.token}/tests/tick".encode()
        assert cbor2.loads(frames[1])["event"] == {"mine": True}
    finally:
        socket.close()


def test_the_hello_and_the_heartbeats_tell_the_last_number(plain_scene: Scene) -> None:
    seq = plain_scene.api.call("events.publish", topic="/tests/tick", event={})["seq"]
    ears = plain_scene.daemon.subscribe()
    assert ears.hello["last_seq"] >= seq
    assert ears.hello["oldest_seq"] == 1
    assert "daemon" in ears.hello
    later = plain_scene.api.call("events.publish", topic="/tests/tick", event={})["seq"]
    while ears.heartbeat()["last_seq"] < later:
        pass
    ears.close()


def test_every_subscriber_hears_everything(plain_scene: Scene) -> None:
    many = [plain_scene.daemon.subscribe() for _ in range(8)]
    params = plain_scene.params("/bin/true")
    plain_scene.lifecycle(params)
    last = plain_scene.daemon.last_seq()
    heard = [of(ears.up_to(last), params["id"]) for ears in many]
    for ears in many:
        ears.close()
    assert all(one == heard[0] for one in heard)
    assert topics(heard[0]) == [topic for topic, _ in LIFE]


@pytest.mark.parametrize("topic", ["", "no-slash", "/", "/trailing/", "/spa ce", "/" + "a" * 400])
def test_what_is_no_topic_is_refused(plain_scene: Scene, topic: str) -> None:
    error = plain_scene.api.refused("invalid_argument", "events.publish", topic=topic, event={})
    assert "topic" in error.message


def test_numbers_go_on_over_a_restart_and_no_event_is_told_twice(own_scene: Scene) -> None:
    params = own_scene.params("/bin/true")
    own_scene.lifecycle(params)
    before = own_scene.daemon.replay()
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    after = own_scene.params("/bin/true")
    own_scene.lifecycle(after)
    told = own_scene.daemon.replay()
    assert told[: len(before)] == before
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))
    assert [one["topic"] for one in told if concerns(one, params["id"])] == [topic for topic, _ in LIFE]
    assert [one["topic"] for one in told if concerns(one, after["id"])] == [topic for topic, _ in LIFE]
