"""An OCI runtime that a shell script plays: what it is asked, what is made of its words, what a killed shim left of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shimproc import flow
from shimproc.errors import FailedPrecondition, NotFound, PermissionDenied, ShimyardError, Unknown
from shimproc.runtimes import oci
from shimproc.runtimes.oci import OciOptions, OciRuntime
from tests.support.backends import streams
from tests.support.shims import Surroundings, in_shim

ID = f"test-script-{os.getpid()}"
MUTE = "ended with status {} and logged no reason"
Play = Callable[[Surroundings, OciRuntime], Any]
LOG = 'log() { echo "$1" >> "$LOG"; }\n'


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., Any]:
    """Do a play with a runtime that is the given shell script: ``$LOG`` is its log, ``$PID_FILE`` create's pid file."""

    def stage(script: str, play: Play, **options: Any) -> Any:
        bundle = tmp_path / "bundle"
        bundle.mkdir(exist_ok=True)
        command = tmp_path / "runtime"
        paths = f'LOG="{bundle}/runtime.log"\nPID_FILE="{bundle}/init.pid"\n'
        command.write_text(f"#!/bin/sh\n{paths}{script}\n")
        command.chmod(0o755)
        settings = OciOptions(str(command), str(tmp_path / "root"), str(bundle), ID, **options)
        return in_shim(lambda shim: play(shim, OciRuntime(settings, shim.reaper)))

    return stage


def create(shim: Surroundings, runtime: OciRuntime) -> int:
    """A create without a container: its stdio is three files."""
    with streams(Path(runtime._options.bundle)) as fds:
        return shim.run(runtime.create(fds))


def failed_create(shim: Surroundings, runtime: OciRuntime) -> ShimyardError:
    with pytest.raises(ShimyardError) as caught:
        create(shim, runtime)
    return caught.value


def failed_start(shim: Surroundings, runtime: OciRuntime) -> ShimyardError:
    with pytest.raises(ShimyardError) as caught:
        shim.run(runtime.start())
    return caught.value


FLAGS = {"no_pivot_root": "--no-pivot", "no_new_keyring": "--no-new-keyring", "systemd_cgroup": "--systemd-cgroup"}


