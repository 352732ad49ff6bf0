"""A repeated request with the same ``key`` does nothing twice and gets the first one's reply (API.md, section 2)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest

from actors.store.database import open_database
from actors.store.idempotency import KeyRow, PutKey
from tests.support.daemon import Daemon
from tests.support.events import of, topics
from tests.support.scene import Scene


def test_a_run_repeated_with_its_key_is_one_run_with_one_reply(scene: Scene) -> None:
    params = scene.sleeper()
    client = scene.api.using(key="once")
    first = client.call("tasks.run", **params)
    assert client.call("tasks.run", **params) == first
    assert len(scene.api.call("tasks.list")["tasks"]) == 1


def test_a_repeat_that_overtakes_the_first_reply_waits_for_it(scene: Scene) -> None:
    params = scene.shell("exit 3")
    client = scene.api.using(key="both")
    sent = [client.send("tasks.run", **params, rm=True, wait=True) for _ in range(5)]
    answers = [client.result(request) for request in sent]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["exit"]["exit_status"] == 3
    lived = topics(of(scene.daemon.replay(), params["id"]))
    assert lived.count("/tasks/start") == 1


def test_the_reply_is_the_first_ones_even_after_the_thing_has_gone(plain_scene: Scene) -> None:
    params = plain_scene.params("/bin/true")
    client = plain_scene.api.using(key="made")
    made = client.call("containers.create", **params)
    plain_scene.api.call("containers.delete", id=params["id"])
    assert client.call("containers.create", **params) == made
    plain_scene.api.refused("not_found", "containers.get", id=params["id"])


def test_a_refusal_is_repeated_too(plain_scene: Scene) -> None:
    params = plain_scene.params("/bin/true")
    plain_scene.api.call("containers.create", **params)
    client = plain_scene.api.using(key="refused")
    first = client.refused("already_exists", "containers.create", **params)
    plain_scene.api.call("containers.delete", id=params["id"])
    assert client.refused("already_exists", "containers.create", **params).message == first.message


def test_another_key_another_method_and_another_namespace_are_other_requests(plain_scene: Scene) -> None:
    params = plain_scene.params("/bin/true")
    client = plain_scene.api.using(key="same")
    client.call("containers.create", **params)
    client.call("containers.delete", id=params["id"])
    other = Scene(plain_scene.daemon, plain_scene.image, "process")
    other.api.using(key="same").call("containers.create", **params)
    other.api.call("containers.get", id=params["id"])
    other.clear()
    plain_scene.api.using(key="other").call("containers.create", **params)
    plain_scene.api.call("containers.get", id=params["id"])


def test_the_first_reply_is_kept_when_the_daemon_is_killed(own_scene: Scene) -> None:
    params = own_scene.sleeper()
    client = own_scene.api.using(key="once")
    first = client.call("tasks.run", **params)
    kill = own_scene.api.using(key="killed")
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert client.call("tasks.run", **params) == first
    kill.call("tasks.kill", id=params["id"], signal="SIGKILL")
    ended = own_scene.api.using(key="deleted")
    own_scene.wait(params["id"])
    gone = ended.call("tasks.delete", id=params["id"])
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert ended.call("tasks.delete", id=params["id"]) == gone
    assert topics(of(own_scene.daemon.replay(), params["id"])).count("/tasks/delete") == 1
    assert kill.call("tasks.kill", id=params["id"], signal="SIGKILL") == {}


def test_a_long_reply_is_repeated_to_the_byte_by_this_daemon_and_by_the_next(own_scene: Scene) -> None:
    params = own_scene.shell("head -c 300000 /dev/zero; echo end")
    client = own_scene.api.using(key="long")
    first = client.call("tasks.run", **params, rm=True, wait=True, capture=1 << 20)
    assert first["stdout"].endswith(b"\0end\n")
    assert client.call("tasks.run", **params, rm=True, wait=True, capture=1 << 20) == first
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    assert client.call("tasks.run", **params, rm=True, wait=True, capture=1 << 20) == first


def test_so_many_keys_are_kept_and_no_more(bounded: Daemon) -> None:
    client = bounded.connect()
    for number in range(20):
        client.using(key=f"k{number}").call("namespaces.create", name=f"n{number}")
    error = client.using(key="one more").refused("resource_exhausted", "namespaces.create", name="more")
    assert "api.keys" in error.message
    assert client.using(key="k3").call("namespaces.create", name="n3")["name"] == "n3"
    assert client.call("namespaces.create", name="more")["name"] == "more"


@pytest.fixture
def bounded() -> Iterator[Daemon]:
    """A daemon that keeps few keys."""
    found = Daemon().configured("[api]\nkeys = 20\n")
    try:
        yield found.start()
    finally:
        found.destroy()


def test_who_came_too_late_does_not_get_the_answer_of_who_made_the_task(own_scene: Scene) -> None:
    params = own_scene.shell("read line; exit 3", stdio={"stdin": "attach:"}) | {"wait": True}
    ears = own_scene.daemon.subscribe()
    own_scene.api.using(key="first").send("tasks.run", **params)
    ears.until("TaskStart", params["id"])
    own_scene.daemon.kill9()
    late = KeyRow(own_scene.token, "tasks.run", "late", fingerprint(params), None, 1, params["id"])
    with contextlib.closing(open_database(own_scene.daemon.root / "shimyard.db")) as db:
        PutKey(late).apply(db)  # as if the daemon had been killed right before it refused this one
    own_scene.daemon.restart()
    first = own_scene.api.using(key="first").send("tasks.run", **params)
    own_scene.api.using(key="late").refused("already_exists", "tasks.run", **params)
    own_scene.api.call("tasks.close_io", id=params["id"], stdin=True)
    assert own_scene.api.result(first)["exit"]["exit_status"] == 3
    own_scene.remove(params["id"])


def fingerprint(params: dict[str, Any]) -> bytes:
    """As the daemon has it."""
    return hashlib.sha256(cbor2.dumps(params, canonical=True)).digest()
