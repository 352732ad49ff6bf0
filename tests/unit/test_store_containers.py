from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from actors.records import Container, Health, Mount, Restart, Runtime, RuntimeOptions, Stdio, Stop
from actors.store.containers import DropContainer, PutContainer, load_containers
from actors.store.database import close_database, open_database

text = st.text(max_size=8)
maybe_text = st.none() | text
seconds = st.floats(0, 1e6)
texts = st.lists(text, max_size=3).map(tuple)
numbers = st.integers(-(2**63), 2**64 - 1)
plain = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
options = st.builds(
    RuntimeOptions,
    root=maybe_text,
    no_pivot_root=st.booleans(),
    no_new_keyring=st.booleans(),
    systemd_cgroup=st.booleans(),
    criu_path=maybe_text,
    shim_cgroup=maybe_text,
    no_shim=st.none() | st.booleans(),
)
containers = st.builds(
    Container,
    id=st.just("c"),
    namespace=st.just("n"),
    spec=st.dictionaries(text, plain, max_size=4),
    rootfs=st.lists(st.builds(Mount, type=text, source=text, options=texts), max_size=3).map(tuple),
    runtime=st.builds(Runtime, name=text, options=options),
    stdio=st.builds(Stdio, stdin=text, stdout=text, stderr=text, terminal=st.booleans()),
    labels=st.dictionaries(text, text, max_size=3),
    restart=st.none()
    | st.builds(Restart, policy=text, max_retries=st.none() | st.integers(0, 9), backoff=st.none() | seconds),
    stop=st.none() | st.builds(Stop, signal=text | st.integers(1, 64), grace=seconds),
    timeout=st.none() | seconds,
    health=st.none()
    | st.builds(Health, args=texts, interval=seconds, timeout=seconds, retries=st.integers(0, 9), start_period=seconds),
    created_at=st.integers(0, 2**63 - 1),
    updated_at=st.integers(0, 2**63 - 1),
)


@given(container=containers)
def test_a_container_comes_back_exactly_as_it_was_put(tmp_path: Path, container: Container) -> None:
    db = open_database(tmp_path / "db")
    PutContainer(container).apply(db)
    (found,) = load_containers(db)
    close_database(db)
    assert found == container
    assert repr(found) == repr(container)  # types, too: tuples, records, None, 1 and 1.0


def test_containers_are_kept_by_namespace_and_id(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db")
    first, second = Container("a", "one", {}), Container("a", "two", {})
    for container in (second, first, dataclasses.replace(first, labels={"new": "yes"})):
        PutContainer(container).apply(db)
    assert load_containers(db) == [dataclasses.replace(first, labels={"new": "yes"}), second]
    DropContainer("one", "a").apply(db)
    DropContainer("one", "a").apply(db)
    assert load_containers(db) == [second]
    close_database(db)
