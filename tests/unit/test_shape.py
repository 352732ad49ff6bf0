from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.methods import METHODS
from actors.params import PARAMS, ContainerCreate
from actors.records import LEFT_OUT, Container, Exit, Mount, RunResult, Runtime, RuntimeOptions, Stdio, Stop, Task
from actors.shape import dump, lenient, nearest, strict
from shimproc.errors import InvalidArgument

SPEC = {"ociVersion": "1.0.2", "process": {"args": ["sh"]}}


def even(value: int, path: str) -> int:
    if value % 2:
        raise InvalidArgument(f"{path}: {value} is odd")
    return value


@dataclass(frozen=True)
class Part:
    name: str
    size: int = 1


@dataclass(frozen=True)
class Whole:
    """A field of every kind."""

    text: str
    number: float = 0.0
    count: int | None = 3
    flag: bool = False
    data: bytes = b""
    signal: str | int = "SIGTERM"
    parts: tuple[Part, ...] = ()
    words: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = None
    anything: Any = None
    checked: Annotated[int, even] = 0
    reason: str | None = field(default=None, metadata={LEFT_OUT: True})


def parse(value: Any, path: str = "") -> Whole:
    return strict(Whole)(value, path)


def refused(value: Any, path: str = "", cls: Callable[..., Any] = Whole) -> str:
    with pytest.raises(InvalidArgument) as caught:
        strict(cls)(value, path)
    return caught.value.message


def test_what_is_left_out_has_its_default() -> None:
    assert parse({"text": "a"}) == Whole("a")


def test_every_kind_of_field_is_read() -> None:
    given_map = {
        "text": "a",
        "number": 1.5,
        "count": 7,
        "flag": True,
        "data": b"\0",
        "signal": 9,
        "parts": [{"name": "x", "size": 1}, {"name": "y", "size": 2}],
        "words": ["v", "w"],
        "labels": {"k": "v"},
        "raw": {"deep": [{"b": None}]},
        "anything": [1, None],
        "checked": 4,
        "reason": "oom",
    }
    whole = parse(given_map)
    assert whole.parts == (Part("x"), Part("y", 2))
    assert whole.words == ("v", "w")
    assert dump(whole) == given_map


def test_null_for_an_optional_key_is_as_if_it_were_left_out() -> None:
    everything = dict.fromkeys((known.name for known in dataclasses.fields(Whole)), None)
    assert parse({**everything, "text": "a"}) == Whole("a")


