from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.identifiers import MAX_CREDIT, MAX_LENGTH, check_credit, check_id, check_namespace, check_topic
from shimproc.errors import InvalidArgument

CONTRACT = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*")
"""The pattern of API.md, section 2, word for word."""
LABEL = string.ascii_letters + string.digits
PATHS = ("", ".", "..", "/", "a/b", "../a", "a/..", "~", "\\")
HARMFUL = (*PATHS, "a\0", "\0", "a\n", "\na", " a", "a ", "a b", "a\tb", "a*", "caf\u00e9", "\u0663")
TOPICS = ("/a", "/tasks/exit", "/a.b/c_d/e-f", "/" + "a" * (4 * MAX_LENGTH - 1))
NO_TOPICS = ("", "/", "a", "tasks/exit", "/a/", "//a", "/a//b", "/.", "/..", "/a/../b", "/a b", "/a\n", "/-a", "/a-", "/_")


def is_id(value: str) -> bool:
    try:
        return check_id(value) == value
    except InvalidArgument:
        return False


def is_namespace(value: str) -> bool:
    try:
        return check_namespace(value) == value
    except InvalidArgument:
        return False


@pytest.mark.parametrize("value", ["a", "0", "Web-1", "a.b_c-d", "1.2.3", "a" * MAX_LENGTH])
def test_an_identifier_is_given_back(value: str) -> None:
    assert check_id(value) is value


@pytest.mark.parametrize("value", [*HARMFUL, ".a", "a.", "-a", "a-", "_a", "a..b", "a-_b", "a--b", "a:b", "a" * (MAX_LENGTH + 1)])
def test_what_is_no_identifier_is_refused_by_its_field(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^exec_id: .* is no identifier: "):
        check_id(value, "exec_id")


@pytest.mark.parametrize("value", ["a", "0", "default", "my-team.web", "a--b", "k8s.io", "A.1", "x" * MAX_LENGTH])
def test_a_namespace_is_given_back(value: str) -> None:
    assert check_namespace(value) is value


@pytest.mark.parametrize("value", [*HARMFUL, ".a", "a.", "a..b", "-a", "a-", "a.-b", "a-.b", "a_b", "x" * (MAX_LENGTH + 1)])
def test_what_is_no_namespace_is_refused_by_its_field(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^name: .* is no namespace: "):
        check_namespace(value, "name")


@pytest.mark.parametrize("value", TOPICS)
def test_a_topic_is_given_back(value: str) -> None:
    assert check_topic(value) is value


@pytest.mark.parametrize("value", [*NO_TOPICS, "/" + "a" * 4 * MAX_LENGTH])
def test_what_is_no_topic_is_refused_by_its_field(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^event\.topic: .* is no topic: "):
        check_topic(value, "event.topic")


@pytest.mark.parametrize("value", [1, 2, MAX_CREDIT])
def test_a_credit_is_given_back(value: int) -> None:
    assert check_credit(value) == value


@pytest.mark.parametrize("value", [0, -1, MAX_CREDIT + 1, 2**64])
def test_a_credit_of_nothing_or_too_much_is_refused(value: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"^n: {value} is not within 1 and {MAX_CREDIT}$"):
        check_credit(value, "n")


@pytest.mark.parametrize("check", [check_id, check_namespace, check_topic])
def test_a_refusal_does_not_repeat_a_long_value_whole(check: Callable[[str], str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check("/x " * 100_000)
    assert len(caught.value.message) < 300


@given(st.text(st.sampled_from("aZ09._-"), max_size=8) | st.text(max_size=4) | st.from_regex(CONTRACT, fullmatch=True))
@example("a\n")
@settings(max_examples=100)
def test_an_identifier_is_what_the_contract_says(value: str) -> None:
    assert is_id(value) is (CONTRACT.fullmatch(value) is not None and len(value) <= MAX_LENGTH)


@given(st.text(st.sampled_from("aZ09.-"), max_size=8) | st.text(max_size=4))
@settings(max_examples=100)
def test_a_namespace_is_labels_between_single_dots(value: str) -> None:
    def is_label(label: str) -> bool:
        inner = set(label) <= set(LABEL + "-")
        return bool(label) and inner and label[0] != "-" and label[-1] != "-"

    assert is_namespace(value) is all(is_label(label) for label in value.split("."))


@given(st.text(st.sampled_from("a./\\\0~- "), max_size=6))
@settings(max_examples=100)
def test_what_is_taken_names_a_file_of_its_own_in_its_folder(value: str) -> None:
    for known in (is_id, is_namespace):
        if known(value):
            assert Path("/folder", value).parent == Path("/folder")
            assert Path("/folder", value).name == value
            assert not value.startswith(".")
