"""The OOM killer's kills: each told once, before the exits that it caused, by whichever shim sees the count grow."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimproc import oom
from shimproc.cgroups import Cgroup, hierarchies, read_control
from shimproc.flow import Pending, done
from shimproc.loop import Loop
from shimproc.messages import Created, Delete, Deleted, Exited, Kill, Message, Oom, Started
from shimproc.oom import OomWatch, counted
from tests.support.cgroups import why_no_memory_limits
from tests.support.turns import descriptors, until

EXIT = Exited(1000, 7, 137)


class Cage:
    """A cgroup's count that the test raises, and watches over it."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.told: list[Message] = []
        self.full = False
        self.file = folder / "memory.events"
        self.watches: list[OomWatch] = []

    def tell(self, event: Message) -> Pending[None]:
        """Journaled at once, unless the disk is full."""
        self.told.append(event)
        return Pending() if self.full else done(None)

    def kills(self, count: int) -> None:
        """The kernel counts so many by now."""
        self.file.write_text(f"low 0\nhigh 0\nmax 9\noom {count}\noom_kill {count}\noom_group_kill 0\n")

    def watch(self, *journal: Message, kills: int = 0) -> OomWatch:
        """A shim's, that finds this in its journal after the creation. A plain file wakes nobody: only exits make it look."""
        made = OomWatch(self.loop, self.tell)
        for event in (Created(1, 7, 0, None, str(self.file), kills), *journal):
            made.heed(event)
        self.watches.append(made)
        return made


@pytest.fixture
def cage(tmp_path: Path) -> Iterator[Cage]:
    """With no kill yet; nothing is left open."""
    before = descriptors()
    made = Cage(tmp_path)
    made.kills(0)
    yield made
    for watch in made.watches:
        watch.close()
    made.loop.close()
    assert descriptors() == before


@pytest.fixture
def path() -> Iterator[str]:
    """Of a cgroup of this test."""
    name = f"/shimyard-test-{secrets.token_hex(4)}"
    yield name
    Cgroup.at(name).remove()


def test_a_kill_is_told_before_the_exit_and_is_its_reason(cage: Cage) -> None:
    watch = cage.watch()
    cage.kills(2)
    assert watch.ended(EXIT, slain=False) == Exited(1000, 7, 137, reason="oom")
    assert cage.told == [Oom(1000, 2)]


def test_what_was_counted_before_the_task_is_no_kill_of_its(cage: Cage) -> None:
    cage.kills(5)
    assert cage.watch(kills=5).ended(EXIT, slain=False) == EXIT
    assert cage.told == []


def test_the_next_shim_tells_what_the_killed_one_could_not_and_nothing_twice(cage: Cage) -> None:
    cage.kills(3)
    assert cage.watch(Oom(5, 3)).ended(EXIT, slain=False) == EXIT
    assert cage.told == []
    assert cage.watch(Oom(5, 1)).ended(EXIT, slain=False).reason == "oom"
    assert cage.told == [Oom(1000, 3)]


def test_a_kill_that_the_shim_before_has_told_just_now_is_still_the_reason(cage: Cage) -> None:
    cage.kills(1)
    watch = cage.watch(Oom(time.time_ns(), 1))
    assert watch.ended(EXIT, slain=False).reason == "oom"
    assert cage.told == []


@pytest.mark.parametrize(
    ("event", "slain"),
    [
        (Exited(1000, 7, 1), False),
        (Exited(1000, 7, 143), False),
        (Exited(1000, 7, 137, reason="timeout"), False),
        (Exited(1000, 9, 137, process="exec"), True),
    ],
    ids=["an exit by itself", "another signal", "a reason already", "an exec that went with init"],
)
def test_the_reason_of_another_exit_stays_as_it_is(cage: Cage, event: Exited, slain: bool) -> None:
    watch = cage.watch()
    cage.kills(1)
    assert watch.ended(event, slain=slain) == event
    assert cage.told == [Oom(1000, 1)]


@pytest.mark.parametrize(
    ("request_", "by_the_oom_killer"),
    [
        (Kill(9), ["exec"]),
        (Kill(9, all=True), []),
        (Kill(9, process="exec"), [""]),
        (Kill(15), ["", "exec"]),
        (Delete(force=True), []),
    ],
    ids=["kill init", "kill all", "kill exec", "term", "delete"],
)
def test_a_clients_own_sigkill_is_not_the_oom_killers(cage: Cage, request_: Message, by_the_oom_killer: list[str]) -> None:
    watch = cage.watch()
    cage.kills(1)
    watch.asked(request_)
    for process in ("exec", ""):
        ended = watch.ended(Exited(1000, 7, 137, process), slain=False)
        assert ended.reason == ("oom" if process in by_the_oom_killer else None)


