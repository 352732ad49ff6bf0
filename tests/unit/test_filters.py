from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.filters import MAX_FILTERS, MAX_LENGTH, compile_filters
from actors.records import Container, Envelope
from actors.shape import dump
from shimproc.errors import InvalidArgument

TASK: dict[str, Any] = {
    "id": "web",
    "status": "running",
    "pid": 42,
    "exit_status": None,
    "bundle": "/run/tasks/default/web",
    "execs": [],
    "stdio": {"stdin": "", "terminal": True},
    "labels": {"app": "web", "empty": "", "io.cri/kind": "sandbox", "a": "1", "a.b": "2", "my label": 'say "hi"'},
}
EVENT = dump(Envelope(7, 5, "default", "/tasks/exit", "TaskExit", {"container_id": "web", "exit_status": 137}))
"""A corpus in the manner of containerd's filter_test.go."""
CORPUS: tuple[dict[str, Any], ...] = (
    {"name": "foo", "labels": {"foo": "true"}},
    {"name": "bar"},
    {"name": "foo", "labels": {"foo": "present", "more complex label": "present"}},
    {"name": "bar", "labels": {"bar": "true"}},
    {"name": "fooer", "labels": {'more complex label with \\ and "': "present"}},
    {"name": "fooer", "labels": {'more complex label with \\ and ".post': "present"}},
    {"name": "baz", "other": "too complex, yo"},
    {"name": "bazo", "other": "abc"},
    {"name": "compound", "labels": {"foo": "omg_asdf.asdf-qwer"}},
)


def matches(thing: Mapping[str, Any], *texts: str) -> bool:
    return compile_filters(texts)(thing)


def refused(text: str) -> str:
    """What the refusal of ``text``, the second filter of two, says."""
    with pytest.raises(InvalidArgument) as caught:
        compile_filters(["id==web", text])
    return caught.value.message


def found(*texts: str) -> list[int]:
    predicate = compile_filters(texts)
    return [number for number, thing in enumerate(CORPUS) if predicate(thing)]


def test_no_filters_match_everything() -> None:
    assert matches({})
    assert matches(TASK)


def test_an_empty_filter_matches_everything_even_beside_one_that_does_not() -> None:
    assert matches(TASK, "")
    assert matches(TASK, "id==other", "")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("name", list(range(9))),
        ("labels.foo", [0, 2, 8]),
        ("labels.foo,name", [0, 2, 8]),
        ("labels.foo==true", [0]),
        ("labels.foo==omg_asdf.asdf-qwer", [8]),
        ("name==bar", [1, 3]),
        ("name!=bar", [0, 2, 4, 5, 6, 7, 8]),
        ("name==bar,labels.bar", [3]),
        ('other=="too complex, yo"', [6]),
        ("other~=[abc]+,name!=foo", [6, 7]),
        ("other~=/[abc]+/,name!=foo", [6, 7]),
        ("other~=/[abc]{1,2}/,name!=foo", [6, 7]),
        ('other~=/[abc]{0,1}"\\//,name!=foo', []),
        ("name==bar,labels.bar==true", [3]),
        ("name==bar,labels.bar==wrong", []),
        ('name==foo,labels."more complex label"', [2]),
        ('labels."more complex label with \\\\ and \\""==present', [4]),
        ('labels."more complex label with \\\\ and \\"".post==present', [5]),
    ],
)
def test_a_filter_finds_what_containerd_finds(text: str, numbers: list[int]) -> None:
    assert found(text) == numbers


@pytest.mark.parametrize("text", ["labels.|foo|==x", 'labels.?"foo"==present', "name==foo,", "labels.", "id?=?fbaq"])
def test_a_filter_that_containerd_refuses_is_refused(text: str) -> None:
    assert refused(text).startswith("filters[1]: expected ")


@pytest.mark.parametrize(
    "text",
    [
        "id==web",
        "id==web,status==running",
        " id == web , status != stopped ",
        "pid==42",
        "stdio.terminal==true",
        "labels.app==web",
        "labels.app",
        "labels.io.cri/kind==sandbox",
        'labels."io.cri/kind"==sandbox',
        "labels.a==1",
        "labels.a.b==2",
        'labels."my label"=="say \\"hi\\""',
        "bundle~=^/run/.*/web$",
        "bundle~=/tasks/.*",
        "id~=/^w.b$/",
        "id~=|^w.b$|",
        'id~="^w.b$"',
        "bundle~=/default\\/web/",
    ],
)
def test_a_filter_matches_the_task_it_describes(text: str) -> None:
    assert matches(TASK, text)


@pytest.mark.parametrize(
    "text",
    [
        "id==we",
        "id==WEB",
        "id!=web",
        "id==web,status==stopped",
        "status==stopped,id==web",
        "labels.app==db",
        "labels.nothing",
        "labels.a.c",
        "labels.app.deeper",
        "id.deeper==web",
        "nothing",
        "nothing==x",
        "stdio.terminal==True",
        "id~=^e",
        "bundle~=^/tasks/",
    ],
)
def test_a_filter_does_not_match_another_task(text: str) -> None:
    assert not matches(TASK, text)


@pytest.mark.parametrize("text", ["topic~=/tasks/.*", "topic==/tasks/exit", "event.container_id==web", "event.exit_status==137"])
def test_an_event_is_found_by_its_topic_and_by_its_body(text: str) -> None:
    assert matches(EVENT, text)


