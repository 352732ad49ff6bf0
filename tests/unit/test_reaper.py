from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from shimproc.errors import NotFound, Unavailable
from shimproc.loop import Loop
from shimproc.reaper import Exited, Reaper, children, send_all
from tests.support.shims import Surroundings, in_shim, orphaned, spawned
from tests.support.turns import until

STORM = 300


def zombie(*argv: str) -> int:
    """A child that has ended and is not reaped."""
    pid = spawned(*argv)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


@pytest.mark.parametrize("status", [0, 1, 255])
def test_an_exit_status_is_the_childs_own(status: int) -> None:
    def deed(shim: Surroundings) -> int:
        return shim.wait(shim.reaper.watch(spawned("/bin/sh", "-c", f"exit {status}"))).status

    assert in_shim(deed) == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_by_a_signal_is_128_and_its_number(number: int) -> None:
    def deed(shim: Surroundings) -> int:
        pid = spawned("sleep", "100")
        ended = shim.reaper.watch(pid)
        shim.reaper.send(pid, number)
        return shim.wait(ended).status

    assert in_shim(deed) == 128 + number


def test_a_child_that_ended_before_it_was_watched_gives_its_true_status() -> None:
    def deed(shim: Surroundings) -> int:
        return shim.wait(shim.reaper.watch(zombie("/bin/sh", "-c", "exit 7"))).status

    assert in_shim(deed) == 7


def test_the_time_of_an_exit_lies_between_start_and_answer() -> None:
    def deed(shim: Surroundings) -> tuple[int, int, int]:
        before = time.time_ns()
        at = shim.wait(shim.reaper.watch(spawned("true"))).at
        return before, at, time.time_ns()

    times = in_shim(deed)
    assert times == tuple(sorted(times))


def test_to_watch_twice_is_to_watch_once() -> None:
    def deed(shim: Surroundings) -> bool:
        pid = spawned("true")
        ended = shim.reaper.watch(pid)
        same = shim.reaper.watch(pid) is ended
        shim.wait(ended)
        return same

    assert in_shim(deed)


def test_statuses_of_many_at_once_are_kept_apart() -> None:
    def deed(shim: Surroundings) -> list[int]:
        ended = [shim.reaper.watch(spawned("/bin/sh", "-c", f"exit {n}")) for n in range(20)]
        return [shim.wait(one).status for one in ended]

    assert in_shim(deed) == list(range(20))


def test_an_orphan_is_reaped_and_forgotten() -> None:
    def deed(shim: Surroundings) -> None:
        orphan = orphaned("exit 3")
        until(shim.loop, lambda: orphan not in children(os.getpid()))

    in_shim(deed)


def test_a_storm_of_orphans_is_reaped_whole() -> None:
    def deed(shim: Surroundings) -> None:
        shell = orphaned(f"i=0; while [ $i -lt {STORM} ]; do (exit 0 & ) ; i=$((i+1)); done")
        until(shim.loop, lambda: shell not in children(os.getpid()))

    in_shim(deed)


def test_while_a_process_is_expected_its_status_is_kept() -> None:
    def deed(shim: Surroundings) -> int:
        with shim.reaper.expecting():
            orphan = orphaned("exit 42")
            os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
            shim.loop.round(0)  # the round in which SIGCHLD is heard
            return shim.wait(shim.reaper.watch(orphan)).status

    assert in_shim(deed) == 42


def test_what_was_not_the_expected_one_is_swept_when_the_last_expectation_ends() -> None:
    def deed(shim: Surroundings) -> tuple[bool, bool]:
        with shim.reaper.expecting():
            with shim.reaper.expecting():
                stranger = orphaned("exit 0")
                os.waitid(os.P_PID, stranger, os.WEXITED | os.WNOWAIT)
            shim.loop.round(0)
            kept = stranger in children(os.getpid())
        shim.loop.round(0)
        return kept, stranger in children(os.getpid())

    assert in_shim(deed) == (True, False)


