"""Frames over a socket pair: whole, in order, whatever one of them does to whoever takes it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimproc.link import Link
from shimproc.loop import Loop
from shimproc.wire import encode
from tests.support.turns import descriptors, until


class End:
    """One end of a link on a loop; the other is a plain socket."""

    def __init__(self) -> None:
        self.loop = Loop()
        ours, self.theirs = socket.socketpair()
        self.got: list[dict[str, Any]] = []
        self.closed = 0
        self.link = Link(self.loop, ours, self._on_message, self._on_close)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        if message.get("bad"):
            raise ValueError("it cannot be taken")
        self.got.append(message)

    def _on_close(self) -> None:
        self.closed += 1

    def close(self) -> None:
        self.link.close()
        self.theirs.close()
        self.loop.close()


@pytest.fixture
def end() -> Iterator[End]:
    before = descriptors()
    made = End()
    yield made
    made.close()
    assert descriptors() == before


def test_a_message_that_cannot_be_taken_costs_not_those_that_came_with_it(end: End) -> None:
    end.theirs.sendall(b"".join(encode(message) for message in ({"n": 1}, {"bad": True}, {"n": 2})))
    until(end.loop, lambda: len(end.got) == 2)
    assert [message["n"] for message in end.got] == [1, 2]
    assert not end.link.closed


@pytest.mark.parametrize("sent", [b"\xff" * 8, b"\x00\x00\x00\x01\xff", b"\x00\x00\x00\x01\x01", b"\x7f\xff\xff\xff"])
def test_what_is_no_frame_of_ours_ends_the_link_once_and_leaves_no_descriptor(end: End, sent: bytes) -> None:
    kept, other = os.pipe()
    socket.send_fds(end.theirs, [sent], [kept])
    os.close(kept)
    os.close(other)
    until(end.loop, lambda: end.link.closed)
    end.loop.round(0)
    assert (end.closed, end.got) == (1, [])


@given(st.binary(min_size=1, max_size=100))
def test_whatever_is_read_is_taken_whole_or_ends_the_link(data: bytes) -> None:
    one = End()
    try:
        one.theirs.sendall(encode({"n": 1}) + data)
        one.theirs.shutdown(socket.SHUT_WR)
        until(one.loop, lambda: one.link.closed)
        assert one.got[:1] in ([{"n": 1}], [])
        assert one.closed == 1
    finally:
        one.close()
