"""The life of a plain process: held, let go, left to the next shim, killed with all that is its own."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from shimproc.errors import FailedPrecondition, ResourceExhausted
from shimproc.reaper import children
from shimproc.runtimes.plain import PlainBackend
from tests.support import cgroups
from tests.support.backends import created, on_plain_stage, plain_spec, streams
from tests.support.shims import Surroundings, in_shim
from tests.support.turns import descriptors, until

SH = "/bin/sh"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may")


def test_a_process_is_started_once(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        created(shim, backend, tmp_path)
        shim.run(backend.start())
        with pytest.raises(FailedPrecondition, match="was started already"):
            shim.run(backend.start())

    on_plain_stage(deed)


def test_what_was_killed_while_held_can_be_started_no_more(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        init = created(shim, backend, tmp_path)
        shim.reaper.send(init.pid, signal.SIGKILL)
        assert shim.wait(init.ended).status == 137
        with pytest.raises(FailedPrecondition, match="has ended before it was started"):
            shim.run(backend.start())

    on_plain_stage(deed)


def test_a_held_process_ends_when_it_is_deleted(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> int:
        init = created(shim, backend, tmp_path)
        shim.run(backend.delete(force=False))
        return shim.wait(init.ended).status

    assert on_plain_stage(deed) == 1


def test_a_held_process_ends_with_its_shim(tmp_path: Path) -> None:
    """The surroundings wait until it has; it is their orphan then."""

    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        if (other := os.fork()) == 0:
            with streams(tmp_path) as fds:
                shim.run(backend.create(fds))
            os._exit(0)
        shim.wait(shim.reaper.watch(other))
        until(shim.loop, lambda: not children(os.getpid()))

    on_plain_stage(deed)
    assert (tmp_path / "out").read_text() == ""


def test_the_next_shim_can_let_a_held_process_go(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> int:
        init = created(shim, backend, tmp_path)
        kept = {**backend.keepsakes, "another's": 99}
        assert set(kept) == {"go", "failed", "another's"}
        heir = PlainBackend(plain_spec({}), "test-plain", None, shim.reaper)
        heir.adopt(init.pid, kept)
        assert kept == {"another's": 99}
        assert not shim.run(heir.is_started())
        shim.run(heir.start())
        assert shim.run(heir.is_started())
        return shim.wait(init.ended).status

    assert on_plain_stage(deed) == 0


def test_the_next_shim_finds_a_program_started_and_has_nothing_to_settle(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        init = created(shim, backend, tmp_path)
        shim.run(backend.start())
        heir = PlainBackend(plain_spec({}), "test-plain", None, shim.reaper)
        shim.run(heir.settle())
        heir.adopt(init.pid, dict(backend.keepsakes))
        assert shim.run(heir.is_started())
        assert heir.pids() == [init.pid]
        with pytest.raises(FailedPrecondition, match="was started already"):
            shim.run(heir.start())
        heir.signal_all(signal.SIGTERM)
        assert shim.wait(init.ended).status == 143

    on_plain_stage(deed, {"args": ["sleep", "100"]})


def test_one_that_was_killed_while_held_is_held_no_more_for_the_next_shim(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        init = created(shim, backend, tmp_path)
        heir = PlainBackend(plain_spec({}), "test-plain", None, shim.reaper)
        heir.adopt(init.pid, dict(backend.keepsakes))
        shim.reaper.send(init.pid, signal.SIGKILL)
        shim.wait(init.ended)
        assert shim.run(heir.is_started())
        shim.run(heir.delete(force=True))

    on_plain_stage(deed)


@as_root
def test_the_next_shim_finds_the_cgroup_and_removes_it_with_all_in_it(tmp_path: Path) -> None:
    """One that made itself a session of its own is known by nothing else."""
    name = f"test-life-{os.getpid()}"
    limited = plain_spec({"args": [SH, "-c", "setsid sleep 100 & echo $!; wait"]})
    limited["linux"] = {"cgroupsPath": f"/{name}"}

    def deed(shim: Surroundings) -> None:
        first = PlainBackend(limited, name, None, shim.reaper)
        init = created(shim, first, tmp_path)
        shim.run(first.start())
        until(shim.loop, lambda: (tmp_path / "out").read_text().endswith("\n"))
        heir = PlainBackend(limited, name, None, shim.reaper)
        heir.adopt(init.pid, {})
        assert heir.pids() == sorted([init.pid, int((tmp_path / "out").read_text())])
        shim.run(heir.delete(force=True))
        assert shim.wait(init.ended).status == 137

    in_shim(deed)
    left = cgroups.naming([name])
    cgroups.remove([name])
    assert not left


def test_all_that_descends_from_it_is_told_and_signalled(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> list[int]:
        init = created(shim, backend, tmp_path)
        shim.run(backend.start())
        until(shim.loop, lambda: (tmp_path / "out").read_text().count("\n") == 2)
        told = [int(line) for line in (tmp_path / "out").read_text().split()]
        assert backend.pids() == sorted([init.pid, *told])
        backend.signal_all(signal.SIGTERM)
        until(shim.loop, lambda: not children(os.getpid()))
        return [shim.wait(init.ended).status]

    script = "sleep 100 & echo $!; (setsid sleep 100 & echo $!); wait"
    assert on_plain_stage(deed, {"args": [SH, "-c", script]}) == [143]


def test_what_init_has_left_is_killed_by_the_delete(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        init = created(shim, backend, tmp_path)
        shim.run(backend.start())
        assert shim.wait(init.ended).status == 0
        assert len(children(os.getpid())) == 1
        shim.run(backend.delete(force=False))
        until(shim.loop, lambda: not children(os.getpid()))

    on_plain_stage(deed, {"args": [SH, "-c", "sleep 100 > /dev/null 2>&1 &"]})


@pytest.mark.parametrize("spare", range(4))
def test_for_want_of_descriptors_nothing_is_made_and_nothing_left(tmp_path: Path, spare: int) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        with streams(tmp_path) as fds:
            taken = set(map(int, descriptors()))
            free = [number for number in range(len(taken) + 4) if number not in taken]
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], before[1]))
            try:
                with pytest.raises(ResourceExhausted, match="cannot be made: Too many open files"):
                    shim.run(backend.create(fds))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert backend.keepsakes == {}
        assert children(os.getpid()) == []

    on_plain_stage(deed)
