"""The events socket against subscribers of every kind, on real sockets in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from actors.subscribers import Subscribers
from shimproc.loop import Loop
from tests.support.turns import until

HELLO = (b"_/hello", b"you")
LIMIT = 20


class Scene:
    """An XPUB that is served, and whoever connects to it."""

    def __init__(self, path: Path) -> None:
        self.loop = Loop()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.address = f"ipc://{path}"
        self.sockets: list[zmq.Socket[bytes]] = []
        self.monitored: list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]] = []
        self.xpub = self.context.socket(zmq.XPUB)
        self.xpub.bind(self.address)
        self.served = Subscribers(self.loop, self.xpub, lambda: HELLO, LIMIT)
        self.served.start()

    def connect(self, kind: int, *prefixes: bytes) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        for prefix in prefixes:
            socket.subscribe(prefix)
        socket.connect(self.address)
        self.sockets.append(socket)
        return socket

    def monitor(self, socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        """Hears of its disconnection."""
        found: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.monitored += [(socket, found)]
        return found

    def publish(self, *topics: bytes) -> None:
        for topic in topics:
            self.xpub.send_multipart((topic, b""), zmq.DONTWAIT)
        self.served.drain()

    def heard(self, socket: zmq.Socket[bytes]) -> bytes:
        """The next topic; the loop turns meanwhile."""
        until(self.loop, lambda: bool(socket.poll(0)))
        return socket.recv_multipart()[0]

    def close(self) -> None:
        self.served.stop()
        for socket, monitor in self.monitored:
            socket.disable_monitor()
            monitor.close(linger=0)
        for socket in (*self.sockets, self.xpub):
            socket.close(linger=0)
        self.context.destroy(linger=0)
        self.loop.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "events")
    yield made
    made.close()


def settle(scene: Scene, socket: zmq.Socket[bytes]) -> None:
    """All that this one has subscribed to has been taken in: it is asked last, and answered."""
    socket.subscribe(HELLO[0])
    assert scene.heard(socket) == HELLO[0]


def test_each_subscriber_is_welcomed_alone(scene: Scene) -> None:
    first = scene.connect(zmq.SUB, b"_/")
    assert scene.heard(first) == HELLO[0]
    second = scene.connect(zmq.SUB, b"_/")
    assert scene.heard(second) == HELLO[0]
    scene.publish(b"_/heartbeat")
    assert [scene.heard(first), scene.heard(second)] == [b"_/heartbeat"] * 2


@pytest.mark.parametrize("rubbish", [b"x", b"", b"\2\0\1", b"\0nothing"])
def test_what_is_no_subscription_takes_nobody_elses(scene: Scene, rubbish: bytes) -> None:
    # All are connected and silent, then the rubbish and the subscriptions are taken in as one batch.
    liar = scene.connect(zmq.XSUB)
    subscribers = [scene.connect(zmq.SUB, b"first") for _ in range(4)]
    for one in subscribers:
        settle(scene, one)
        one.unsubscribe(HELLO[0])
    liar.send(b"\1" + HELLO[0])
    assert scene.heard(liar) == HELLO[0]
    for number, one in enumerate(subscribers):
        liar.send(rubbish)
        one.subscribe(b"topic-%d" % number)
        one.subscribe(b"ready")
    told = [b"topic-%d" % number for number in range(len(subscribers))]

    def all_have_it() -> bool:
        scene.publish(*told, b"ready")
        heard = [one.recv_multipart()[0] if one.poll(0) else b"" for one in waiting]
        waiting[:] = [one for one, topic in zip(waiting, heard, strict=True) if not topic.startswith(b"topic-")]
        return not waiting

    waiting = list(subscribers)
    until(scene.loop, all_have_it)


def test_whoever_subscribes_without_end_is_disconnected_and_nobody_else(scene: Scene) -> None:
    quiet = scene.connect(zmq.SUB, b"_/")
    assert scene.heard(quiet) == HELLO[0]
    greedy = scene.connect(zmq.XSUB)
    monitor = scene.monitor(greedy)
    for number in range(LIMIT + 5):
        greedy.send(b"\1prefix-%d" % number)
    until(scene.loop, lambda: bool(monitor.poll(0)))
    scene.publish(b"_/heartbeat")
    assert scene.heard(quiet) == b"_/heartbeat"


def test_whoever_subscribes_and_unsubscribes_may_do_so_for_ever(scene: Scene) -> None:
    one = scene.connect(zmq.SUB)
    monitor = scene.monitor(one)
    for number in range(10 * LIMIT):
        one.subscribe(b"prefix-%d" % number)
        one.unsubscribe(b"prefix-%d" % number)
    settle(scene, one)
    assert not monitor.poll(0)
