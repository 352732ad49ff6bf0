"""The keys that detach: their notation, and the search for them in what is typed, however it is cut into pieces."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cli.detach import DEFAULT_KEYS, DetachSearch, detach_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [(DEFAULT_KEYS, b"\x10\x11"), ("a", b"a"), ("ctrl-@,ctrl-],b", b"\x00\x1db"), ("ctrl-A", b"\x01"), ("", b"")],
)
def test_keys_are_written_as_with_docker(text: str, keys: bytes) -> None:
    assert detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pp", "ab", "a,,b", "ctrl-1", "ä", "shift-a"])
def test_what_is_no_key_is_refused_by_name(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no key"):
        detach_keys(text)


@given(st.binary(min_size=1, max_size=4), st.lists(st.binary(max_size=6), max_size=12), st.binary(max_size=3))
def test_what_is_typed_before_the_keys_is_passed_on_whole_and_nothing_after(
    keys: bytes, pieces: list[bytes], rest: bytes
) -> None:
    search, passed, found = DetachSearch(keys), b"", False
    for piece in [*pieces, keys[:1], keys[1:] + rest]:
        data, found = search.take(piece)
        passed += data
        if found:
            break
    before, was_there, _ = (b"".join(pieces) + keys + rest).partition(keys)
    assert (passed, found) == (before, bool(was_there))


@given(st.lists(st.sampled_from([b"a", b"ab", b"\x10", b"\x10a", b"b"]), max_size=12))
def test_what_is_held_back_is_never_more_than_a_beginning_of_the_keys(pieces: list[bytes]) -> None:
    search, passed = DetachSearch(b"\x10\x11"), b""
    for piece in pieces:
        data, found = search.take(piece)
        passed += data
        assert not found
    typed = b"".join(pieces)
    assert typed[len(passed) :] == (b"\x10" if typed.endswith(b"\x10") else b"")
    assert typed.startswith(passed)
