"""The Python clients on a real daemon: ``run``, calls by name, streams without a gap, a daemon that comes and goes."""

from __future__ import annotations

import asyncio
import threading
import time
import typing
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from actors.client import AsyncClient, Client, EventsLost, TaskFailed, TaskTimeout
from actors.client.runs import Options, RunOptions
from actors.records import Runtime, Stdio
from actors.specs import default_spec
from shimproc.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from tests.support.daemon import Daemon
from tests.support.scene import Scene

PLAIN = Runtime("process")


@pytest.fixture
def client(scene: Scene) -> Iterator[Client]:
    """In the scene's namespace."""
    with Client(scene.daemon.api, namespace=scene.token) as found:
        yield found
        assert found.containers.list() == []


@pytest.fixture
def plain_client(plain_scene: Scene) -> Iterator[Client]:
    """The same, for what does not depend on the runtime."""
    with Client(plain_scene.daemon.api, namespace=plain_scene.token) as found:
        yield found


def test_run_is_like_subprocess_run(client: Client, scene: Scene) -> None:
    script = "cat; pwd; echo $COLOUR >&2; exit 7"
    done = client.run(
        ["sh", "-c", script], input="typed\n", env={"COLOUR": "green"}, cwd="/usr", runtime=scene.runtime
    )
    assert (done.returncode, done.stdout, done.stderr, done.truncated) == (7, b"typed\n/usr\n", b"green\n", False)


def test_run_raises_with_check_and_tells_the_last_words(client: Client, scene: Scene) -> None:
    with pytest.raises(TaskFailed, match="no such luck") as caught:
        client.run(["sh", "-c", "echo no such luck >&2; exit 3"], check=True, runtime=scene.runtime)
    assert caught.value.result.returncode == 3


def test_run_is_over_at_its_timeout_with_what_was_written_until_then(client: Client, scene: Scene) -> None:
    begun = time.monotonic()
    with pytest.raises(TaskTimeout) as caught:
        client.run(["sh", "-c", "trap '' TERM; echo begun; sleep 1000 & wait"], timeout=0.5, runtime=scene.runtime)
    assert time.monotonic() - begun < 9, "it waited for a grace that nobody asked for"
    assert caught.value.result.stdout == b"begun\n"
    assert caught.value.result.returncode == 137


def test_run_keeps_so_much_of_the_output_and_says_so(plain_client: Client) -> None:
    done = plain_client.run(["sh", "-c", "printf 0123456789"], capture=4, runtime="process")
    assert (done.stdout, done.truncated) == (b"0123", True)


@pytest.mark.parametrize("args", ["echo hello", []])
def test_run_wants_a_list_of_words(plain_client: Client, args: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="args"):
        plain_client.run(args, runtime="process")


def test_a_misspelt_option_of_run_is_refused_by_type_checkers_and_by_python(plain_client: Client) -> None:
    with pytest.raises(TypeError, match="timout"):
        plain_client.run(["true"], timout=3)  # type: ignore[call-arg]


def test_every_option_of_run_has_its_type() -> None:
    assert typing.get_type_hints(RunOptions) == typing.get_type_hints(Options)


def test_an_error_is_the_class_of_its_code(plain_client: Client) -> None:
    with pytest.raises(NotFound, match="nobody"):
        plain_client.tasks.get("nobody")


def test_each_call_has_its_name_and_its_record(plain_client: Client) -> None:
    made = plain_client.containers.create("one", default_spec(["sh", "-c", "read x"], host=True), runtime=PLAIN)
    assert made.runtime.name == "process"
    assert plain_client.tasks.create("one").status == "created"
    pid = plain_client.tasks.start("one")["pid"]
    assert [task.pid for task in plain_client.tasks.list(["status==stopped", "id==one"])] == [pid]
    assert plain_client.tasks.wait("one").exit_status == 1
    assert plain_client.tasks.delete("one").pid == pid
    plain_client.containers.delete("one")


def test_a_call_is_over_at_the_clients_timeout(plain_scene: Scene) -> None:
    with Client(plain_scene.daemon.api, namespace=plain_scene.token, timeout=0.1) as client:
        client.tasks.run("slow", default_spec(["sleep", "1000"], host=True), runtime=PLAIN)
        with pytest.raises(DeadlineExceeded):
            client.tasks.wait("slow")


def test_threads_share_a_client(plain_client: Client) -> None:
    found: list[int] = []

    def run(number: int) -> None:
        found.append(plain_client.run(["sh", "-c", f"exit {number}"], runtime="process").returncode)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))


def test_logs_are_followed_to_the_end(plain_client: Client) -> None:
    spec = default_spec(["sh", "-c", "echo out; echo err >&2"], host=True)
    plain_client.tasks.run("told", spec, runtime=PLAIN, stdio=Stdio("", "log:", "log:"))
    pieces = list(plain_client.tasks.logs("told", follow=True))
    assert {(piece.stream, piece.data) for piece in pieces} == {("stdout", b"out\n"), ("stderr", b"err\n")}


def test_events_begin_when_they_are_asked_for(plain_client: Client) -> None:
    plain_client.events.publish("/tests/before", {})
    events = plain_client.events(filters=["topic~=^/tests/"])
    plain_client.events.publish("/tests/after", {"n": 1})
    assert next(events).topic == "/tests/after"


