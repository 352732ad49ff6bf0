"""Real daemon, real runtimes. A module shares one daemon; each test has a namespace of its own on it (``scene``).

``own_daemon`` is for tests that stop, kill or configure theirs. Whatever a test leaves behind fails it, by name
(``leaves_nothing``). When a test has failed, what the daemon said is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.daemon import Daemon
from tests.support.events import Subscriber, check_order
from tests.support.pipes import Fifo
from tests.support.runtimes import NAMES, need
from tests.support.scene import Scene
from tests.support.specs import Image

FAILED = pytest.StashKey[bool]()
LOG_TAIL = 6000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a failure where fixtures can see it."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What containers run in."""
    folder = tmp_path_factory.mktemp("image")
    for above in (folder.parent, *folder.parent.parents):  # pytest's folders are 0700; a task may run as another user
        if above.owner() == folder.owner() and above.name.startswith("pytest"):
            above.chmod(0o711)
    return Image.make(folder)


@pytest.fixture(params=NAMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime that this host can use."""
    return need(request.param)


@pytest.fixture(params=["crun", "runc"])
def oci(request: pytest.FixtureRequest) -> str:
    """Each OCI runtime that this host can use."""
    return need(request.param)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A running daemon that the tests of a module share, its forkserver warm."""
    found = Daemon()
    try:
        found.start()
        _warm(found)
        yield found
        assert found.stop() == 0
    finally:
        found.destroy()


@pytest.fixture
def own_daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A running daemon for this test alone: to be stopped, killed and started again."""
    found = Daemon()
    try:
        found.start()
        _warm(found)
        yield found
    finally:
        _tell(request, found)
        found.destroy()


@pytest.fixture
def scene(request: pytest.FixtureRequest, daemon: Daemon, image: Image, runtime: str) -> Iterator[Scene]:
    """A namespace of the test's own on the module's daemon, with one runtime; nothing may be left of it."""
    yield from _play(request, Scene(daemon, image, runtime))


@pytest.fixture
def plain_scene(request: pytest.FixtureRequest, daemon: Daemon, image: Image) -> Iterator[Scene]:
    """The same, where the runtime does not matter."""
    yield from _play(request, Scene(daemon, image, "process"))


@pytest.fixture
def own_scene(request: pytest.FixtureRequest, own_daemon: Daemon, image: Image, runtime: str) -> Iterator[Scene]:
    """A scene on the test's own daemon."""
    yield from _play(request, Scene(own_daemon, image, runtime))


@pytest.fixture
def ears(scene: Scene) -> Iterator[Subscriber]:
    """Hears every event from before the test; at the end, all that was heard must be in order."""
    subscriber = scene.daemon.subscribe()
    yield subscriber
    heard = subscriber.up_to(scene.daemon.last_seq())
    subscriber.close()
    if heard:
        check_order(heard)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Callable[[str], Fifo]]:
    """Makes named pipes; closed at the end."""
    made: list[Fifo] = []

    def make(name: str) -> Fifo:
        made.append(Fifo(tmp_path / name))
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


def _play(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Scene]:
    scene.daemon.health()
    before = leaks.Snapshot.of(scene.daemon, scene.token)
    try:
        yield scene
    finally:
        _tell(request, scene.daemon)
        if scene.daemon.process is not None:
            scene.clear()
    leaks.check(scene.daemon, before, scene.token)


def _warm(daemon: Daemon) -> None:
    """Run one task, so that what is made once and kept (forkserver, threads) is there before anything is compared."""
    params = {"id": "warm", "spec": _TRUE, "runtime": {"name": "process"}}
    with daemon.connect("warm") as client:
        client.call("tasks.run", **params, rm=True, wait=True)
        client.call("namespaces.delete", name="warm")


_TRUE = {
    "ociVersion": "1.0.2",
    "process": {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "/"},
}


def _tell(request: pytest.FixtureRequest, daemon: Daemon) -> None:
    if request.node.stash.get(FAILED, False):
        print(f"--- the daemon's log\n{daemon.log[-LOG_TAIL:]}")