def test_a_container_is_found_as_the_wire_shows_it() -> None:
    container = dump(Container("c", "space", {"ociVersion": "1.0.2"}, labels={"app": "web"}))
    assert matches(container, "labels.app==web,spec.ociVersion==1.0.2,runtime.options.no_pivot_root==false")


def test_several_filters_are_alternatives() -> None:
    assert matches(TASK, "id==other", "status==running")
    assert not matches(TASK, "id==other", "status==stopped")


@pytest.mark.parametrize("text", ["exit_status", "stdio.stdin", "execs", "labels", "exit_status==0", "exit_status~=."])
def test_what_is_null_empty_or_no_text_is_not_there(text: str) -> None:
    assert not matches(TASK, text)


def test_a_label_is_there_even_if_it_is_empty() -> None:
    assert matches(TASK, "labels.empty")
    assert matches(TASK, 'labels.empty==""')


def test_what_is_not_there_differs_from_any_value() -> None:
    assert matches(TASK, "labels.nothing!=x")
    assert matches(TASK, "exit_status!=0")


@pytest.mark.parametrize(
    ("quoted", "value"),
    [
        (r'"\a\b\f\n\r\t\v\\\""', '\a\b\f\n\r\t\v\\"'),
        (r'"\x41\u00e9\U0001F600\101"', "A\u00e9\U0001f600A"),
        ('"a,b c.d==e"', "a,b c.d==e"),
        ('""', ""),
    ],
)
def test_a_quoted_value_has_gos_escapes(quoted: str, value: str) -> None:
    assert matches({"id": value}, f"id=={quoted}")
    assert not matches({"id": value + "x"}, f"id=={quoted}")


@pytest.mark.parametrize("escape", [r"\q", r"\x4", r"\u12", r"\ud800", r"\U00110000", r"\1", r"\8"])
def test_an_escape_that_go_does_not_have_is_refused_with_its_place(escape: str) -> None:
    said = refused(f'id=="a{escape}"')
    assert said.startswith("filters[1]: ")
    assert escape[:2] in said
    assert "position" in said


@pytest.mark.parametrize(
    ("text", "expected", "position"),
    [
        (",", "a field's name", 0),
        (" .a", "a field's name", 1),
        ("id==web,", "a field's name", 8),
        ("labels.", "a field's name", 7),
        ("labels..a", "a field's name", 7),
        ('"id==web', "a closing quote", 0),
        ('id=="web', "a closing quote", 4),
        ('id=="web\\"', "a closing quote", 4),
        ('id=="we\nb"', "a closing quote", 4),
        ("id=web", "==, !=, ~=, a comma or the end", 2),
        ("id web", "==, !=, ~=, a comma or the end", 3),
        ("id==web or", "a comma or the end", 8),
        ('id=="web"x', "a comma or the end", 9),
        ("id~=|a|b|", "a comma or the end", 7),
    ],
)
def test_a_refusal_names_the_filter_what_was_expected_and_the_position(text: str, expected: str, position: int) -> None:
    assert refused(text) == f"filters[1]: expected {expected} at position {position} of {text!r}"


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?!x)", "(a)\\\\1"])
def test_a_regular_expression_that_cannot_be_taken_names_the_filter(pattern: str) -> None:
    assert refused(f'id~="{pattern}"').startswith("filters[1]: ")


def test_the_name_of_the_field_is_the_callers() -> None:
    with pytest.raises(InvalidArgument, match=r"^watch\.filters\[0\]: "):
        compile_filters([","], "watch.filters")


def test_a_filter_as_long_as_the_bound_is_taken_and_a_longer_one_refused() -> None:
    value = "x" * (MAX_LENGTH - len("id=="))
    assert matches({"id": value}, f"id=={value}")
    assert str(MAX_LENGTH) in refused(f"id=={value}x")


def test_so_many_filters_and_no_more_are_taken() -> None:
    assert matches(TASK, *["id==other"] * (MAX_FILTERS - 1), "id==web")
    with pytest.raises(InvalidArgument, match=rf"^filters: {MAX_FILTERS + 1} are more than {MAX_FILTERS}"):
        compile_filters(["id"] * (MAX_FILTERS + 1))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(TEXTS, TEXTS)
@settings(max_examples=100)
def test_any_value_can_be_quoted_and_equals_itself_alone(value: str, other: str) -> None:
    quoted = json.dumps(value, ensure_ascii=False)
    assert matches({"id": value}, f"id=={quoted}")
    assert matches({"id": other}, f"id=={quoted}") is (other == value)
    assert matches({"id": other}, f"id!={quoted}") is (other != value)


@given(TEXTS, st.sampled_from(["", ".b", ".b.c"]))
@settings(max_examples=60)
def test_any_label_can_be_named_in_quotes(name: str, rest: str) -> None:
    quoted = json.dumps(name, ensure_ascii=False)
    assert matches({"labels": {name + rest: "x", "other": "y"}}, f"labels.{quoted}{rest}==x")


@given(st.text(st.sampled_from('ab.,"=!~/|\\ (*[]?:ux0{}\n\u00e9-_$^')) | TEXTS)
@example("a~=(?a)(?u)x")
@settings(max_examples=100)
def test_any_text_at_all_is_a_filter_or_is_refused_as_one(text: str) -> None:
    said = ""
    try:
        answer = matches(TASK, text)
    except InvalidArgument as error:
        said = error.message
        answer = False
    assert answer in (True, False)
    assert said == "" or said.startswith("filters[0]: ")
