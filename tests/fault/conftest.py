"""What tests of a host at its bounds stand on: a daemon on small disks, and what must be true of it once there is room again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.daemon import Daemon
from tests.support.events import Subscriber, check_order
from tests.support.runtimes import need
from tests.support.scarce import SmallDisk
from tests.support.scene import Scene
from tests.support.specs import Image


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What containers run in."""
    return Image.make(tmp_path_factory.mktemp("image"))


@pytest.fixture(params=["crun", "process"])
def runtime(request: pytest.FixtureRequest) -> str:
    """One that is a program of its own, and the one that is built in."""
    return need(request.param)


@dataclass(frozen=True)
class Host:
    """A scene, on a daemon whose folders are small disks."""

    scene: Scene
    state: SmallDisk
    root: SmallDisk
    subscribers: list[Subscriber] = field(default_factory=list)

    def hear(self) -> Subscriber:
        """Every event from now on; closed with the host."""
        self.subscribers.append(self.scene.daemon.subscribe())
        return self.subscribers[-1]


@pytest.fixture
def host(image: Image, runtime: str) -> Iterator[Host]:
    """Afterwards, with room: the daemon serves, every life's events are in order, nothing is left."""
    daemon = Daemon()
    try:
        state, root = SmallDisk.mount(daemon.state, 2048), SmallDisk.mount(daemon.root, 8192)
        daemon.start()
        scene = Scene(daemon, image, runtime)
        with daemon.connect("warm") as client:  # what is made once is made now
            client.call("tasks.run", **scene.params("/bin/true"), rm=True, wait=True)
            client.call("namespaces.delete", name="warm")
        daemon.health()
        before = leaks.Snapshot.of(daemon, scene.token)
        host = Host(scene, state, root)
        yield host
        for subscriber in host.subscribers:
            subscriber.close()
        for disk in (state, root):
            Path(disk.path, "filler.log").unlink(missing_ok=True)
        if daemon.process is None:
            daemon.start()
        scene.clear()
        check_order(daemon.replay())
        leaks.check(daemon, before, scene.token)
    except BaseException:
        print(f"--- the daemon's log\n{daemon.log[-6000:]}")
        raise
    finally:
        daemon.destroy()
