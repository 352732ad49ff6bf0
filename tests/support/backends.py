"""Containers of one backend, made in a test's own shim: created with files as their output, started, waited for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shimproc.flow import Pending
from shimproc.reaper import Exited
from shimproc.runtimes.backend import Backend
from shimproc.runtimes.plain import PlainBackend
from tests.support.shims import Surroundings, in_shim
from tests.support.specs import Map, spec


class Init(NamedTuple):
    """A container's first process, and its end."""

    pid: int
    ended: Pending[Exited]


class Ran(NamedTuple):
    """How it ended, and what it wrote."""

    status: int
    out: str
    err: str


@contextlib.contextmanager
def streams(folder: Path) -> Iterator[tuple[int, int, int]]:
    """Nothing to read; ``out`` and ``err`` in ``folder`` to write."""
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as opened:
        fds = [os.open(os.devnull, os.O_RDONLY)]
        opened.callback(os.close, fds[0])
        for name in ("out", "err"):
            fds.append(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            opened.callback(os.close, fds[-1])
        yield fds[0], fds[1], fds[2]


def created(shim: Surroundings, backend: Backend, folder: Path) -> Init:
    """Held before its program."""
    with streams(folder) as fds, shim.reaper.expecting():
        pid = shim.run(backend.create(fds))
        return Init(pid, shim.reaper.watch(pid))


def ran(shim: Surroundings, backend: Backend, folder: Path) -> Ran:
    """From create to delete."""
    init = created(shim, backend, folder)
    try:
        shim.run(backend.start())
        status = shim.wait(init.ended).status
    finally:
        shim.run(backend.delete(force=True))
        shim.wait(init.ended)
    return Ran(status, (folder / "out").read_text(), (folder / "err").read_text())


PlainDeed = Callable[[Surroundings, PlainBackend], Any]


def on_plain_stage(deed: PlainDeed, process: Map | None = None) -> Any:
    """Do ``deed`` with the backend of a plain process that ``process`` says, in a shim."""
    return in_shim(lambda shim: deed(shim, PlainBackend(plain_spec(process or {}), "test-plain", None, shim.reaper)))


def plain_spec(process: Map) -> Map:
    """``true`` as who runs the tests, but for what ``process`` says."""
    whole = spec(["true"], plain=True, process=process)
    if os.geteuid() != 0:
        whole["process"]["user"] = {}
    return whole