@pytest.mark.parametrize("chosen", [(), *((name,) for name in FLAGS), tuple(FLAGS)])
def test_a_command_has_the_flags_that_the_options_ask_for(
    broken: Callable[..., Any], tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    options = dict.fromkeys(chosen, True)
    assert broken('printf "%s\\n" "$@"; echo 42 > "$PID_FILE"', create, **options) == 42
    bundle = str(tmp_path / "bundle")
    whole = ["--systemd-cgroup"] if "systemd_cgroup" in chosen else []
    own = [FLAGS[name] for name in ("no_pivot_root", "no_new_keyring") if name in chosen]
    expected = ["--root", str(tmp_path / "root"), "--log", f"{bundle}/runtime.log", "--log-format", "json", *whole]
    expected += ["create", "--bundle", bundle, "--pid-file", f"{bundle}/init.pid", *own, ID]
    assert (tmp_path / "bundle/out").read_text().splitlines() == expected


@pytest.mark.parametrize("written", ["", ": > $PID_FILE", "echo x > $PID_FILE"])
def test_a_create_that_leaves_no_pid_is_told_as_such(broken: Callable[..., Any], tmp_path: Path, written: str) -> None:
    error = broken(f"{written}\nexit 0", failed_create)
    assert type(error) is Unknown
    assert error.message == f"{tmp_path}/runtime created {ID} and left no pid in {tmp_path}/bundle/init.pid"


NOISE = """log '{"level":"error","msg":"first"}'
log 'no json'
log '[1]'
log '{"level":"%s","msg":"container does not exist"}'
log '{"level":"warning","msg":"only a warning"}'
log '{"level":"err'
echo "to stderr" >&2
exit 3"""


@pytest.mark.parametrize("level", ["error", "fatal", "panic"])
def test_the_last_error_of_the_log_is_the_reason_whatever_else_is_in_it(broken: Callable[..., Any], level: str) -> None:
    error = broken(LOG + NOISE % level, failed_start)
    assert (type(error), error.message) == (NotFound, "container does not exist")
    assert (error.details["exit_status"], error.details["stderr"]) == (3, "to stderr\n")


def test_what_an_earlier_command_has_logged_is_no_reason_of_a_later_one(broken: Callable[..., Any]) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> list[str]:
        return [failed_start(shim, runtime).message for _ in range(2)]

    script = LOG + """test -e "$LOG" && exit 4; log '{"level":"error","msg":"not running"}'; exit 3"""
    assert broken(script, play) == ["not running", f"start {MUTE.format(4)}"]


def test_of_a_very_long_log_and_stderr_the_end_is_kept(broken: Callable[..., Any]) -> None:
    script = """yes '{"level":"error","msg":"early"}' | head -c 300000 >> "$LOG"; echo >> "$LOG"
    yes e | head -c 200000 >&2; log '{"level":"error","msg":"late"}'; exit 1"""
    error = broken(LOG + script, failed_start)
    assert error.message == "late"
    assert error.details["stderr"] == "e\n" * 2048


def test_bytes_that_are_no_text_do_no_harm(broken: Callable[..., Any]) -> None:
    error = broken(r"printf '\377\376 gone wrong\n' >&2; exit 1", failed_start)
    assert error.message == "\ufffd\ufffd gone wrong"


@pytest.mark.parametrize(("end", "status"), [("exit 9", 9), ("kill -9 $$", 137), ("kill -11 $$", 139)])
def test_a_create_without_a_reason_gives_the_status(broken: Callable[..., Any], end: str, status: int) -> None:
    error = broken(f'test "$1" = --version && exit 0; {end}', failed_create)
    assert (type(error), error.message) == (Unknown, f"create {MUTE.format(status)}")
    assert error.details["exit_status"] == status


def test_a_runtime_that_cannot_even_tell_its_version_says_why(broken: Callable[..., Any]) -> None:
    """Its stderr on create is the container's, which nobody here reads."""
    error = broken("echo 'libyajl.so.2: cannot open shared object file' >&2; exit 127", failed_create)
    assert error.message == "libyajl.so.2: cannot open shared object file"
    assert error.details["exit_status"] == 127


def test_a_runtime_that_has_logged_why_is_not_asked_what_ails_it(broken: Callable[..., Any], tmp_path: Path) -> None:
    script = """test "$1" = --version && touch "$0.asked"; log '{"level":"error","msg":"not running"}'; exit 1"""
    assert broken(LOG + script, failed_create).message == "not running"
    assert not (tmp_path / "runtime.asked").exists()


def test_a_runtime_that_vanishes_while_it_fails_gives_its_status(broken: Callable[..., Any]) -> None:
    error = broken('rm "$0"; exit 5', failed_create)
    assert (type(error), error.message) == (Unknown, f"create {MUTE.format(5)}")


@pytest.mark.parametrize("fail", [failed_create, failed_start])
def test_a_runtime_that_was_removed_meanwhile_cannot_be_started(
    broken: Callable[..., Any], tmp_path: Path, fail: Callable[[Surroundings, OciRuntime], ShimyardError]
) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> ShimyardError:
        (tmp_path / "runtime").unlink()
        return fail(shim, runtime)

    error = broken("", play)
    assert type(error) is FailedPrecondition
    assert error.message == f"{tmp_path}/runtime cannot be started: No such file or directory"


def test_a_later_verb_touches_nothing_of_the_containers_stdio(broken: Callable[..., Any], tmp_path: Path) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> None:
        create(shim, runtime)
        shim.run(runtime.start())

    broken('echo 42 > "$PID_FILE"; cat; echo "$7"; echo error >&2', play)
    assert [(tmp_path / "bundle" / name).read_text() for name in ("out", "err")] == ["create\n", "error\n"]


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("""{"id": "x", "status": "paused"}""", "paused"),
        ("""a warning\n{"status": "running", "annotations": {"a": "}"}}\nanother""", "running"),
    ],
)
def test_a_state_is_found_among_what_else_is_said(broken: Callable[..., Any], told: str, status: str) -> None:
    assert broken(f"cat <<'END'\n{told}\nEND", lambda shim, runtime: shim.run(runtime.status())) == status


