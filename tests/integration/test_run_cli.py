"""``shimyard run``: as if the command ran here, with its output, its input, its signals and its exit status."""

from __future__ import annotations

import io
import json
import os
import select
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.daemon import MARK, Daemon, command
from tests.support.scene import Scene

SECONDS = 30
END_OF_FILE = b"\x04"
OWN_FAILURE, NOT_INVOKABLE, NOT_FOUND = 125, 126, 127


class Cli:
    """The installed command, pointed at one daemon."""

    def __init__(self, daemon: Daemon, runtime: str) -> None:
        self._daemon = daemon
        self._runtime = runtime

    def arguments(self, *arguments: str) -> list[str]:
        """``shimyard run --rm --runtime R`` and these."""
        return [command(), "run", "--rm", "--runtime", self._runtime, *arguments]

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """To its end."""
        return subprocess.run(
            self.arguments(*arguments),
            input=stdin,
            capture_output=True,
            env=self._daemon.environment(),
            timeout=SECONDS,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """In the background, with pipes."""
        return subprocess.Popen(
            self.arguments(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._daemon.environment(),
        )

    def other(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command than ``run``."""
        return subprocess.run(
            [command(), *arguments],
            capture_output=True,
            text=True,
            env=self._daemon.environment(),
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def cli(scene: Scene) -> Iterator[Cli]:
    """``shimyard run`` on the scene's daemon and runtime; nothing of it may be left in the default namespace."""
    yield Cli(scene.daemon, scene.runtime)
    with scene.daemon.connect("default") as default:
        assert default.call("tasks.list")["tasks"] == []
        assert default.call("containers.list")["containers"] == []
        if "default" in [one["name"] for one in default.call("namespaces.list")["namespaces"]]:
            default.call("namespaces.delete", name="default")


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    """A line of its output; waits for it."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], SECONDS)
    assert ready, "no output"
    return process.stdout.readline()


def finish(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> tuple[bytes, bytes, int]:
    """The rest of its output, and its exit status."""
    with process:
        out, err = process.communicate(stdin, timeout=SECONDS)
    return out, err, process.returncode


def test_echo_hello(cli: Cli) -> None:
    done = cli.run("--", "/bin/echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_it_exits_with_the_status_of_its_command(cli: Cli, status: int) -> None:
    assert cli.run("--", "/bin/sh", "-c", f"exit {status}").returncode == status


def test_stdout_and_stderr_are_kept_apart(cli: Cli) -> None:
    done = cli.run("--", "/bin/sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_stdin_is_passed_on_byte_for_byte_and_its_end_too(cli: Cli) -> None:
    data = bytes(range(256)) * 1000
    assert cli.run("--", "/bin/cat", stdin=data).stdout == data


def test_a_command_that_reads_no_stdin_is_not_kept_by_it(cli: Cli) -> None:
    process = cli.start("--", "/bin/sh", "-c", "echo ready")
    assert read_line(process) == b"ready\n"
    with process:
        assert process.wait(SECONDS) == 0  # though its stdin is still open


def test_all_output_is_there_however_much(cli: Cli) -> None:
    done = cli.run("--", "/bin/sh", "-c", "yes | head -c 3000000; printf end")
    assert len(done.stdout) == 3_000_003
    assert done.stdout.endswith(b"y\nend")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_signals_are_passed_on(cli: Cli, number: signal.Signals) -> None:
    script = f"trap 'echo caught; exit 44' {int(number)}; echo ready; while :; do sleep 1000 & wait; done"
    process = cli.start("--", "/bin/sh", "-c", script)
    assert read_line(process) == b"ready\n"
    process.send_signal(number)
    assert finish(process)[::2] == (b"caught\n", 44)


def test_death_by_a_signal_is_128_and_its_number(cli: Cli, scene: Scene) -> None:
    process = cli.start("--", "/bin/sh", "-c", "echo ready; while :; do sleep 1000; done")
    assert read_line(process) == b"ready\n"
    with scene.daemon.connect("default") as default:
        (task,) = default.call("tasks.list")["tasks"]
        default.call("tasks.kill", id=task["id"], signal="SIGKILL")
    assert finish(process)[2] == 128 + signal.SIGKILL


def test_what_is_not_there_is_127(cli: Cli) -> None:
    done = cli.run("--", "/bin/does-not-exist")
    assert done.returncode == NOT_FOUND
    assert b"/bin/does-not-exist" in done.stderr
    assert done.stdout == b""


def test_what_cannot_be_invoked_is_126(cli: Cli) -> None:
    done = cli.run("--", "/etc/passwd")
    assert done.returncode == NOT_INVOKABLE
    assert b"/etc/passwd" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["--no-such-option", "--", "/bin/true"],
        ["--rootfs", "/nowhere/at/all", "--", "/bin/true"],
        ["--memory", "lots", "--", "/bin/true"],
        [],
    ],
    ids=["an unknown option", "a missing rootfs", "a size that is none", "no command"],
)
def test_shimyards_own_failure_is_125(cli: Cli, wrong: list[str]) -> None:
    done = cli.run(*wrong)
    assert done.returncode == OWN_FAILURE
    assert b"shimyard" in done.stderr
    assert done.stdout == b""


def test_environment_and_working_directory_are_set(cli: Cli) -> None:
    done = cli.run("-e", "GREETING=hello there", "-w", "/usr", "--", "/bin/sh", "-c", 'echo "$GREETING"; pwd')
    assert done.stdout == b"hello there\n/usr\n"


def test_a_container_sees_the_hosts_files_and_writes_only_its_own(cli: Cli, scene: Scene) -> None:
    if scene.plain:
        pytest.skip("a plain process has no files of its own")
    done = cli.run(
        "--",
        "/bin/sh",
        "-c",
        "touch /usr/written-by-a-test && ls /usr/written-by-a-test && cat /etc/hostname /dev/null",
    )
    assert done.stdout.startswith(b"/usr/written-by-a-test\n")
    assert not Path("/usr/written-by-a-test").exists()


def test_in_the_background_of_a_terminal_it_waits_for_its_input_until_it_is_in_front(cli: Cli, scene: Scene) -> None:
    words = [*cli.arguments("--", "/bin/sh", "-c", "echo ready; cat; echo ended")]
    script = f"{shlex.join(words)} & read go; fg >/dev/null"
    ours, theirs = os.openpty()
    environment = scene.daemon.environment()
    words = ["setsid", "--ctty", "--wait", "bash", "-mc", script]
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as shell:
        os.close(theirs)
        with io.FileIO(ours, "r+") as terminal:
            read_until(terminal, b"ready")
            terminal.write(b"go\n")
            terminal.write(b"typed\n")
            terminal.write(END_OF_FILE)
            seen = read_until(terminal, b"ended")
            assert seen.count(b"typed") == 2, "echoed by the terminal, and by cat"
            assert shell.wait(SECONDS) == 0


def read_until(terminal: io.FileIO, wanted: bytes) -> bytes:
    """All that is shown until then."""
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready, f"only {seen!r}"
        seen += terminal.read(4096) or b""
    return seen


def test_a_bundle_whose_spec_wants_a_terminal_runs_on_the_streams_there_are(cli: Cli, scene: Scene, tmp_path: Path) -> None:
    spec = scene.params("/bin/echo", "hello")["spec"]
    spec["process"]["terminal"] = True  # as `runc spec` has it
    spec["root"] = {"path": "/" if scene.plain else scene.image.mounts[0]["source"]}
    (tmp_path / "config.json").write_text(json.dumps(spec), encoding="utf-8")
    done = cli.run("--bundle", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


def test_a_reader_that_goes_away_ends_it(cli: Cli) -> None:
    process = cli.start("--", "/usr/bin/yes")
    assert read_line(process) == b"y\n"
    assert process.stdout is not None
    process.stdout.close()
    with process:
        assert process.wait(SECONDS) == 128 + signal.SIGPIPE


def test_detached_it_prints_the_id_and_the_other_commands_find_it(cli: Cli, scene: Scene) -> None:
    started = cli.other(
        "run", "-d", "--name", "detached", "--runtime", scene.runtime, "--", "/bin/sh", "-c", "echo logged; exit 3"
    )
    assert (started.returncode, started.stdout) == (0, "detached\n")
    assert cli.other("wait", "detached").stdout == "3\n"
    assert cli.other("logs", "detached").stdout == "logged\n"
    (shown,) = json.loads(cli.other("inspect", "detached").stdout)
    assert shown["task"]["exit_status"] == 3
    assert "detached" in cli.other("ps", "-a").stdout
    assert cli.other("ps", "-q").stdout == ""
    assert cli.other("rm", "detached").returncode == 0
    missing = cli.other("wait", "detached")
    assert missing.returncode == 1
    assert "detached" in missing.stderr


def test_run_killed_with_sigkill_leaves_a_task_that_can_be_removed(cli: Cli, scene: Scene) -> None:
    process = cli.start("--name", "orphan", "--", "/bin/sh", "-c", "echo ready; sleep 10000")
    assert read_line(process) == b"ready\n"
    process.kill()
    finish(process)
    ears = scene.daemon.subscribe()
    with scene.daemon.connect("default") as default:
        default.call("tasks.kill", id="orphan", signal="SIGKILL")
    ears.until("ContainerDelete", "orphan")
    ears.close()


@pytest.mark.timeout(120)
def test_without_a_daemon_it_starts_one_and_says_so_once() -> None:
    daemon = Daemon()  # its folders and environment; it is not started by us
    try:
        first, second = (
            subprocess.run(
                [command(), "run", "--rm", "--", "/bin/echo", "hello"],
                capture_output=True,
                env=daemon.environment(),
                timeout=SECONDS,
                check=False,
            )
            for _ in range(2)
        )
        assert (first.returncode, first.stdout) == (0, b"hello\n"), first.stderr
        assert len(first.stderr.splitlines()) == 1
        assert b"daemon" in first.stderr
        assert (second.returncode, second.stdout, second.stderr) == (0, b"hello\n", b"")
        left = proc.belonging_to(daemon.folder, MARK)
        with proc.pidfds_of(process.pid for process in left) as pidfds:
            stopped = subprocess.run(
                [command(), "daemon", "stop"], env=daemon.environment(), timeout=SECONDS, check=False
            )
            assert stopped.returncode == 0
            assert proc.all_ended(pidfds), f"still there: {', '.join(map(str, left))}"
    finally:
        daemon.destroy()


def test_version_and_help_need_no_daemon(tmp_path: Path) -> None:
    environment = {**os.environ, "SHIMYARD_STATE": str(tmp_path / "nowhere")}
    for arguments in (["--help"], ["run", "--help"], ["version"]):
        done = subprocess.run(
            [command(), *arguments], capture_output=True, text=True, env=environment, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "shimyard" in done.stdout
