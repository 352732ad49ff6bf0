from __future__ import annotations

import copy
import dataclasses
import math
import signal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.params import ContainerCreate, TaskRun
from actors.records import Mount, Restart, Runtime, Stdio, Stop
from actors.spec import (
    MAX_CAPTURE,
    MAX_DEPTH,
    MAX_LABEL,
    POLICIES,
    check_container,
    check_labels,
    check_plain,
    check_spec,
    check_stdio,
    parse_signal,
)
from shimproc.errors import InvalidArgument
from tests.support.specs import spec

ARGS: tuple[Any, ...] = (None, [], "sh", {}, 5, [5], ["sh", None], [""], ["sh", "a\0b"])
SMALLEST: dict[str, Any] = {"ociVersion": "1.0.2", "process": {"args": ["sh"], "cwd": "/"}}


def with_process(**fields: Any) -> dict[str, Any]:
    return {**SMALLEST, "process": {**SMALLEST["process"], **fields}}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SMALLEST.items() if key != name}


def refused_spec(config: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check_spec(config)
    return caught.value.message


def refused(**fields: Any) -> str:
    """What is said of a container that is right but for ``fields``; a TaskRun where they are a run's."""
    cls = TaskRun if {"rm", "wait", "capture"} & fields.keys() else ContainerCreate
    with pytest.raises(InvalidArgument) as caught:
        check_container(cls(**{"id": "a", "spec": SMALLEST, **fields}))
    return caught.value.message


@pytest.mark.parametrize("config", [SMALLEST, spec(["sh"]), spec(["sh"], plain=True), spec(["sh"], host_pids=True)])
def test_a_sound_spec_is_taken_and_left_as_it_is(config: dict[str, Any]) -> None:
    before = copy.deepcopy(config)
    check_spec(config)
    assert config == before


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1+rc"])
def test_any_version_one_is_taken(version: str) -> None:
    check_spec({**SMALLEST, "ociVersion": version})


@pytest.mark.parametrize("version", [None, "", "2.0.0", "10.0", "0.9", 1, 1.0])
def test_another_version_is_refused(version: Any) -> None:
    assert refused_spec({**SMALLEST, "ociVersion": version}).startswith("spec.ociVersion: expected a version 1.x as text")


@pytest.mark.parametrize("name", ["ociVersion", "process"])
def test_a_spec_without_what_every_container_needs_names_it(name: str) -> None:
    assert refused_spec(without(name)).startswith(f"spec.{name}: ")


def test_keys_that_are_unknown_here_are_the_runtimes() -> None:
    check_spec({**with_process(ioPriority={"class": "x"}), "linux": {"later": [1, {"a": None}]}, "vm": {}})


@pytest.mark.parametrize("name", ["root", "mounts", "linux", "hostname"])
def test_null_is_as_if_it_were_left_out(name: str) -> None:
    check_spec({**SMALLEST, name: None})


@pytest.mark.parametrize("name", ["env", "user", "rlimits"])
def test_null_in_a_process_is_as_if_it_were_left_out(name: str) -> None:
    check_spec(with_process(**{name: None}))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"process": None}, "spec.process: "),
        ({"process": ["sh"]}, "spec.process: "),
        ({"root": "/"}, "spec.root: "),
        ({"root": {}}, "spec.root: "),
        ({"root": {"path": 5}}, "spec.root: "),
        ({"mounts": {}}, "spec.mounts: expected a list"),
        ({"mounts": [{"destination": "/proc"}, {"source": "x"}]}, "spec.mounts[1]: "),
        ({"mounts": ["/proc"]}, "spec.mounts[0]: "),
        ({"linux": []}, "spec.linux: expected a map"),
        ({"hostname": 5}, "spec.hostname: expected text"),
    ],
)
def test_what_is_wrong_in_a_spec_is_named_by_its_path(fields: dict[str, Any], named: str) -> None:
    assert refused_spec({**SMALLEST, **fields}).startswith(named)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        *(("args", value, "args: ") for value in ARGS),
        *(("cwd", value, "cwd: ") for value in (None, "", "tmp", "./a", 5, "/a\0")),
        *(("env", value, "env[1]: ") for value in (["A=b", "C"], ["A=b", "=c"], ["A=b", ""], ["A=b", 5], ["A=b", "C=\0"])),
        *(("env", value, "env") for value in (5, 1.5, True, "A=b", {"A=b": "c"})),
        *(("user", value, "user: ") for value in (0, "root", [0])),
        *(("user", {"uid": value}, "user.uid: ") for value in (-1, 2**32 - 1, "0", 1.0, True, None)),
        *(("user", {"gid": value}, "user.gid: ") for value in (-1, 2**32 - 1, "0", 1.0, False)),
        *(("rlimits", value, "rlimits") for value in (5, True, "RLIMIT_CORE", {"type": "RLIMIT_CORE"})),
        ("rlimits", [5], "rlimits[0]: "),
        ("rlimits", [{"type": "RLIMIT_CORE", "soft": 0}], "rlimits[0]: "),
        ("rlimits", [{"type": 5, "soft": 0, "hard": 0}], "rlimits[0]: "),
        ("rlimits", [{"type": "RLIMIT_CORE", "soft": "0", "hard": 0}], "rlimits[0]: "),
        ("rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": True}], "rlimits[0]: "),
    ],
)
def test_what_is_wrong_in_a_process_is_named_by_its_path(name: str, value: Any, named: str) -> None:
    assert refused_spec(with_process(**{name: value})).startswith(f"spec.process.{named}")


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ["/bin/sh", ""]},
        {"env": ["A=", "B=c=d", "C= "]},
        {"env": []},
        {"user": {}},
        {"user": {"uid": 2**32 - 2, "gid": 0, "additionalGids": [5]}},
        {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 2**63, "hard": 2**64 - 1}]},
    ],
)
def test_what_is_unusual_but_right_in_a_process_is_taken(fields: dict[str, Any]) -> None:
    check_spec(with_process(**fields))