def test_events_go_on_from_a_number_over_more_than_the_credit(plain_client: Client) -> None:
    first = plain_client.events.publish("/tests/count", {"n": 0})
    for number in range(1, 1500):
        plain_client.events.publish("/tests/count", {"n": number})
    found = list(islice(plain_client.events(since=first - 1, filters=["topic==/tests/count"]), 1500))
    assert [event.event["n"] for event in found] == list(range(1500))


def test_a_daemon_that_is_restarted_is_not_noticed(own_scene: Scene) -> None:
    """One thread waits for an exit, another listens; the daemon is killed under both."""
    daemon, token = own_scene.daemon, own_scene.token
    with Client(daemon.api, namespace=token) as client:
        params = own_scene.sleeper()
        own_scene.run(params)
        events = client.events(filters=[f"event.id=={params['id']}"])
        ended: list[int] = []
        waiting = threading.Thread(target=lambda: ended.append(client.tasks.wait(params["id"]).exit_status))
        waiting.start()
        for _ in range(2):
            daemon.kill9()
            daemon.restart()
        client.tasks.kill(params["id"], "SIGKILL")
        waiting.join()
        assert ended == [137]
        client.tasks.delete(params["id"])
        assert [event.topic for event in islice(events, 2)] == ["/tasks/exit", "/tasks/delete"]


def test_a_request_made_while_the_daemon_is_away_is_answered_when_it_is_back(own_daemon: Daemon) -> None:
    with Client(own_daemon.api) as client:
        before = client.events.publish("/tests/here", {})
        own_daemon.kill9()
        seqs: list[int] = []
        asking = threading.Thread(target=lambda: seqs.append(client.events.publish("/tests/away", {})))
        asking.start()
        own_daemon.restart()
        asking.join()
        assert seqs == [before + 1]


def test_without_a_daemon_it_says_where_it_looked_and_what_to_do(tmp_path: Path) -> None:
    with Client(f"ipc://{tmp_path}/api.sock", patience=0.1) as client, pytest.raises(Unavailable) as caught:
        client.health()
    assert str(tmp_path) in caught.value.message
    assert "shimyard daemon" in caught.value.message


def test_a_stream_whose_client_was_closed_says_so(daemon: Daemon) -> None:
    with Client(daemon.api) as client:
        events = client.events(since=0)
        next(events)
    with pytest.raises(Unavailable, match="closed"):
        for _ in events:
            pass


def test_an_address_that_is_none_is_refused_by_name() -> None:
    with Client("carrier-pigeon") as client, pytest.raises(InvalidArgument, match="carrier-pigeon"):
        client.health()


def test_events_that_are_no_longer_kept_are_an_error_that_tells_where_to_go_on() -> None:
    daemon = Daemon()
    try:
        daemon.configured("[events]\nkeep = 1000\n").start()
        with Client(daemon.api) as client:
            for number in range(2200):
                client.events.publish("/tests/many", {"n": number})
            with pytest.raises(EventsLost) as caught:
                next(client.events(since=1))
            oldest = caught.value.oldest_seq
            assert next(client.events(since=oldest - 1)).seq == oldest
    finally:
        daemon.destroy()


def test_the_asyncio_client_does_many_things_at_once(plain_scene: Scene) -> None:
    async def main() -> None:
        async with AsyncClient(plain_scene.daemon.api, namespace=plain_scene.token) as client:
            since = (await client.health())["events"]["last_seq"]
            runs = (client.run(["sh", "-c", f"echo {n}; exit {n}"], runtime="process") for n in range(20))
            done = await asyncio.gather(*runs)
            assert [(one.returncode, one.stdout) for one in done] == [(n, f"{n}\n".encode()) for n in range(20)]
            exits = []
            async for event in client.events(since=since, filters=["topic==/tasks/exit"]):
                exits.append(event.event["exit_status"])
                if len(exits) == 20:
                    break
            assert sorted(exits) == list(range(20))

    asyncio.run(main())


def test_a_cancelled_run_leaves_nothing(plain_scene: Scene) -> None:
    async def main() -> None:
        async with AsyncClient(plain_scene.daemon.api, namespace=plain_scene.token) as client:
            since = (await client.health())["events"]["last_seq"]
            running = asyncio.ensure_future(client.run(["sleep", "1000"], name="slow", runtime="process"))
            async for _ in client.events(since=since, filters=["topic==/tasks/start"]):
                break
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            async for _ in client.events(since=since, filters=["topic==/containers/delete"]):
                break
            assert await client.tasks.list() == []
            assert await client.containers.list() == []

    asyncio.run(main())


def test_the_asyncio_client_waits_for_a_daemon_that_is_away(own_daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(own_daemon.api) as client:
            since = await client.events.publish("/tests/here", {})
            own_daemon.kill9()
            asking = asyncio.ensure_future(client.events.publish("/tests/away", {}))
            await asyncio.to_thread(own_daemon.restart)
            assert await asking == since + 1
            async for event in client.events(since=since):
                assert event.topic == "/tests/away"
                break

    asyncio.run(main())