def test_the_daemons_own_children_are_left_to_who_waits_for_them() -> None:
    def deed(shim: Surroundings) -> int:
        child = subprocess.Popen(["/bin/sh", "-c", "exit 9"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        orphan = orphaned("exit 0")
        until(shim.loop, lambda: orphan not in children(os.getpid()))
        shim.reaper.sweep()
        return child.wait()

    assert in_shim(deed, alone=False) == 9


def test_a_signal_to_what_was_reaped_is_not_found() -> None:
    def deed(shim: Surroundings) -> None:
        pid = spawned("true")
        shim.wait(shim.reaper.watch(pid))
        with pytest.raises(NotFound):
            shim.reaper.send(pid, signal.SIGTERM)

    in_shim(deed)


def test_the_status_of_a_process_that_is_no_child_is_the_kernels_word_or_not_known() -> None:
    def deed(shim: Surroundings) -> int | None:
        reading, writing = os.pipe()
        parent = os.fork()
        if parent == 0:
            child = spawned("/bin/sleep", "100")
            os.write(writing, str(child).encode())
            os.waitpid(child, 0)
            os._exit(0)
        grandchild = int(os.read(reading, 32))
        parents_end = shim.reaper.watch(parent)  # before it can be swept
        ended = shim.reaper.watch(grandchild)
        shim.reaper.send(grandchild, signal.SIGKILL)
        try:
            status = shim.wait(ended).status
        except Unavailable:  # before Linux 6.15
            status = None
        shim.wait(parents_end)
        os.close(reading)
        os.close(writing)
        return status

    assert in_shim(deed) in (137, None)


def test_what_somebody_else_knows_of_an_end_is_taken_and_once_only() -> None:
    def deed(shim: Surroundings) -> int:
        pid = spawned("/bin/sleep", "100")
        ended = shim.reaper.watch(pid)
        shim.reaper.learn(pid, Exited(42, 1))
        shim.reaper.learn(pid, Exited(43, 2))
        os.kill(pid, signal.SIGKILL)
        return shim.wait(ended).status

    assert in_shim(deed) == 42


def test_an_end_that_is_told_before_anyone_asks_is_kept_until_the_take_over_is_done() -> None:
    def deed(shim: Surroundings) -> tuple[int, int]:
        pid = spawned("/bin/sleep", "100")
        shim.reaper.learn(pid, Exited(42, 1))
        early = shim.wait(shim.reaper.adopt(pid, os.pidfd_open(pid))).status
        shim.reaper.taken_over()
        shim.reaper.learn(pid, Exited(43, 1))
        late = shim.reaper.adopt(pid, os.pidfd_open(pid))
        os.kill(pid, signal.SIGKILL)
        return early, shim.wait(late).status

    assert in_shim(deed) == (42, 137)


def test_a_held_child_stays_a_zombie_until_it_is_released_and_holds_up_no_other() -> None:
    def deed(shim: Surroundings) -> tuple[int, bool, bool]:
        held, other = spawned("true"), spawned("/bin/sh", "-c", "exit 3")
        ended, others = shim.reaper.watch(held, hold=True), shim.reaper.watch(other)
        assert shim.wait(ended).status == 0
        assert shim.wait(others).status == 3
        there = held in children(os.getpid())
        shim.reaper.release(held)
        return ended.result().status, there, held in children(os.getpid())

    assert in_shim(deed) == (0, True, False)


def test_a_process_that_is_gone_cannot_be_watched() -> None:
    def deed(shim: Surroundings) -> None:
        pid = spawned("true")
        os.waitpid(pid, 0)
        with pytest.raises(ProcessLookupError):
            shim.reaper.watch(pid)
        shim.wait(shim.reaper.ended(pid, 100))

    in_shim(deed)


def test_the_end_of_any_process_can_be_awaited_but_not_for_ever() -> None:
    def deed(shim: Surroundings) -> None:
        pid = spawned("sleep", "100")
        shim.wait(shim.reaper.ended(pid, 0.01))
        ended = shim.reaper.ended(pid, 100)
        assert not ended.done
        os.kill(pid, signal.SIGKILL)
        shim.wait(ended)

    in_shim(deed)


def test_orphans_are_those_that_nobody_waits_for() -> None:
    def deed(shim: Surroundings) -> None:
        orphan, watched = orphaned("exec sleep 100"), spawned("sleep", "100")
        ended = shim.reaper.watch(watched)
        assert shim.reaper.orphans(os.getsid(orphan)) == [orphan]
        send_all([orphan, watched], signal.SIGKILL)
        shim.wait(ended)

    in_shim(deed)


def test_in_the_daemon_orphans_are_told_apart_by_their_session() -> None:
    def deed(shim: Surroundings) -> None:
        ours, others, own = orphaned("exec sleep 100"), orphaned("exec sleep 100"), spawned("sleep", "100")
        assert shim.reaper.orphans(os.getsid(ours)) == [ours]
        send_all([ours, others, own], signal.SIGKILL)
        os.waitpid(own, 0)

    in_shim(deed, alone=False)


def test_a_signal_to_many_passes_over_those_that_are_gone() -> None:
    def deed(shim: Surroundings) -> int:
        gone = spawned("true")
        os.waitpid(gone, 0)
        pid = spawned("sleep", "100")
        ended = shim.reaper.watch(pid)
        send_all([gone, pid], signal.SIGUSR1)
        return shim.wait(ended).status

    assert in_shim(deed) == 128 + signal.SIGUSR1


def test_a_watch_that_the_loop_refuses_leaves_no_descriptor() -> None:
    class Refusing(Loop):
        refuses = False

        def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
            if self.refuses:
                raise OSError("the loop is full")
            super().watch(fd, mask, callback)

    def deed(_: Surroundings) -> None:
        loop = Refusing()
        loop.refuses = True
        pid = spawned("true")
        with pytest.raises(OSError, match="the loop is full"):
            Reaper(loop).watch(pid)
        loop.close()

    in_shim(deed)