@pytest.mark.parametrize("told", ["", "running", "{}", '{"status"', '{"state": "running"}', "}{"])
def test_what_is_no_state_is_quoted(broken: Callable[..., Any], tmp_path: Path, told: str) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> ShimyardError:
        with pytest.raises(ShimyardError) as caught:
            shim.run(runtime.status())
        return caught.value

    error = broken(f"printf %s '{told}'", play)
    assert (type(error), error.message) == (Unknown, f"{tmp_path}/runtime told no state of {ID}: {told!r}")


@pytest.mark.parametrize(
    "reason", ["container does not exist", "error opening file `/r/x/status`: No such file or directory"]
)
def test_to_delete_what_is_not_there_is_success_also_without_a_bundle(
    broken: Callable[..., Any], tmp_path: Path, reason: str
) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> None:
        shim.run(runtime.delete())
        (tmp_path / "bundle/runtime.stderr").unlink()
        (tmp_path / "bundle").rmdir()
        shim.run(runtime.delete())

    broken(f"""test -d "${{LOG%/*}}" || exit 0; echo '{reason}' >&2; exit 1""", play)


def test_a_delete_that_fails_is_an_error(broken: Callable[..., Any]) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> ShimyardError:
        with pytest.raises(ShimyardError) as caught:
            shim.run(runtime.delete())
        return caught.value

    assert type(broken("echo 'rmdir: permission denied' >&2; exit 1", play)) is PermissionDenied


def test_there_is_nothing_to_wait_for_where_a_killed_shim_left_no_command(broken: Callable[..., Any]) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> bool:
        return flow.start(runtime.settle(shim.reaper)).done

    assert broken("", play)


def test_a_command_that_a_killed_shim_has_left_is_waited_for(broken: Callable[..., Any]) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> int:
        command = _left_behind()
        ended = shim.reaper.watch(command.pid)
        settled = flow.start(runtime.settle(shim.reaper))
        shim.loop.round(0)
        assert not settled.done
        os.close(command.let_go)
        shim.wait(settled)
        return shim.wait(ended).status

    assert broken("", play) == 3


def test_a_command_that_takes_too_long_is_killed(broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> list[int]:
        commands = [_left_behind(), _left_behind()]
        ended = [shim.reaper.watch(command.pid) for command in commands]
        shim.run(runtime.settle(shim.reaper))
        for command in commands:
            os.close(command.let_go)
        return [shim.wait(one).status for one in ended]

    monkeypatch.setattr(oci, "_SETTLE_SECONDS", 0.05)
    assert broken("", play) == [137, 137]


def test_a_held_init_that_bears_its_commands_name_is_known_by_the_pid_file_and_spared(
    broken: Callable[..., Any], tmp_path: Path
) -> None:
    def play(shim: Surroundings, runtime: OciRuntime) -> int:
        init = _left_behind()
        ended = shim.reaper.watch(init.pid)
        (tmp_path / "bundle/init.pid").write_text(str(init.pid))
        assert flow.start(runtime.settle(shim.reaper)).done
        os.close(init.let_go)
        return shim.wait(ended).status

    assert broken("", play) == 3


class LeftBehind(NamedTuple):
    """A process that names the container, and ends with 3 when ``let_go`` is closed."""

    pid: int
    let_go: int


def _left_behind() -> LeftBehind:
    reading, let_go = os.pipe()
    pid = os.posix_spawnp(
        "sh",
        ["sh", "-c", "read end; exit 3", "create", ID],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)],
    )
    os.close(reading)
    while not Path(f"/proc/{pid}/cmdline").read_bytes():  # vfork(2) returns a little before the program has its arguments
        os.sched_yield()
    return LeftBehind(pid, let_go)