def test_null_for_a_required_key_is_refused() -> None:
    assert refused({"text": None}) == "text: expected text, got null"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("text", 5, "text: expected text, got an integer"),
        ("text", b"a", "text: expected text, got bytes"),
        ("number", "1", "number: expected a number, got text"),
        ("number", True, "number: expected a number, got true or false"),
        ("count", 1.0, "count: expected an integer, got a number"),
        ("count", False, "count: expected an integer, got true or false"),
        ("flag", 1, "flag: expected true or false, got an integer"),
        ("data", "a", "data: expected bytes, got text"),
        ("signal", 9.0, "signal: expected text or an integer, got a number"),
        ("signal", True, "signal: expected text or an integer, got true or false"),
        ("signal", [], "signal: expected text or an integer, got a list"),
        ("parts", {}, "parts: expected a list, got a map"),
        ("parts", "ab", "parts: expected a list, got text"),
        ("parts", [{"name": "a"}, 5], "parts[1]: expected a map, got an integer"),
        ("parts", [{"name": "a"}, {"name": 5}], "parts[1].name: expected text, got an integer"),
        ("parts", [{}], "parts[0].name: it is required"),
        ("words", ["a", None], "words[1]: expected text, got null"),
        ("labels", [], "labels: expected a map, got a list"),
        ("labels", {"a": 1}, "labels.a: expected text, got an integer"),
        ("labels", {5: "a"}, "labels: its key 5: expected text, got an integer"),
        ("raw", 5, "raw: expected a map, got an integer"),
        ("raw", {b"a": 1}, "raw: its key b'a': expected text, got bytes"),
        ("checked", 3, "checked: 3 is odd"),
        ("checked", "3", "checked: expected an integer, got text"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_path(key: str, value: Any, said: str) -> None:
    assert refused({"text": "a", key: value}) == said
    assert refused({"text": "a", key: value}, "params") == f"params.{said}"


def test_a_required_key_that_is_missing_is_named() -> None:
    assert refused({}) == "text: it is required"


@pytest.mark.parametrize(
    ("key", "hint"),
    [("txet", " (did you mean text?)"), ("Text", " (did you mean text?)"), ("part", " (did you mean parts?)"), ("zzz", "")],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(key: str, hint: str) -> None:
    assert refused({"text": "a", key: 1}) == f"{key}: unknown key{hint}"


@pytest.mark.parametrize("value", [{"k" * 10**6: 1}, {"text": "a", "labels": {"k" * 10**6: 1}}, {"parts": [{"k" * 10**6: 1}]}])
def test_a_refusal_does_not_repeat_a_huge_key_whole(value: Mapping[str, Any]) -> None:
    """The key may be as long as a message; the answer to it, and the work for that, may not."""
    assert len(refused(value)) < 300


def test_the_nearest_to_a_huge_word_is_not_looked_for() -> None:
    huge = "".join(chr(97 + number * number % 26) for number in range(2_000_000))
    before = time.thread_time()
    assert nearest(huge, ["text", "number"]) == ""
    assert time.thread_time() - before < 0.05


def test_an_unknown_key_within_is_named_by_its_path() -> None:
    assert refused({"text": "a", "parts": [{"nam": "x"}]}) == "parts[0].nam: unknown key (did you mean name?)"


@pytest.mark.parametrize("key", [5, b"text", None, 1.5])
def test_a_key_that_is_no_text_is_unknown(key: Any) -> None:
    assert refused({"text": "a", key: 1}).startswith(f"{key}: unknown key")


@pytest.mark.parametrize("value", [None, 5, [], "text", b""])
def test_what_is_no_map_is_refused(value: Any) -> None:
    assert refused(value).startswith("params: expected a map, got ")
    assert refused(value, "spec").startswith("spec: expected a map, got ")


def test_the_lenient_parser_ignores_keys_of_a_later_version_at_any_depth() -> None:
    later = {"text": "a", "new": 1, "parts": [{"name": "x", "new": 2}], 5: 6}
    assert lenient(Whole)(later, "") == Whole("a", parts=(Part("x"),))


def test_the_lenient_parser_still_refuses_wrong_types_and_missing_keys() -> None:
    with pytest.raises(InvalidArgument, match=r"^task\.text: expected text"):
        lenient(Whole)({"text": 1}, "task")
    with pytest.raises(InvalidArgument, match=r"^task\.text: it is required"):
        lenient(Whole)({}, "task")


def test_strict_and_lenient_parsers_of_one_class_are_kept_apart() -> None:
    assert lenient(Part)({"name": "x", "new": 1}, "") == Part("x")
    assert refused({"name": "x", "new": 1}, cls=Part) == "new: unknown key"
    assert lenient(Part)({"name": "x", "new": 1}, "") == Part("x")


def test_a_map_that_is_passed_on_is_dumped_as_it_came() -> None:
    container = Container("c", "space", SPEC, labels={"a": "b"})
    found = dump(container)
    assert found["spec"] is SPEC
    assert found["rootfs"] == []
    assert found["runtime"] == {"name": "", "options": dump(RuntimeOptions())}


def test_a_field_that_may_be_left_out_is_there_once_it_has_a_value() -> None:
    ended = Exit("a", 5, 137, 1)
    assert "reason" not in dump(ended)
    assert dump(dataclasses.replace(ended, reason="oom"))["reason"] == "oom"
    assert dump(RunResult(_task(), ended, b"", truncated=False)).keys() == {"task", "exit", "stdout", "truncated"}


def test_a_field_that_is_null_stays_unless_it_may_be_left_out() -> None:
    assert dump(_task())["exit_status"] is None
    assert dump(Container("c", "space", SPEC))["restart"] is None


@pytest.mark.parametrize("value", [5, "a", None, b"x", {"a": (1, 2)}, 1.5])
def test_what_is_no_record_is_dumped_as_it_is(value: Any) -> None:
    assert dump(value) is value


def test_records_in_lists_are_dumped() -> None:
    assert dump([Part("a"), (Part("b"),)]) == [{"name": "a", "size": 1}, [{"name": "b", "size": 1}]]


TEXTS = st.text(max_size=8)
SECONDS = st.floats(0, 1e6)


@given(
    st.builds(
        Container,
        id=TEXTS,
        namespace=TEXTS,
        spec=st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=3),
        rootfs=st.lists(st.builds(Mount, TEXTS, TEXTS, st.lists(TEXTS, max_size=2).map(tuple)), max_size=2).map(tuple),
        runtime=st.builds(Runtime, TEXTS, st.builds(RuntimeOptions, root=st.none() | TEXTS, no_shim=st.none() | st.booleans())),
        stdio=st.builds(Stdio, TEXTS, TEXTS, TEXTS, st.booleans()),
        labels=st.dictionaries(TEXTS, TEXTS, max_size=3),
        stop=st.none() | st.builds(Stop, TEXTS | st.integers(), SECONDS),
        timeout=st.none() | SECONDS,
        created_at=st.integers(0),
    )
)
@settings(max_examples=60)
def test_a_container_survives_the_wire_and_back(container: Container) -> None:
    assert strict(Container)(dump(container), "") == container
    assert lenient(Container)({**dump(container), "later": 1}, "") == container


@pytest.mark.parametrize("name", sorted(PARAMS))
def test_the_params_of_every_method_refuse_a_key_that_is_unknown(name: str) -> None:
    assert name in METHODS
    assert refused({"unheard_of": 1}, cls=PARAMS[name]).startswith("unheard_of: unknown key")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"id": "a b", "spec": SPEC}, "id: 'a b' is no identifier"),
        ({"id": "a", "spec": 1}, "spec: expected a map, got an integer"),
        ({"id": "a"}, "spec: it is required"),
        ({"id": "a", "spec": SPEC, "rootfs": [{"type": "bind"}, {"source": "/"}]}, "rootfs[1].type: it is required"),
        ({"id": "a", "spec": SPEC, "rootfs": [{"typ": "bind"}]}, "rootfs[0].typ: unknown key (did you mean type?)"),
        ({"id": "a", "spec": SPEC, "stdio": {"stdot": ""}}, "stdio.stdot: unknown key (did you mean stdout?)"),
        ({"id": "a", "spec": SPEC, "runtime": {"options": {"root": 1}}}, "runtime.options.root: expected text, got an integer"),
        ({"id": "a", "spec": SPEC, "restart": {"max_retries": 1.5}}, "restart.max_retries: expected an integer, got a number"),
        ({"id": "a", "spec": SPEC, "health": {}}, "health.args: it is required"),
    ],
)
def test_what_is_wrong_in_a_containers_params_is_named_by_its_path(params: Mapping[str, Any], said: str) -> None:
    assert refused(params, cls=ContainerCreate).startswith(said)


@pytest.mark.parametrize(
    ("word", "hint"),
    [("tsaks.start", " (did you mean tasks.start?)"), ("tasks.starts", " (did you mean tasks.start?)"), ("qqq", ""), ("", "")],
)
def test_the_nearest_word_is_suggested_and_nothing_far(word: str, hint: str) -> None:
    assert nearest(word, ["tasks.start", "tasks.kill", "health"]) == hint


def _task() -> Task:
    return Task("a", "space", "created", 5, None, None, 1, None, Stdio(), "/b", Runtime("crun"), 6)
