from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from actors import locations
from actors.config import KEYS, Config, Key, load, sample
from shimproc.errors import InvalidArgument

NO_ENVIRON: Mapping[str, str] = {"SHIMYARD_CONFIG": os.devnull}
"""Whatever file the machine has in the default place, it is not read."""
ANOTHER: Mapping[type, Any] = {str: "another", bool: True, int: 65536, list: ["ipc:///run/another"]}
"""A value of each type that differs from the defaults."""
OF_WRONG_TYPE = {str: (5, True, ["a"]), bool: (0, 1, "true"), int: ("5", 1.5, True), list: ("a", 5)}


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def loaded(file: Path | None = None, **flags: Any) -> Config:
    return load(flags, file, NO_ENVIRON)


def refused(folder: Path, text: str | bytes) -> str:
    """What is said of a config file of that text; it begins with the file's name."""
    path = written(folder, text)
    with pytest.raises(InvalidArgument) as caught:
        loaded(path)
    where = f"config file {path}: "
    assert caught.value.message.startswith(where)
    return caught.value.message.removeprefix(where)


def toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def another(key: Key) -> Any:
    named = {"runtime": "runc", "log.level": "debug", "log.format": "json", "api.allowed_uids": [1000]}
    return named.get(key.name, ANOTHER[key.type])


def test_without_a_file_flags_or_environment_the_defaults_hold() -> None:
    config = loaded()
    assert {key.name for key in KEYS} == set(config.values)
    assert all(config[key.name] == key.default for key in KEYS if key.name not in ("state", "root"))
    assert (config.state, config.root) == (locations.state_dir(NO_ENVIRON), locations.root_dir(NO_ENVIRON))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_every_key_can_be_set_in_the_file_and_changes_no_other(tmp_path: Path, key: Key) -> None:
    table, _, name = key.name.rpartition(".")
    value = another(key)
    config = loaded(written(tmp_path, f"[{table}]\n{name} = {toml(value)}" if table else f"{name} = {toml(value)}"))
    assert {**loaded().values, key.name: value} == config.values


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_flag_is_stronger_than_the_file(tmp_path: Path, key: Key) -> None:
    path = written(tmp_path, f"{key.name} = {toml(key.default)}")
    assert load({key.name: another(key)}, path, NO_ENVIRON)[key.name] == another(key)
    assert load({key.name: None}, path, NO_ENVIRON)[key.name] == loaded()[key.name], "not given"


@pytest.mark.parametrize(("name", "variable"), [("state", "SHIMYARD_STATE"), ("root", "SHIMYARD_ROOT")])
def test_the_folders_come_from_flag_environment_file_and_default_in_that_order(
    tmp_path: Path, name: str, variable: str
) -> None:
    path = written(tmp_path, f'{name} = "/of/file"')
    environ = {**NO_ENVIRON, variable: "/of/environ"}
    assert load({name: "/of/flag"}, path, environ)[name] == "/of/flag"
    assert load({}, path, environ)[name] == "/of/environ"
    assert load({}, path, {**NO_ENVIRON, variable: ""})[name] == "/of/file"
    assert load({}, None, environ)[name] == "/of/environ"


def test_folders_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = loaded(state="s", root="r/r")
    assert (config.state, config.root) == (tmp_path / "s", tmp_path / "r/r")


def test_the_file_is_the_one_named_else_the_environments(tmp_path: Path) -> None:
    path = written(tmp_path, 'runtime = "runc"')
    other = tmp_path / "other.toml"
    other.write_text('runtime = "crun"')
    environ = {**NO_ENVIRON, "SHIMYARD_CONFIG": str(path)}
    assert load({}, None, environ)["runtime"] == "runc"
    assert load({}, other, environ)["runtime"] == "crun"


