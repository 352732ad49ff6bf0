from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from shimproc import flow
from shimproc.errors import FailedPrecondition, ResourceExhausted
from shimproc.reaper import children
from shimproc.runtimes.oci import OciOptions, OciRuntime
from shimproc.spawn import Command, run
from tests.support.shims import Surroundings, in_shim
from tests.support.turns import descriptors, until

DAEMONS_OWN = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")


def perform(shim: Surroundings, argv: tuple[str, ...], out: Path, env: Mapping[str, str] | None = None) -> int:
    """Run it with nothing to read, what it writes in ``out`` and ``out.err``; its status."""
    fds = [os.open(os.devnull, os.O_RDONLY)]
    try:
        fds += [os.open(name, os.O_WRONLY | os.O_CREAT, 0o600) for name in (out, out.with_suffix(".err"))]
        return shim.run(run(shim.reaper, Command(argv, fds[0], fds[1], fds[2], env)))
    finally:
        for fd in fds:
            os.close(fd)


def told_by(script: str, out: Path, env: Mapping[str, str] | None = None) -> str:
    """What a shell says on its stdout."""
    assert in_shim(lambda shim: perform(shim, ("/bin/sh", "-c", script), out, env)) == 0
    return out.read_text()


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_a_command_is_waited_for_and_its_status_is_the_answer(tmp_path: Path, script: str, status: int) -> None:
    assert in_shim(lambda shim: perform(shim, ("/bin/sh", "-c", script), tmp_path / "out")) == status


def test_a_command_is_looked_for_in_path_and_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    argv = ("printf", "%s|", "", "a b", "$HOME", "*", "\udcff")
    assert in_shim(lambda shim: perform(shim, argv, tmp_path / "out")) == 0
    assert (tmp_path / "out").read_bytes() == b"|a b|$HOME|*|\xff|"


def test_what_a_command_writes_goes_where_it_was_sent(tmp_path: Path) -> None:
    assert told_by("echo out; echo err >&2; cat", tmp_path / "out") == "out\n"
    assert (tmp_path / "out.err").read_text() == "err\n"


def test_what_a_command_reads_is_what_it_was_given(tmp_path: Path) -> None:
    def deed(shim: Surroundings) -> int:
        with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as out:
            command = Command(("cat",), stdin.fileno(), out.fileno(), out.fileno())
            return shim.run(run(shim.reaper, command))

    (tmp_path / "in").write_text("given")
    assert in_shim(deed) == 0
    assert (tmp_path / "out").read_text() == "given"


def test_a_command_holds_nothing_of_what_this_process_has_opened(tmp_path: Path) -> None:
    def deed(shim: Surroundings) -> None:
        inherited = {fd for fd in descriptors() if int(fd) > 2 and os.get_inheritable(int(fd))}  # of whoever ran pytest
        reading, writing = os.pipe()
        with socket.socket(socket.AF_UNIX), (tmp_path / "file").open("wb"):
            script = "for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true"
            assert perform(shim, ("/bin/sh", "-c", script), tmp_path / "out") == 0
        os.close(reading)
        os.close(writing)
        assert set((tmp_path / "out").read_text().split()) - inherited == {"0", "1", "2"}

    in_shim(deed)


def test_a_command_leads_a_session_of_its_own(tmp_path: Path) -> None:
    pid, group, session = told_by("echo $$; cut -d' ' -f5,6 /proc/$$/stat", tmp_path / "out").split()
    assert pid == group == session


def test_a_command_has_every_signal_at_its_default_and_none_blocked(tmp_path: Path) -> None:
    def deed(shim: Surroundings) -> int:
        changeable = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGRTMAX)
        for number in changeable:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN))
        return perform(shim, ("cat", "/proc/self/status"), tmp_path / "out")

    assert in_shim(deed) == 0
    status = dict(line.split(":", 1) for line in (tmp_path / "out").read_text().splitlines())
    glibcs = 1 << 31 | 1 << 32  # its own two signals, which no program can change
    assert [int(status[name], 16) & ~glibcs for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_a_command_sees_this_process_environment_unless_it_is_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "yes")
    assert told_by('echo "$OF_THE_PARENT$GIVEN"', tmp_path / "own") == "yes\n"
    assert told_by('echo "$OF_THE_PARENT$GIVEN"', tmp_path / "given", {"GIVEN": "only"}) == "only\n"


def test_an_empty_environment_is_one_and_not_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_PARENT", "yes")
    assert told_by('echo "[$OF_THE_PARENT]"', tmp_path / "out", {}) == "[]\n"


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "No such file"), ("text", "Permission denied"), ("folder", "Permission denied")]
)
def test_a_command_that_cannot_be_started_is_named_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "text").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    path = str(tmp_path / name)

    def deed(shim: Surroundings) -> None:
        with pytest.raises(FailedPrecondition, match=f"{path} cannot be started: {reason}"):
            perform(shim, (path,), tmp_path / "out")

    in_shim(deed)


def test_a_command_that_cannot_be_watched_for_want_of_a_descriptor_is_killed(tmp_path: Path) -> None:
    """No pidfd is to be had: all numbers below the limit are taken. The shim's surroundings wait for the child's end."""

    def deed(shim: Surroundings) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        fds = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_first_gap(), hard))
            with pytest.raises(ResourceExhausted, match="/bin/sleep was started and cannot be watched: Too many"):
                shim.run(run(shim.reaper, Command(("/bin/sleep", "100"), fds[0], fds[1], fds[2])))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fds:
                os.close(fd)
        until(shim.loop, lambda: not children(os.getpid()))

    in_shim(deed)


def _first_gap() -> int:
    """The lowest free number: with it as the limit there is no descriptor to be had, and those below are kept."""
    taken = set(map(int, descriptors()))
    return next(number for number in range(len(taken) + 1) if number not in taken)


def test_commands_at_the_same_time_are_kept_apart() -> None:
    def deed(shim: Surroundings) -> list[int]:
        null = os.open(os.devnull, os.O_RDWR)
        try:
            commands = [Command(("/bin/sh", "-c", f"exit {n}"), null, null, null) for n in range(8)]
            pending = [flow.start(run(shim.reaper, command)) for command in commands]
            return [shim.wait(one) for one in pending]
        finally:
            os.close(null)

    assert in_shim(deed) == list(range(8))


@pytest.mark.parametrize("name", DAEMONS_OWN)
def test_what_systemd_tells_the_daemon_never_reaches_a_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """sd_notify(3), sd_listen_fds(3): crun and runc would hand it on to the container, which would speak for the daemon."""
    runtime = tmp_path / "runtime"
    runtime.write_text(f'#!/bin/sh\nenv >> "{tmp_path}/environment"\n')
    runtime.chmod(0o755)
    monkeypatch.setenv(name, "/run/daemon")
    monkeypatch.setenv("HTTP_PROXY", "kept")

    def deed(shim: Surroundings) -> None:
        options = OciOptions(str(runtime), str(tmp_path / "root"), str(tmp_path), "one")
        shim.run(OciRuntime(options, shim.reaper).start())

    in_shim(deed)
    told = dict(line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines())
    assert name not in told
    assert told["HTTP_PROXY"] == "kept"
    assert told["PATH"]
