"""Subscribers that are slow, stopped, killed or greedy: they slow nobody, and find what they have missed (API.md, 5)."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
import zmq

from tests.support.daemon import Daemon
from tests.support.scene import Scene
from tests.support.specs import Image
from tests.support.wire import RawClient, WireError

QUEUE = 1000
LISTEN = """
    import sys
    from actors.client import Client
    with Client(sys.argv[1]) as client:
        for event in client.events.stream(since=int(sys.argv[2])):
            print(event.seq, flush=True)
"""


def publish(client: RawClient, count: int, size: int = 0) -> list[int]:
    """Publish events, many in flight; their numbers."""
    body = {"text": "x" * size}
    sent = [client.send("events.publish", topic="/tests/tick", event=body) for _ in range(count)]
    return [client.result(request)["seq"] for request in sent]


@pytest.fixture
def hurried(image: Image) -> Iterator[Scene]:
    """A scene on a daemon that keeps little for a slow subscriber."""
    found = Daemon().configured(f"[events]\nsubscriber_queue = {QUEUE}\n")
    try:
        scene = Scene(found.start(), image, "process")
        yield scene
        scene.clear()
    finally:
        found.destroy()


def numbers_of(answers: Iterator[dict[str, Any]]) -> Iterator[int]:
    """Of the events in a stream."""
    return (answer["chunk"]["seq"] for answer in answers if "seq" in (answer.get("chunk") or {}))


def stopped_subscriber(daemon: Daemon) -> zmq.Socket[bytes]:
    """One that has subscribed to all, and reads no more."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.subscribe(b"")
    socket.connect(daemon.events)
    assert socket.recv_multipart()[0] == b"_/hello"
    return socket


def test_a_stopped_subscriber_slows_nobody_sees_its_hole_and_fills_it_by_replay(hurried: Scene) -> None:
    stopped, ears = stopped_subscriber(hurried.daemon), hurried.daemon.subscribe()
    since = ears.seq
    numbers: list[int] = []
    for _ in range(12):
        numbers += publish(hurried.api, QUEUE // 2, size=1000)
        ears.up_to(numbers[-1])  # so that it has room for the next
    assert [one["seq"] for one in ears.heard] == list(range(since + 1, numbers[-1] + 1))
    heard = []
    while stopped.poll(1500):  # until a heartbeat has come after all that there was
        topic, body = stopped.recv_multipart()
        if topic == b"_/heartbeat" and cbor2.loads(body)["last_seq"] >= numbers[-1]:
            break
        heard += [cbor2.loads(body)["seq"]] if topic != b"_/heartbeat" else []
    stopped.close()
    last = next((a for a, b in itertools.pairwise(heard) if b != a + 1), heard[-1])
    assert last < numbers[-1], "nothing was dropped: the test tests nothing"
    replayed = [one["seq"] for one in hurried.daemon.replay(last)]
    assert replayed == list(range(last + 1, numbers[-1] + 1))


def test_a_watch_that_is_not_read_ends_with_its_reason_and_never_in_a_hole(hurried: Scene) -> None:
    watcher = hurried.daemon.connect()
    socket = watcher.connection.socket
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.disconnect(hurried.daemon.api)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.connect(hurried.daemon.api)
    request = watcher.send("events.watch", since=0)
    assert watcher.reply(request)["more"]
    publish(hurried.api, 20_000)  # beyond all queues on the way
    seen: list[int] = []
    with pytest.raises(WireError) as ended:
        seen.extend(numbers_of(watcher.replies(request)))
    assert seen == list(range(1, len(seen) + 1))
    assert ended.value.code == "resource_exhausted"
    again = watcher.send("events.watch", since=len(seen), credit=1)
    assert next(numbers_of(watcher.replies(again))) == len(seen) + 1
    watcher.close()


def test_a_watch_with_credit_is_never_too_far_behind(plain_scene: Scene) -> None:
    watcher = plain_scene.daemon.connect()
    since = plain_scene.daemon.last_seq()
    request = watcher.send("events.watch", since=since, credit=1)
    stream = watcher.reply(request)["stream"]
    numbers = publish(plain_scene.api, 3000)
    watcher.send("stream.credit", stream=stream, n=len(numbers))
    assert list(itertools.islice(numbers_of(watcher.replies(request)), len(numbers))) == numbers
    watcher.call("stream.cancel", stream=stream)
    watcher.close()


def test_a_subscriber_killed_again_and_again_misses_and_repeats_nothing_also_when_the_daemon_is_killed(
    own_daemon: Daemon,
) -> None:
    heard: list[int] = []
    for number in range(4):
        listener = listen(own_daemon, heard[-1] if heard else 0)
        publish(own_daemon.raw, 50)
        if number % 2:
            own_daemon.kill9()
            own_daemon.restart()
            publish(own_daemon.raw, 50)
        assert listener.stdout is not None
        heard += [int(listener.stdout.readline()) for _ in range(30)]
        listener.send_signal(signal.SIGKILL)
        listener.wait()
        listener.stdout.close()
    last = own_daemon.last_seq()
    listener = listen(own_daemon, heard[-1])
    assert listener.stdout is not None
    while heard[-1] < last:
        heard.append(int(listener.stdout.readline()))
    listener.kill()
    listener.wait()
    listener.stdout.close()
    assert heard == list(range(1, last + 1))


def test_subscriptions_of_every_kind_slow_nobody(daemon: Daemon) -> None:
    liar: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XSUB)
    liar.setsockopt(zmq.LINGER, 0)
    liar.connect(daemon.events)
    for frames in ((b"\1" + b"x" * 4000,), (b"garbage",), (b"",), (b"\1a", b"\1b", b"c"), (b"\0never",)):
        liar.send_multipart(frames)
    for number in range(5000):
        liar.send(b"\1%d" % number)
        if number % 10 == 0:
            liar.send(b"rubbish")
    ears = [daemon.subscribe() for _ in range(5)]
    numbers = publish(daemon.raw, 20)
    for one in ears:
        assert [event["seq"] for event in one.up_to(numbers[-1])][-20:] == numbers
        one.close()
    liar.close()


def listen(daemon: Daemon, since: int) -> subprocess.Popen[str]:
    """The project's own client, in a process that may be killed; it prints the number of each event."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LISTEN), daemon.api, str(since)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