def test_the_name_of_the_field_is_the_callers() -> None:
    with pytest.raises(InvalidArgument, match=r"^update\.spec\.process: "):
        check_spec(without("process"), "update.spec")


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)


TREES = st.recursive(st.none() | st.booleans() | NUMBERS | st.text(), branches, max_leaves=10)


@given(TREES)
@settings(max_examples=60)
def test_all_that_json_has_is_plain(tree: Any) -> None:
    check_plain(tree, "spec")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"x", "spec.a[1]: bytes has no place in JSON"),
        ({1}, "spec.a[1]: set has no place in JSON"),
        (math.nan, "spec.a[1]: nan is no finite number"),
        (-math.inf, "spec.a[1]: -inf is no finite number"),
        ({5: 1}, "spec.a[1]: its key 5 is no text"),
        ({"b": {None: 1}}, "spec.a[1].b: its key None is no text"),
    ],
)
def test_what_json_does_not_have_is_named_by_its_path(value: Any, said: str) -> None:
    assert refused_spec({**SMALLEST, "a": [0, value]}) == said


def test_nesting_has_a_bound() -> None:
    def nested(depth: int) -> Any:
        value: Any = "leaf"
        for number in range(depth):
            value = [value] if number % 2 else {"a": value}
        return value

    check_plain(nested(MAX_DEPTH), "spec")
    with pytest.raises(InvalidArgument, match=f"nested deeper than {MAX_DEPTH}"):
        check_plain(nested(MAX_DEPTH + 1), "spec")


def test_a_list_that_holds_itself_is_nested_too_deep() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidArgument, match="nested deeper"):
        check_plain(endless, "spec")


def test_a_refusal_does_not_repeat_a_long_path_whole() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_plain({"k" * 100_000: b""}, "spec")
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("labels", [{}, {"a": ""}, {"a.b/c": "x y"}, {"k": "v" * (MAX_LABEL - 1)}, {"k" * MAX_LABEL: ""}])
def test_labels_are_taken_up_to_their_bound(labels: dict[str, str]) -> None:
    assert check_labels(labels) == labels


def test_no_labels_are_none() -> None:
    assert check_labels(None) == {}


@pytest.mark.parametrize("labels", [{"": "v"}, {"k": "v" * MAX_LABEL}, {"a": "b", "k" * (MAX_LABEL + 1): ""}])
def test_a_label_without_a_key_or_too_long_is_refused(labels: dict[str, str]) -> None:
    assert refused(labels=labels).startswith("labels.")
    assert len(refused(labels=labels)) < 300


@pytest.mark.parametrize("uri", ["", "/run/pipe", "fifo:///run/pipe", "file:///var/log/x"])
def test_every_form_of_stdio_is_taken(uri: str) -> None:
    check_stdio(Stdio(uri, uri, uri))


def test_a_managed_log_is_for_output_alone() -> None:
    check_stdio(Stdio("", "log:", "log:"))
    assert refused(stdio=Stdio("log:")).startswith("stdio.stdin: ")


