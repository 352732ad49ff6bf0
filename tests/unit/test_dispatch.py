"""The actor type: pykka's promises kept on a shared loop, and the position in pykka's code that it stands on."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pykka
import pytest

from actors.dispatch import BATCH, LoopActor, post
from actors.messages import Call
from actors.params import IdRef
from shimproc.errors import NotFound
from shimproc.loop import Loop


@dataclass(frozen=True)
class Note:
    """A message of the tests."""

    text: str


class Diary(LoopActor):
    """Keeps what it is told."""

    def __init__(self, loop: Loop, kept: list[str]) -> None:
        super().__init__(loop)
        self.kept = kept

    def on_note(self, message: Note) -> None:
        if message.text == "fail":
            raise ValueError("asked to")
        self.kept.append(message.text)

    def on_call(self, call: Call) -> None:
        raise NotFound(f"no {call.params.id}")


class FakeReply:
    """Keeps the answer."""

    key = ""
    open = True

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def ok(self, result: Any) -> None:
        self.answers.append(result)

    def fail(self, error: BaseException) -> None:
        self.answers.append(error)

    def kept(self, _: Any) -> tuple[Any, ...]:
        return ()

    def stream(self, *_: Any) -> Any:
        raise AssertionError("not asked for")


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def drain(loop: Loop) -> None:
    for _ in range(20):
        loop.round(0)


def test_messages_are_handled_in_order_and_by_their_type(loop: Loop) -> None:
    kept: list[str] = []
    ref = Diary.start(loop, kept)
    for text in "abc":
        post(ref, Note(text))
    drain(loop)
    assert kept == ["a", "b", "c"]


def test_an_actor_with_much_to_do_lets_others_have_their_turn(loop: Loop) -> None:
    kept: list[str] = []
    busy, other = Diary.start(loop, kept), Diary.start(loop, kept)
    drain(loop)
    for _ in range(BATCH + 1):
        post(busy, Note("busy"))
    post(other, Note("other"))
    drain(loop)
    assert kept.index("other") == BATCH
    assert len(kept) == BATCH + 2


def test_a_handler_that_fails_does_not_end_its_actor(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    kept: list[str] = []
    ref = Diary.start(loop, kept)
    post(ref, Note("fail"))
    post(ref, Note("after"))
    drain(loop)
    assert kept == ["after"]
    assert "Diary failed on Note" in caplog.text


def test_a_request_that_is_refused_is_answered(loop: Loop) -> None:
    ref = Diary.start(loop, [])
    reply = FakeReply()
    post(ref, Call("tasks.get", "default", IdRef("x"), reply))
    drain(loop)
    assert [str(answer) for answer in reply.answers] == ["no x"]


def test_a_request_to_an_actor_that_has_stopped_is_answered_not_found(loop: Loop) -> None:
    ref = Diary.start(loop, [])
    ref.stop(block=False)
    reply = FakeReply()
    post(ref, Call("tasks.get", "default", IdRef("x"), reply))
    drain(loop)
    assert [type(answer) for answer in reply.answers] == [NotFound]


def test_what_was_posted_before_a_stop_is_handled_before_it(loop: Loop) -> None:
    kept: list[str] = []
    ref = Diary.start(loop, kept)
    post(ref, Note("last words"))
    ref.stop(block=False)
    drain(loop)
    assert kept == ["last words"]
    assert not ref.is_alive()


def test_an_ask_that_comes_too_late_is_refused_and_never_waits(loop: Loop) -> None:
    ref = Diary.start(loop, [])
    inbox = ref.actor_inbox
    ref.stop(block=False)
    drain(loop)
    future = pykka.ThreadingFuture[Any]()
    inbox.put(pykka._envelope.Envelope(Note("late"), reply_to=future))
    with pytest.raises(pykka.ActorDeadError):
        future.get(timeout=0)


def send_all(ref: pykka.ActorRef[Diary], name: str) -> None:
    """Its messages, in order."""
    for number in range(200):
        post(ref, Note(f"{name}{number}"))


def test_messages_from_many_threads_all_arrive_each_senders_in_order(loop: Loop) -> None:
    kept: list[str] = []
    ref = Diary.start(loop, kept)
    threads = [
        threading.Thread(target=lambda name=name: send_all(ref, name))
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    while len(kept) < 800:
        loop.round(0.1)
    for thread in threads:
        thread.join()
    for name in "abcd":
        assert [text for text in kept if text[0] == name] == [f"{name}{number}" for number in range(200)]


def test_a_stopped_actor_is_not_kept_alive(loop: Loop) -> None:
    ref = Diary.start(loop, [])
    actor = cast("Any", ref.actor_inbox)._schedule.__closure__[0].cell_contents
    seen = weakref.ref(actor)
    del actor
    ref.stop(block=False)
    drain(loop)
    gc.collect()
    assert seen() is None


def test_loop_actors_stay_out_of_pykkas_registry(loop: Loop) -> None:
    before = len(pykka.ActorRegistry.get_all())
    Diary.start(loop, [])
    assert len(pykka.ActorRegistry.get_all()) == before