def test_a_kill_long_ago_is_not_the_reason(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "_LATELY_SECONDS", 0.01)
    watch = cage.watch()
    cage.kills(1)
    watch.ended(Exited(1, 9, 0, "exec"), slain=False)
    until(cage.loop, lambda: watch._lately is None)
    assert watch.ended(EXIT, slain=False) == EXIT


def test_the_kills_of_a_second_are_told_as_one(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "_QUIET_SECONDS", 0.05)
    watch = cage.watch()
    for count in (1, 2, 3):
        cage.kills(count)
        watch._look(count, hurry=False)
    assert cage.told == [Oom(1, 1)]
    until(cage.loop, lambda: len(cage.told) == 2)
    assert isinstance(cage.told[1], Oom)
    assert cage.told[1].kills == 3


def test_while_the_disk_is_full_kills_do_not_pile_up(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "_QUIET_SECONDS", 0.01)
    cage.full = True
    watch = cage.watch()
    for count in range(1, 4):
        cage.kills(count)
        watch._look(count, hurry=False)
        until(cage.loop, lambda: watch._quiet is None)
    assert cage.told == [Oom(1, 1)]
    watch.ended(EXIT, slain=False)
    assert cage.told == [Oom(1, 1), Oom(1000, 3)]


def test_without_a_cgroup_nothing_is_watched_or_told(cage: Cage) -> None:
    assert counted(None) == ("", 0)
    watch = OomWatch(cage.loop, cage.tell)
    watch.heed(Created(1, 7))
    assert watch.ended(EXIT, slain=False) == EXIT
    cage.file.unlink()
    assert cage.watch().ended(EXIT, slain=False) == EXIT
    assert cage.told == []


def test_a_restored_task_is_watched_from_its_start(cage: Cage) -> None:
    watch = OomWatch(cage.loop, cage.tell)
    watch.heed(Created(1, 0, checkpoint="/images"))
    watch.heed(Started(2, 7, oom_file=str(cage.file)))
    cage.kills(1)
    assert watch.ended(EXIT, slain=False).reason == "oom"
    assert cage.told == [Oom(1000, 1)]
    watch.close()


@pytest.mark.parametrize("over", [EXIT, Deleted(1, 7, 0, 0)])
def test_the_watch_ends_with_init(cage: Cage, over: Message) -> None:
    watch = cage.watch(Exited(1, 9, 0, "exec"))
    assert watch._path
    watch.heed(over)
    assert not watch._path


@pytest.mark.skipif(os.geteuid() != 0 or "" not in hierarchies(), reason="needs a mounted cgroup2 that is ours to write")
def test_version_2_wakes_whoever_waits_at_its_file(cage: Cage, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """cgroup.events is the one such file that every host has; it is told like memory.events (cgroup_file_notify)."""
    monkeypatch.setattr(oom, "oom_kills", lambda file: int("populated 1" in read_control(file)))
    cgroup = Cgroup.create(path, {})
    watch = OomWatch(cage.loop, cage.tell)
    watch.heed(Created(1, 7, 0, None, f"{cgroup.folder('')}/cgroup.events"))
    pid = os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
    try:
        cgroup.add(pid)
        until(cage.loop, lambda: bool(cage.told))
        cage.loop.round(0)
        assert [type(one) for one in cage.told] == [Oom]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    watch.close()


@pytest.mark.skipif(bool(why := why_no_memory_limits()), reason=why)
def test_the_kernel_wakes_whoever_waits_for_its_oom_killer(cage: Cage, path: str) -> None:
    cgroup = Cgroup.create(path, {"memory": {"limit": 8 << 20}})
    where = counted(cgroup)
    assert where[1] == 0
    watch = OomWatch(cage.loop, cage.tell)
    watch.heed(Created(1, 7, 0, None, *where))
    reading, writing = os.pipe()
    file_actions = [(os.POSIX_SPAWN_DUP2, reading, 0)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "read go; exec tail /dev/zero"], {}, file_actions=file_actions)
    cgroup.add(pid)
    os.write(writing, b"go\n")
    os.close(reading)
    os.close(writing)
    try:
        until(cage.loop, lambda: bool(cage.told))
    finally:
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert watch.ended(EXIT, slain=False).reason == "oom"
    (told,) = cage.told
    assert isinstance(told, Oom)
    assert told.kills == 1
    until(cage.loop, cgroup.remove)
    until(cage.loop, lambda: watch._fd is None)
    assert watch.ended(EXIT, slain=False).reason == "oom"  # as systemd may have it: the cgroup goes before the exit is heard
    watch.close()