def test_the_default_file_is_read_if_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root's is in /etc
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert load({}, None, environ)["runtime"] == ""
    (tmp_path / "shimyard").mkdir()
    written(tmp_path / "shimyard", 'runtime = "runc"')
    assert load({}, None, environ)["runtime"] == "runc"


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(InvalidArgument, match=r"none\.toml: No such file or directory"):
        loaded(missing)
    with pytest.raises(InvalidArgument, match=r"none\.toml: No such file or directory"):
        load({}, None, {**NO_ENVIRON, "SHIMYARD_CONFIG": str(missing)})


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="Is a directory"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('runtme = "crun"', "unknown key 'runtme' (did you mean runtime?)"),
        ('[log]\nlevle = "info"', "unknown key 'log.levle' (did you mean log.level?)"),
        ("[events]\nkep = 5000", "unknown key 'events.kep' (did you mean events.keep?)"),
        ("api.max_mesage = 5000", "unknown key 'api.max_mesage' (did you mean api.max_message?)"),
        ("no-shim = true", "unknown key 'no-shim' (did you mean no_shim?)"),
        ("qqq = 1", "unknown key 'qqq'"),
        ("[zzz]\na = 1", "unknown table [zzz]"),
        ("[lgo]\nlevel = 'info'", "unknown table [lgo] (did you mean log?)"),
        ("[event]", "unknown table [event] (did you mean events?)"),
        ("log = 5", "log: expected a table, [log], got 5"),
        ("[runtime]\nname = 'crun'", "runtime: it is a key, not a table; write runtime = ..."),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_named(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text) == said


@pytest.mark.parametrize(("name", "value"), [(key.name, value) for key in KEYS for value in OF_WRONG_TYPE[key.type]])
def test_a_value_of_the_wrong_type_is_refused_by_its_key(tmp_path: Path, name: str, value: Any) -> None:
    assert refused(tmp_path, f"{name} = {toml(value)}").startswith(f"{name}: expected ")
    with pytest.raises(InvalidArgument, match=rf"^the command line: {name}: expected "):
        load({name: value}, None, NO_ENVIRON)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api.addresses", [5]),
        ("api.addresses", ["ipc:///run/a", True]),
        ("events.addresses", [["tcp://*:5"]]),
        ("api.allowed_uids", ["root"]),
        ("api.allowed_uids", [1000, True]),
    ],
)
def test_a_list_with_something_of_the_wrong_type_is_refused_by_its_key(tmp_path: Path, name: str, value: list[Any]) -> None:
    items = ", ".join(toml(item) for item in value)
    assert refused(tmp_path, f"{name} = [{items}]").startswith(name)


def test_lists_are_taken_as_they_are_written(tmp_path: Path) -> None:
    config = loaded(written(tmp_path, '[api]\naddresses = ["ipc:///run/a", "tcp://*:5"]\nallowed_uids = [0, 1000]'))
    assert (config["api.addresses"], config["api.allowed_uids"]) == (["ipc:///run/a", "tcp://*:5"], [0, 1000])


@pytest.mark.parametrize("key", [key for key in KEYS if key.type is int], ids=lambda key: key.name)
def test_a_number_below_the_least_that_makes_sense_is_refused(tmp_path: Path, key: Key) -> None:
    assert loaded(written(tmp_path, f"{key.name} = {key.least}"))[key.name] == key.least
    assert refused(tmp_path, f"{key.name} = {key.least - 1}") == f"{key.name}: {key.least - 1} is less than {key.least}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('log.level = "loud"', "log.level: 'loud' is none of debug, info, warning, error"),
        ('log.format = "xml"', "log.format: 'xml' is none of text, json"),
        ('runtime = "runk"', "runtime: 'runk' is none of crun, runc, process, nor an absolute path"),
        ('api.allowed_uids = ["root"]', "api.allowed_uids: expected a list of integers, got 'root' in it"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(tmp_path: Path, text: str, said: str) -> None:
    assert refused(tmp_path, text) == said


@pytest.mark.parametrize("text", ["runtime = ", "runtime", "[log", 'runtime = "a"\nruntime = "b"', b'runtime = "\xff"'])
def test_what_is_no_toml_is_refused_with_the_files_name(tmp_path: Path, text: str | bytes) -> None:
    assert refused(tmp_path, text)


def test_the_sample_is_a_file_that_changes_nothing(tmp_path: Path) -> None:
    assert loaded(written(tmp_path, sample())) == loaded()


def test_the_sample_with_every_key_uncommented_has_every_default(tmp_path: Path) -> None:
    lines = [line[1:] if line.startswith("#") and line[1:2] != " " else line for line in sample().splitlines()]
    text = "\n".join(lines)
    assert loaded(written(tmp_path, text)) == loaded()
    tables = tomllib.loads(text)
    named = {f"{name}.{inner}" for name, value in tables.items() if isinstance(value, dict) for inner in value}
    assert named | {name for name, value in tables.items() if not isinstance(value, dict)} == {key.name for key in KEYS}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_the_sample_says_above_every_key_what_it_is_for(key: Key) -> None:
    lines = sample().splitlines()
    below = lines[lines.index(f"# {key.doc}") + 1]
    assert below.startswith(f"#{key.name.rpartition('.')[2]} = ")
