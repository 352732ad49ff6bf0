"""``exec`` and ``attach`` without a terminal: streams, statuses, signals; ``kill``, ``wait`` and ``logs`` of an exec."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.attached import Attached
from tests.support.daemon import command
from tests.support.scene import Scene

SECONDS = 10
BOTH_WAYS = {"stdin": "attach:", "stdout": "attach:", "stderr": "attach:"}


class Cli:
    """The installed command, in the scene's namespace, beside a task that runs: ``web``."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._environment = {**scene.daemon.environment(), "SHIMYARD_NAMESPACE": scene.token}

    def __call__(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """To its end."""
        return subprocess.run(
            [command(), *words], input=stdin, capture_output=True, env=self._environment, timeout=SECONDS, check=False
        )

    @contextlib.contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """In the background, with pipes; killed at the end if it has not ended."""
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen([command(), *words], env=self._environment, bufsize=0, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def cli(scene: Scene) -> Iterator[Cli]:
    """No exec may be left."""
    scene.run(scene.sleeper() | {"id": "web"})
    yield Cli(scene)
    assert scene.get("web")["execs"] == []
    scene.remove("web", force=True)


@pytest.fixture
def plain_cli(plain_scene: Scene) -> Cli:
    """For what does not depend on the runtime."""
    plain_scene.run(plain_scene.sleeper() | {"id": "web"})
    return Cli(plain_scene)


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    """A line of its output; waits for it."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        assert ready, f"only {line!r}"
        data = process.stdout.read(1)
        assert data, f"it ended after {line!r}"
        line += data
    return line


def until(process: subprocess.Popen[bytes], wanted: bytes) -> None:
    """Read lines up to this one."""
    while read_line(process) != wanted:
        pass


def nudge(scene: Scene, task: str, *processes: subprocess.Popen[bytes]) -> None:
    """Write lines that the task answers, until each of these shows an answer: then it is attached."""
    with Attached(scene.api, id=task, stdin=True) as client:
        for process in processes:
            client.write(b"ping\n")
            assert process.stdout is not None
            while not select.select([process.stdout], [], [], 0.2)[0]:
                assert process.poll() is None
                client.write(b"ping\n")


def test_exec_has_our_streams_and_the_commands_status(cli: Cli) -> None:
    done = cli("exec", "web", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    data = bytes(range(256)) * 4000
    assert cli("exec", "-i", "web", "/bin/cat", stdin=data).stdout == data
    assert cli("exec", "web", "/bin/cat", stdin=data).stdout == b""


@pytest.mark.parametrize(("words", "status"), [(["/no/such"], 127), (["/proc"], 126), ([], 125)])
def test_exec_fails_as_a_shell_does(cli: Cli, words: list[str], status: int) -> None:
    done = cli("exec", "web", *words)
    assert done.returncode == status
    assert b"shimyard: " in done.stderr


def test_exec_in_what_is_not_there_is_our_own_failure(plain_cli: Cli) -> None:
    done = plain_cli("exec", "nobody", "/bin/true")
    assert (done.returncode, b"nobody" in done.stderr) == (125, True)


def test_exec_takes_variables_folder_and_user(cli: Cli) -> None:
    options = ("-e", "COLOUR=green", "-w", "/proc", "-u", "65534:100")
    done = cli("exec", *options, "web", "/bin/sh", "-c", "echo $COLOUR; pwd; id -u; id -g")
    assert done.stdout == b"green\n/proc\n65534\n100\n", done.stderr


def test_signals_of_exec_go_to_the_exec_alone(cli: Cli) -> None:
    script = "trap 'echo caught; exit 44' TERM; echo ready; while :; do sleep 1000 & wait; done"
    with cli.start("exec", "web", "/bin/sh", "-c", script) as process:
        assert read_line(process) == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert read_line(process) == b"caught\n"
        assert process.wait(SECONDS) == 44
    assert cli.scene.get("web")["status"] == "running"


def test_a_reader_that_goes_away_ends_the_exec(cli: Cli) -> None:
    with cli.start("exec", "web", "yes") as process:
        assert read_line(process) == b"y\n"
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 128 + signal.SIGPIPE


def test_exec_as_json_is_one_document(plain_cli: Cli) -> None:
    done = plain_cli("exec", "-i", "--json", "web", "/bin/sh", "-c", "cat; echo err >&2; exit 3", stdin=b"in")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit"]["exit_status"], told["stdout"], told["stderr"]) == (3, 3, "in", "err\n")


def test_a_detached_exec_is_looked_into_killed_and_waited_for(plain_cli: Cli) -> None:
    made = plain_cli("exec", "-d", "--name", "job", "web", "/bin/sh", "-c", "echo told; exec sleep 1000")
    assert made.stdout == b"job\n", made.stderr
    with plain_cli.start("logs", "-f", "--exec", "job", "web") as follower:
        assert read_line(follower) == b"told\n"
        assert plain_cli("kill", "--exec", "job", "web").stdout == b"web\n"
        assert follower.wait(SECONDS) == 0
    assert plain_cli("wait", "--exec", "job", "web").stdout == b"137\n"
    assert plain_cli.scene.get("web")["status"] == "running"


def test_attach_shows_what_comes_passes_on_stdin_and_ends_with_its_status(scene: Scene) -> None:
    cli = Cli(scene)
    script = "while read line; do echo got $line; echo oops >&2; test $line = end && exit 6; done"
    scene.run(scene.shell(script, stdio=BOTH_WAYS) | {"id": "reads"})
    with cli.start("attach", "--no-stdin", "reads") as onlooker, cli.start("attach", "reads") as process:
        nudge(scene, "reads", onlooker, process)
        assert process.stdin is not None
        process.stdin.write(b"one\n")
        until(process, b"got one\n")
        process.stdin.write(b"end\n")
        until(process, b"got end\n")
        assert process.wait(SECONDS) == 6
        assert process.stderr is not None
        assert process.stderr.read().endswith(b"oops\noops\n")
        assert onlooker.wait(SECONDS) == 6
    refused = cli("attach", "reads")
    assert (refused.returncode, b"has ended" in refused.stderr) == (1, True)
    scene.remove("reads")


def test_signals_of_attach_are_the_tasks_unless_told_otherwise(plain_scene: Scene) -> None:
    cli = Cli(plain_scene)
    script = "trap 'echo caught; exit 5' INT; while :; do read line; echo $line; done"
    plain_scene.run(plain_scene.shell(script, stdio=BOTH_WAYS) | {"id": "traps"})
    with cli.start("attach", "--sig-proxy=false", "traps") as onlooker, cli.start("attach", "traps") as process:
        nudge(plain_scene, "traps", onlooker, process)
        onlooker.send_signal(signal.SIGINT)
        assert onlooker.wait(SECONDS) == -signal.SIGINT
        assert plain_scene.get("traps")["status"] == "running"
        process.send_signal(signal.SIGINT)
        until(process, b"caught\n")
        assert process.wait(SECONDS) == 5
    plain_scene.remove("traps")


def test_attach_goes_on_over_a_restart_of_the_daemon(own_daemon: Any, image: Any) -> None:
    scene = Scene(own_daemon, image, "process")
    cli = Cli(scene)
    scene.run(scene.shell("while read line; do echo got $line; done; exit 5", stdio=BOTH_WAYS) | {"id": "reads"})
    with cli.start("attach", "reads") as process:
        nudge(scene, "reads", process)
        own_daemon.kill9()
        own_daemon.restart()
        scene.api.call("tasks.close_io", id="reads", stdin=True)
        assert process.wait(SECONDS) == 5
    scene.clear()
