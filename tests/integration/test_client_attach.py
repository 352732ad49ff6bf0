"""Both clients at a task's streams, and ``exec`` in the habit of ``subprocess.run`` (BEHAVIOURS 14, 15, 29, 37)."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.client import AsyncClient, AttachmentLost, Client, TaskFailed, TaskTimeout
from actors.client.execs import Chosen, ExecOptions
from shimproc.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from tests.support.events import Subscriber
from tests.support.scene import Scene

BOTH_WAYS = {"stdin": "attach:", "stdout": "attach:", "stderr": "attach:"}
one_runtime = pytest.mark.parametrize("runtime", ["process"])
"""For what is between client and daemon alone."""
ECHOES = "while read line; do echo got $line; echo oops >&2; done; exit 5"


@pytest.fixture
def client(scene: Scene) -> Iterator[Client]:
    """In the scene's namespace."""
    with Client(scene.daemon.api, namespace=scene.token) as found:
        yield found


@pytest.fixture
def plain_client(plain_scene: Scene) -> Iterator[Client]:
    """The same, for what does not depend on the runtime."""
    with Client(plain_scene.daemon.api, namespace=plain_scene.token) as found:
        yield found


def test_what_is_written_is_answered_until_stdin_is_closed(client: Client, scene: Scene) -> None:
    task = scene.create(scene.shell(ECHOES, stdio=BOTH_WAYS))["id"]
    with client.tasks.attach(task, stdin=True) as attached:
        client.tasks.start(task)
        attached.write("one\n")
        attached.write(b"two\n")
        attached.close_stdin()
        assert attached.read() == (b"got one\ngot two\n", b"oops\noops\n")
        with pytest.raises(FailedPrecondition, match="ended"):
            attached.write(b"three\n")
    assert client.tasks.wait(task).exit_status == 5
    scene.remove(task)


def test_a_terminal_is_resized_and_left_running(client: Client, scene: Scene) -> None:
    task = scene.create(scene.terminal("stty -echo; echo ready; while read line; do stty size; done"))["id"]
    with client.tasks.attach(task, stdin=True) as attached:
        client.tasks.start(task)
        assert next(attached).data == b"ready\r\n"
        attached.resize(99, 33)
        attached.write(b"\n")
        assert next(attached).data == b"33 99\r\n"
    with client.tasks.attach(task, stdin=True) as again:
        again.write(b"\n")
        assert next(again).data == b"33 99\r\n"
    assert client.tasks.get(task).status == "running"
    scene.remove(task, force=True)


def test_one_thread_reads_while_another_writes_whatever_the_amount(plain_client: Client, plain_scene: Scene) -> None:
    task = plain_scene.create(plain_scene.shell("exec cat", stdio=BOTH_WAYS))["id"]
    sent = os.urandom(1 << 20) * 24
    with plain_client.tasks.attach(task, stdin=True) as attached:
        plain_client.tasks.start(task)

        def write() -> None:
            attached.write(sent)
            attached.close_stdin()

        writing = threading.Thread(target=write)
        writing.start()
        out, err = attached.read()
        writing.join()
    assert (out == sent, err) == (True, b"")
    plain_scene.remove(task)


def test_what_cannot_be_is_told_at_once(plain_client: Client, plain_scene: Scene) -> None:
    with pytest.raises(NotFound, match="nobody"):
        plain_client.tasks.attach("nobody")
    task = plain_scene.run(plain_scene.shell("sleep 1000", stdio={"stdout": "attach:"}))["id"]
    with plain_client.tasks.attach(task, stdin=True) as attached, pytest.raises(FailedPrecondition, match="stdin"):
        attached.write(b"x")
    with plain_client.tasks.attach(task) as reading, pytest.raises(FailedPrecondition, match="stdin: true"):
        reading.write(b"x")
    plain_scene.remove(task, force=True)


def test_closing_the_client_ends_a_reader_in_another_thread(plain_client: Client, plain_scene: Scene) -> None:
    task = plain_scene.run(plain_scene.shell("sleep 1000", stdio={"stdout": "attach:"}))["id"]
    other = Client(plain_scene.daemon.api, namespace=plain_scene.token)
    attached = other.tasks.attach(task)
    told: list[BaseException] = []

    def read() -> None:
        try:
            attached.read()
        except Unavailable as error:
            told.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    other.close()
    reading.join()
    assert "closed" in str(told[0])
    plain_scene.remove(task, force=True)


