"""A shim's surroundings for a test of one of its parts: a forked child that is a subreaper, with a loop and a reaper.

So the test's own process stays clean, and what a part leaves behind fails the test: a child that nobody reaped, or a
descriptor. What ``deed`` returns, or raises, comes back to the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shimproc import flow, linux, mounts
from shimproc.flow import Pending
from shimproc.loop import Loop
from shimproc.reaper import Reaper, children
from shimproc.runtimes.descendants import descendants
from tests.support.specs import Image
from tests.support.turns import descriptors, until

T = TypeVar("T")


@dataclass(frozen=True)
class Surroundings:
    """What a part of a shim is given."""

    loop: Loop
    reaper: Reaper

    def wait(self, pending: Pending[T]) -> T:
        """Its result."""
        until(self.loop, lambda: pending.done)
        return pending.result()

    def run(self, deed: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns."""
        return self.wait(flow.start(deed))


def in_shim(deed: Callable[[Surroundings], T], *, alone: bool = True) -> T:
    """Do ``deed`` in a forked child; ``alone`` as the reaper has it."""
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        _tell(telling, _outcome(deed, alone=alone))
    os.close(telling)
    with os.fdopen(told, "rb") as pipe:
        outcome = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert outcome, f"the forked shim ended with wait status {status}"
    result, error = pickle.loads(outcome)
    if error is not None:
        raise AssertionError(error)
    return result  # type: ignore[no-any-return]


def spawned(*argv: str) -> int:
    """A child; its pid."""
    return os.posix_spawnp(argv[0], argv, os.environ)


def orphaned(script: str) -> int:
    """A shell's pid whose parent has ended: the subreaper's child."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.setsid()
        pid = os.posix_spawnp("/bin/sh", ["/bin/sh", "-c", script], os.environ)
        os.write(writing, str(pid).encode())
        os._exit(0)
    os.waitpid(parent, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return pid


def bundle_of(folder: Path, spec: dict[str, Any], image: Image | None = None) -> Path:
    """A bundle with ``spec``, and ``image`` mounted as its rootfs: in this mount namespace, to be called in a shim."""
    (folder / "rootfs").mkdir(parents=True)
    if image is not None:
        mounts.mount_all(image.mounts, str(folder / "rootfs"))
    (folder / "config.json").write_text(json.dumps(spec))
    return folder


def _outcome(deed: Callable[[Surroundings], Any], *, alone: bool) -> tuple[Any, str | None]:
    try:
        linux.set_child_subreaper()
        if os.geteuid() == 0:
            mounts.private_namespace()
        loop = Loop()
        reaper = Reaper(loop, alone=alone)
        loop.on_signal(signal.SIGCHLD, reaper.sweep)
        before = descriptors()
        result = deed(Surroundings(loop, reaper))
        until(loop, lambda: not children(os.getpid()))
        left = set(descriptors()) - set(before)
        assert not left, "descriptors left open: " + ", ".join(str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in left)
        loop.close()
    except BaseException:  # noqa: BLE001 - it goes to the test
        return None, traceback.format_exc()
    return result, None


def _tell(pipe: int, outcome: tuple[Any, str | None]) -> None:
    """The end of the child, and of all that it left."""
    try:
        for pid in descendants(os.getpid())[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with open(pipe, "wb") as file:
            pickle.dump(outcome, file)
    finally:
        os._exit(0)
