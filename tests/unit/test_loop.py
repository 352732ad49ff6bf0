"""The event loop: descriptors, timers, turns, signals, other threads."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from shimproc.loop import READ, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_a_readable_descriptor_calls_its_callback_until_it_is_unwatched(loop: Loop) -> None:
    reading, writing = os.pipe()
    seen: list[bytes] = []
    loop.watch(reading, READ, lambda _: seen.append(os.read(reading, 1)))
    os.write(writing, b"ab")
    loop.round(0)
    loop.round(0)
    loop.unwatch(reading)
    os.write(writing, b"c")
    loop.round(0)
    os.close(reading)
    os.close(writing)
    assert seen == [b"a", b"b"]


def test_a_callback_that_unwatches_another_ready_descriptor_silences_it_in_the_same_round(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def on_ready(mine: int, other: int) -> None:
        called.append(mine)
        loop.unwatch(other)

    first, second = pipes[0][0], pipes[1][0]
    loop.watch(first, READ, lambda _: on_ready(first, second))
    loop.watch(second, READ, lambda _: on_ready(second, first))
    for _, writing in pipes:
        os.write(writing, b"x")
    loop.round(0)
    for ends in pipes:
        for fd in ends:
            os.close(fd)
    assert len(called) == 1


def test_a_stop_before_the_run_is_heard_and_the_next_run_runs(loop: Loop) -> None:
    ran: list[str] = []
    loop.stop()
    loop.run()

    def later() -> None:
        ran.append("later")
        loop.stop()

    loop.call_later(0.001, later)
    loop.run()
    assert ran == ["later"]


def test_timers_fire_in_the_order_of_their_time_and_cancelled_ones_do_not(loop: Loop) -> None:
    fired: list[str] = []
    loop.call_later(0.002, lambda: fired.append("late"))
    loop.call_later(0.001, lambda: fired.append("early"))
    loop.call_later(0.0, lambda: fired.append("never")).cancel()
    while len(fired) < 2:
        loop.round()
    assert fired == ["early", "late"]


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    for _ in range(10_000):
        loop.call_later(3600, lambda: None).cancel()
    assert len(loop._timers) < 3000


def test_turns_that_add_turns_do_not_starve_descriptors(loop: Loop) -> None:
    reading, writing = os.pipe()
    seen: list[bytes] = []

    def again() -> None:
        loop.call_soon(again)

    again()
    loop.watch(reading, READ, lambda _: seen.append(os.read(reading, 1)))
    os.write(writing, b"x")
    loop.round(0)
    os.close(reading)
    os.close(writing)
    assert seen == [b"x"]


def test_a_callback_that_fails_does_not_end_the_loop(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    after: list[int] = []
    loop.call_soon(lambda: exec("1 / 0"))
    loop.call_soon(lambda: after.append(1))
    loop.round(0)
    assert after == [1]
    assert "ZeroDivisionError" in caplog.text


def test_another_thread_wakes_a_sleeping_loop(loop: Loop) -> None:
    thread = threading.Thread(target=lambda: loop.call_from_thread(loop.stop))
    loop.call_soon(thread.start)
    loop.run()
    thread.join()


def test_a_signal_becomes_a_call_on_the_loop(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    loop.on_signal(signal.SIGUSR2, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.run()
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, 2**64, 30 * 86_400.0])
def test_a_timer_that_is_never_due_holds_up_nobody(loop: Loop, seconds: float) -> None:
    fired: list[str] = []
    never = loop.call_later(seconds, lambda: fired.append("never"))
    loop.call_later(0, lambda: fired.append("now"))
    loop.round(1.0)
    loop.call_from_thread(lambda: fired.append("turn"))
    loop.round()  # with nothing but the distant timer to wait for, epoll takes that, too
    loop.call_later(0.0, lambda: fired.append("later"))
    loop.round()
    never.cancel()
    assert fired == ["now", "turn", "later"]


def test_a_loop_waits_for_a_distant_timer_alone(loop: Loop) -> None:
    loop.call_later(1e8, lambda: None)
    threading.Timer(0.05, lambda: loop.call_from_thread(loop.stop)).start()
    loop.run()