@one_runtime
def test_a_lost_connection_is_told_and_the_task_runs_on(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.shell(ECHOES, stdio=BOTH_WAYS))["id"]
    with Client(own_scene.daemon.api, namespace=own_scene.token) as client:
        with client.tasks.attach(task, stdin=True) as attached, client.tasks.attach(task, stdin=True) as writer:
            attached.write(b"one\n")
            assert next(attached).data == b"got one\n"
            own_scene.daemon.kill9()
            own_scene.daemon.restart()
            with pytest.raises(AttachmentLost, match=task):
                attached.read()
            with pytest.raises(AttachmentLost):
                writer.write(b"lost\n")
        with client.tasks.attach(task, stdin=True) as again:
            again.write(b"two\n")
            assert next(again).data == b"got two\n"
        client.tasks.close_io(task)
        assert client.tasks.wait(task).exit_status == 5
    own_scene.remove(task)


@one_runtime
def test_with_reattach_it_goes_on_after_each_loss(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.shell("while read line; do echo got $line; done", stdio=BOTH_WAYS))["id"]
    with (
        Client(own_scene.daemon.api, namespace=own_scene.token) as client,
        client.tasks.attach(task, stdin=True, reattach=True) as attached,
    ):
        for losses in range(3):
            attached.write(f"{losses}\n")
            assert (next(attached).data, attached.losses) == (f"got {losses}\n".encode(), losses)
            own_scene.daemon.kill9()
            own_scene.daemon.restart()
        client.tasks.kill(task, "SIGKILL")
        client.tasks.wait(task)
        assert attached.read() == (b"", b"")
    own_scene.remove(task)


@one_runtime
def test_the_asyncio_client_attaches_alike(scene: Scene) -> None:
    task = scene.create(scene.shell(ECHOES, stdio=BOTH_WAYS))["id"]

    async def main() -> None:
        async with AsyncClient(scene.daemon.api, namespace=scene.token) as client:
            async with client.tasks.attach(task, stdin=True) as attached:
                reading = asyncio.ensure_future(attached.read())
                await client.tasks.start(task)
                await attached.write("one\n")
                await attached.write(b"x" * 1_000_000 + b"\n")
                await attached.close_stdin()
                assert await reading == (b"got one\ngot " + b"x" * 1_000_000 + b"\n", b"oops\noops\n")
            await client.tasks.wait(task)
            with pytest.raises((FailedPrecondition, NotFound)):
                await client.tasks.attach(task)

    asyncio.run(main())
    assert scene.wait(task)["exit_status"] == 5
    scene.remove(task)


@one_runtime
def test_the_asyncio_client_is_told_of_a_loss_or_attaches_again(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.shell(ECHOES, stdio=BOTH_WAYS))["id"]

    async def main() -> None:
        async with AsyncClient(own_scene.daemon.api, namespace=own_scene.token) as client:
            told = await client.tasks.attach(task)
            again = await client.tasks.attach(task, stdin=True, reattach=True)
            own_scene.daemon.kill9()
            await asyncio.to_thread(own_scene.daemon.restart)
            with pytest.raises(AttachmentLost):
                await anext(told)
            await again.write(b"two\n")
            assert ((await anext(again)).data, again.losses) == (b"got two\n", 1)
            reading = asyncio.ensure_future(told.read())
            await told.close()
            assert await reading == (b"", b"")
            await again.close()

    asyncio.run(main())
    own_scene.remove(task, force=True)


# -- exec


@pytest.fixture
def task(scene: Scene) -> Iterator[str]:
    """The id of a running task; no exec may be left in it."""
    found = str(scene.run(scene.sleeper())["id"])
    yield found
    assert scene.get(found)["execs"] == []
    scene.remove(found, force=True)


def test_exec_is_like_subprocess_run(client: Client, task: str) -> None:
    script = "cat; pwd; echo $COLOUR >&2; exit 7"
    done = client.exec(task, ["sh", "-c", script], input="typed\n", env={"COLOUR": "green"}, cwd="/proc")
    assert (done.returncode, done.stdout, done.stderr, done.truncated) == (7, b"typed\n/proc\n", b"green\n", False)


def test_exec_raises_with_check_and_at_its_timeout(client: Client, task: str) -> None:
    with pytest.raises(TaskFailed, match="no such luck") as failed:
        client.exec(task, ["sh", "-c", "echo no such luck >&2; exit 3"], check=True)
    assert failed.value.result.returncode == 3
    with pytest.raises(TaskTimeout) as late:
        client.exec(task, ["sh", "-c", "trap '' TERM; echo begun; exec sleep 1000"], timeout=1)
    assert (late.value.result.stdout, late.value.result.returncode) == (b"begun\n", 137)