@pytest.mark.parametrize("uri", ["x", "./x", "fifo://x", "file:x", "http:///x", "/a\0b", "log", "log:/x"])
@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_another_form_of_stdio_is_refused_by_its_stream(stream: str, uri: str) -> None:
    fields: dict[str, Any] = {stream: uri}
    assert refused(stdio=Stdio(**fields)).startswith(f"stdio.{stream}: ")


def test_a_logger_is_for_output_alone() -> None:
    check_stdio(Stdio(stdout="binary:///bin/logger"), "exec.stdio")
    with pytest.raises(InvalidArgument, match=r"^exec\.stdio\.stdin: "):
        check_stdio(Stdio(stdin="binary:///bin/logger"), "exec.stdio")


def test_a_terminal_has_no_stderr() -> None:
    check_stdio(Stdio("/in", "/out", terminal=True))
    assert refused(stdio=Stdio("/in", "/out", "/err", terminal=True)).startswith("stdio.stderr: with terminal")


@pytest.mark.parametrize("value", [15, "15", "SIGTERM", "sigterm", "TERM", "term"])
def test_a_signal_is_known_by_its_number_and_by_its_name(value: int | str) -> None:
    assert parse_signal(value, "signal") == signal.SIGTERM


@pytest.mark.parametrize("known", list(signal.Signals), ids=lambda known: known.name)
def test_every_signal_of_this_host_is_known(known: signal.Signals) -> None:
    assert {parse_signal(form, "signal") for form in (int(known), str(int(known)), known.name)} == {int(known)}


WORDS = ("", "SIG", "SIGNAL", "SIG_DFL", "SIGSIGTERM", "TERM ", "0", "65", "-1", "1.0", "9" * 5000)


@pytest.mark.parametrize("value", [0, -1, 65, 10**30, *WORDS], ids=lambda value: str(value)[:12])
def test_what_is_no_signal_is_refused_by_its_field(value: int | str) -> None:
    with pytest.raises(InvalidArgument, match=r"^stop\.signal: "):
        parse_signal(value, "stop.signal")


@pytest.mark.parametrize(
    "fields",
    [
        {"rootfs": (Mount("bind", "/", ("ro",)), Mount("tmpfs"))},
        {"runtime": Runtime("/opt/youki")},
        *({"runtime": Runtime(name)} for name in ("", "crun", "runc", "process")),
        *({"restart": Restart(policy)} for policy in POLICIES),
        {"stop": Stop(9, 0)},
        {"timeout": 0.001},
        {"labels": None},
    ],
)
def test_a_sound_container_is_taken(fields: dict[str, Any]) -> None:
    params = ContainerCreate("a", SMALLEST, **fields)
    check_container(params)
    check_container(TaskRun(**{name: getattr(params, name) for name in (known.name for known in dataclasses.fields(params))}))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"spec": without("process")}, "spec.process: "),
        ({"rootfs": (Mount("tmpfs"), Mount(""))}, "rootfs[1].type: "),
        ({"rootfs": (Mount("bi\0nd"),)}, "rootfs[0]: "),
        ({"rootfs": (Mount("bind", "/\0"),)}, "rootfs[0]: "),
        ({"rootfs": (Mount("bind", "/", ("ro", "a\0")),)}, "rootfs[0]: "),
        ({"stdio": Stdio(stdout="x")}, "stdio.stdout: "),
        ({"labels": {"": ""}}, "labels."),
        *(({"runtime": Runtime(name)}, "runtime.name: ") for name in ("runk", "./crun", "Process", " ")),
        *(({"timeout": seconds}, "timeout: ") for seconds in (0, 0.0, -1, math.nan, math.inf)),
        ({"stop": Stop("SIGNAL")}, "stop.signal: "),
        *(({"stop": Stop(grace=seconds)}, "stop.grace: ") for seconds in (-0.5, math.nan, math.inf)),
        ({"restart": Restart("sometimes")}, "restart.policy: 'sometimes' is none of no, always, "),
        *(({"capture": size, "wait": True}, "capture: ") for size in (-1, MAX_CAPTURE + 1)),
        ({"capture": 5}, "capture: it needs wait"),
    ],
)
def test_what_is_wrong_in_a_container_is_named(fields: dict[str, Any], named: str) -> None:
    assert refused(**fields).startswith(named)


@pytest.mark.parametrize("size", [0, 1, MAX_CAPTURE])
def test_so_much_output_can_be_captured(size: int) -> None:
    check_container(TaskRun("a", SMALLEST, wait=True, capture=size))