def test_exec_as_another_user(client: Client, scene: Scene, task: str) -> None:
    ids = ["sh", "-c", "id -u; id -g"]
    assert client.exec(task, ids, user="65534:100").stdout == b"65534\n100\n"
    assert client.exec(task, ids, user={"uid": 3, "gid": 4}).stdout == b"3\n4\n"
    with pytest.raises(InvalidArgument, match="nosuchuser"):
        client.exec(task, ids, user="nosuchuser")
    if scene.plain:  # the image of the others has no users
        assert client.exec(task, ids, user="nobody").stdout.startswith(b"65534\n")


def test_exec_with_every_capability(client: Client, scene: Scene, task: str) -> None:
    script = ["sh", "-c", "while read name value; do case $name in CapEff:) echo $value;; esac; done </proc/self/status"]
    usual = int(client.exec(task, script).stdout, 16)
    every = int(client.exec(task, script, privileged=True).stdout, 16)
    ours = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert every == int(ours.split()[1], 16)
    assert usual == every if scene.plain else usual < every


def test_a_program_that_is_not_there_leaves_no_exec(client: Client, task: str) -> None:
    with pytest.raises(InvalidArgument, match="/no/such/program"):
        client.exec(task, ["/no/such/program"])


def test_an_exec_of_another_with_the_same_name_is_left_alone(client: Client, scene: Scene, task: str) -> None:
    scene.exec(task, "mine", "sleep 1000")
    with pytest.raises(AlreadyExists, match="mine"):
        client.exec(task, ["true"], name="mine")
    assert [one.status for one in client.tasks.get(task).execs] == ["running"]
    client.tasks.kill(task, "SIGKILL", exec_id="mine")
    client.tasks.wait(task, exec_id="mine")
    client.tasks.delete_process(task, "mine")


def test_exec_keeps_so_much_of_each_stream_and_says_so(client: Client, task: str) -> None:
    done = client.exec(task, ["sh", "-c", "head -c 3000000 /dev/zero; printf err >&2"], capture=1_000_000)
    assert (len(done.stdout), done.stderr, done.truncated) == (1_000_000, b"err", True)
    assert not client.exec(task, ["printf", "0123"], capture=4).truncated


def test_an_interrupted_exec_is_removed(client: Client, task: str, ears: Subscriber) -> None:
    def interrupt() -> None:
        ears.until("TaskExecStarted", task)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        client.exec(task, ["sleep", "1000"])
    interrupting.join()


@one_runtime
def test_an_exec_that_outlives_its_daemon_is_waited_for(own_scene: Scene) -> None:
    task = own_scene.run(own_scene.sleeper())["id"]
    ears = own_scene.daemon.subscribe()

    def restart() -> None:
        ears.until("TaskExecStarted", task)
        own_scene.daemon.kill9()
        own_scene.daemon.restart()

    with Client(own_scene.daemon.api, namespace=own_scene.token) as client:
        restarting = threading.Thread(target=restart)
        restarting.start()
        done = client.exec(task, ["sh", "-c", "echo one; sleep 1; echo two; exit 9"])
        restarting.join()
    assert (done.returncode, done.stdout) == (9, b"one\ntwo\n")
    assert own_scene.get(task)["execs"] == []
    own_scene.remove(task, force=True)


@one_runtime
def test_the_asyncio_client_executes_alike(scene: Scene, task: str) -> None:
    async def main() -> None:
        async with AsyncClient(scene.daemon.api, namespace=scene.token) as client:
            runs = (client.exec(task, ["sh", "-c", f"cat; exit {n}"], input=f"{n}") for n in range(8))
            done = await asyncio.gather(*runs)
            assert [(one.returncode, one.stdout) for one in done] == [(n, f"{n}".encode()) for n in range(8)]
            with pytest.raises(TaskTimeout) as late:
                await client.exec(task, ["sh", "-c", "echo begun; exec sleep 1000"], timeout=1)
            assert late.value.result.stdout == b"begun\n"
            since = (await client.health())["events"]["last_seq"]
            cancelled = asyncio.ensure_future(client.exec(task, ["sleep", "1000"]))
            async for _ in client.events(since=since, filters=["topic==/tasks/exec-started"]):
                break
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled

    asyncio.run(main())


def test_every_option_of_exec_has_its_type() -> None:
    assert typing.get_type_hints(ExecOptions) == typing.get_type_hints(Chosen)
