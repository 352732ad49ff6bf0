from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from shimproc.errors import InvalidArgument, PermissionDenied, ShimyardError
from shimproc.runtimes.plain import PlainBackend
from tests.support.backends import Ran, created, on_plain_stage, plain_spec, ran
from tests.support.shims import Surroundings, bundle_of, in_shim
from tests.support.specs import Image, Map
from tests.support.turns import until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may")
SH = "/bin/sh"


def told(folder: Path, script: str, **process: Any) -> str:
    """What a shell says that runs as ``process`` has it."""
    done = outcome(folder, args=[SH, "-c", script], **process)
    assert (done.status, done.err) == (0, "")
    return done.out


def outcome(folder: Path, **process: Any) -> Ran:
    found: Ran = on_plain_stage(lambda shim, backend: ran(shim, backend, folder), process)
    return found


def refused(folder: Path, **process: Any) -> ShimyardError:
    """The error of its start; it ended with 127, and nothing of it is left."""

    def deed(shim: Surroundings, backend: PlainBackend) -> ShimyardError:
        init = created(shim, backend, folder)
        with pytest.raises(ShimyardError) as caught:
            shim.run(backend.start())
        assert shim.wait(init.ended).status == 127
        shim.run(backend.delete(force=False))
        return caught.value

    found: ShimyardError = on_plain_stage(deed, process)
    return found


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 9", 9), ("kill -9 $$", 137)])
def test_the_program_runs_and_its_end_is_its_own(tmp_path: Path, script: str, status: int) -> None:
    assert outcome(tmp_path, args=[SH, "-c", script]).status == status


def test_nothing_of_the_program_happens_before_start(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> None:
        init = created(shim, backend, tmp_path)
        until(shim.loop, lambda: Path(f"/proc/{init.pid}/comm").read_text() == "held\n")
        assert not shim.run(backend.is_started())
        assert not (tmp_path / "made").exists()
        shim.run(backend.start())
        assert shim.run(backend.is_started())
        shim.wait(init.ended)
        assert (tmp_path / "made").exists()

    on_plain_stage(deed, {"args": ["touch", str(tmp_path / "made")]})


def test_out_and_err_are_the_given_descriptors(tmp_path: Path) -> None:
    done = outcome(tmp_path, args=[SH, "-c", "echo out; echo err >&2; cat"])
    assert (done.out, done.err) == ("out\n", "err\n")


def test_arguments_are_passed_as_they_are(tmp_path: Path) -> None:
    assert outcome(tmp_path, args=["printf", "%s|", "", "a b", "$HOME", "*"]).out == "|a b|$HOME|*|"


def test_the_environment_is_the_specs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "HOME", "SECRET"):
        monkeypatch.setenv(name, "the daemon's")
    seen = outcome(tmp_path, args=["/usr/bin/env"], env=["PATH=/bin", "A=1", "B=x=y", "C=", "A=2"]).out
    assert sorted(seen.splitlines()) == ["A=2", "B=x=y", "C=", "PATH=/bin"]


@pytest.mark.parametrize("env", [[], None])
def test_without_a_path_there_is_the_usual_one(tmp_path: Path, env: list[str] | None) -> None:
    path = told(tmp_path, 'echo "$PATH"', env=env).strip().split(":")
    assert {"/bin", "/usr/bin", "/sbin", "/usr/sbin"} <= set(path)


@pytest.mark.parametrize(("name", "cwd"), [("program", "/"), ("./program", None)])
def test_a_program_is_looked_for_in_the_specs_own_path_or_from_cwd(tmp_path: Path, name: str, cwd: str | None) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o755)
    process = {"args": [name], "env": [f"PATH=/nowhere:{tmp_path}"], "cwd": cwd or str(tmp_path)}
    assert outcome(tmp_path / "run", **process).out == f"{process['cwd']}\n"


@as_root
def test_user_and_groups_are_the_specs_and_another_user_has_no_capability_left(tmp_path: Path) -> None:
    user = {"uid": 1234, "gid": 2345, "additionalGids": [7, 8]}
    seen = told(tmp_path, "grep -E '^(Uid|Gid|Groups|CapPrm|CapEff)' /proc/self/status", user=user)
    uid, gid, groups, *capabilities = (line.split()[1:] for line in seen.splitlines())
    assert (set(uid), set(gid), groups) == ({"1234"}, {"2345"}, ["7", "8"])
    assert capabilities == [["0" * 16]] * 2


@as_root
def test_a_user_without_further_groups_keeps_none_of_the_daemons(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> str:
        os.setgroups([11, 12])
        return ran(shim, backend, tmp_path).out

    args = [SH, "-c", "grep ^Groups /proc/self/status"]
    assert on_plain_stage(deed, {"args": args, "user": {"uid": 1234, "gid": 1234}}).split() == ["Groups:"]


@pytest.mark.parametrize(("user", "umask"), [({}, "0022"), ({"umask": 0o077}, "0077"), ({"umask": 0}, "0000")])
def test_the_umask_is_the_specs_or_the_usual_one(tmp_path: Path, user: Map, umask: str) -> None:
    before = os.umask(0o027)
    try:
        assert told(tmp_path, "umask", user=user) == f"{umask}\n"
    finally:
        os.umask(before)


def test_limits_are_set_soft_and_hard(tmp_path: Path) -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 40, "hard": 50}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    script = "ulimit -Sn; ulimit -Hn; ulimit -Hc"
    assert told(tmp_path, script, rlimits=limits).split() == ["40", "50", "0"]


@as_root
def test_the_largest_of_64_bits_is_no_limit(tmp_path: Path) -> None:
    limits = [{"type": "RLIMIT_FSIZE", "soft": 2**64 - 1, "hard": 2**64 - 1}]
    assert told(tmp_path, "ulimit -Hf; ulimit -Sf", rlimits=limits).split() == ["unlimited", "unlimited"]


def test_the_score_of_the_oom_killer_is_set(tmp_path: Path) -> None:
    assert told(tmp_path, "cat /proc/self/oom_score_adj", oomScoreAdj=567) == "567\n"


@pytest.mark.parametrize(("wanted", "seen"), [(True, "1"), (False, "0"), (None, "0")])
def test_new_privileges_are_ruled_out_only_if_the_spec_says_so(tmp_path: Path, wanted: bool | None, seen: str) -> None:
    if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text():
        pytest.skip("they are ruled out for this whole session")
    assert told(tmp_path, "grep NoNewPrivs /proc/self/status", noNewPrivileges=wanted).split()[1] == seen


def test_it_leads_a_session_of_its_own(tmp_path: Path) -> None:
    pid, group, session = told(tmp_path, "echo $$; cut -d' ' -f5,6 /proc/$$/stat").split()
    assert pid == group == session


def test_it_has_every_signal_at_its_default_and_none_blocked(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> str:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGRTMIN):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1))
        return ran(shim, backend, tmp_path).out

    seen = on_plain_stage(deed, {"args": ["cat", "/proc/self/status"]})
    status = dict(line.split(":", 1) for line in seen.splitlines())
    assert [int(status[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_it_holds_nothing_but_its_three_descriptors_even_while_it_is_held(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> list[str]:
        stray = os.dup(0)
        os.set_inheritable(stray, True)
        init = created(shim, backend, tmp_path)
        folder = Path(f"/proc/{init.pid}/fd")
        until(shim.loop, lambda: len(list(folder.iterdir())) == 5)  # the two pipes besides
        shim.run(backend.start())
        assert shim.wait(init.ended).status == 0
        os.close(stray)
        return (tmp_path / "out").read_text().split()

    script = "for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true"
    assert on_plain_stage(deed, {"args": [SH, "-c", script]}) == ["0", "1", "2"]


def test_with_a_terminal_it_is_the_sessions_own(tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: PlainBackend) -> bytes:
        master, slave = os.openpty()
        with shim.reaper.expecting():
            pid = shim.run(backend.create((slave, slave, slave)))
            ended = shim.reaper.watch(pid)
        shim.run(backend.start())
        assert shim.wait(ended).status == 0
        seen = os.read(master, 1000)
        os.close(master)
        os.close(slave)
        return seen

    args = [SH, "-c", "echo spoken > /dev/tty"]
    assert on_plain_stage(deed, {"args": args, "terminal": True}) == b"spoken\r\n"
    assert "/dev/tty" in outcome(tmp_path, args=args).err


@as_root
def test_with_a_rootfs_the_program_is_in_it_and_sees_nothing_else(tmp_path: Path) -> None:
    image = Image.make(tmp_path / "image")

    def deed(shim: Surroundings) -> Ran:
        bundle = bundle_of(tmp_path / "bundle", {}, image)
        whole = plain_spec({"args": ["sh", "-c", f"pwd; test -e {tmp_path} || echo hidden"], "cwd": "/bin"})
        backend = PlainBackend(whole, "test-plain", str(bundle / "rootfs"), shim.reaper)
        return ran(shim, backend, tmp_path / "run")

    if not Path("/bin/busybox").exists():
        pytest.skip("the image is the host's own files: nothing is hidden")
    assert in_shim(deed) == Ran(0, "/bin\nhidden\n", "")


FAULTS: list[tuple[Map, str, str]] = [
    ({"args": ["/bin/missing"]}, "process.args: '/bin/missing': No such file", "not_found_executable"),
    (
        {"args": ["missing"], "env": ["PATH=/a:/b"]},
        r"process.args: 'missing' in PATH \(/a:/b\)",
        "not_found_executable",
    ),
    ({"args": [""]}, "process.args: ''.*No such file", "not_found_executable"),
    ({"args": ["/etc"]}, "process.args: '/etc': Permission denied", "not_executable"),
    ({"args": ["/etc/passwd/x"]}, "process.args: .*Not a directory", "not_executable"),
    ({"args": []}, "process.args: it is empty; give", "not_executable"),
    ({"args": ["true", "a\0b"]}, "process.args: .*null byte", "not_executable"),
    ({"args": ["true"], "env": ["NOTHING"]}, "process.env: 'NOTHING' is not NAME=VALUE", "not_executable"),
    ({"args": ["true"], "env": ["=x"]}, "process.env: '=x' is not NAME=VALUE", "not_executable"),
    ({"cwd": "/no/where"}, "process.cwd: /no/where: No such file", "not_executable"),
    ({"cwd": "/etc/passwd"}, "process.cwd: /etc/passwd: Not a directory", "not_executable"),
    ({"rlimits": [{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}]}, "process.rlimits: RLIMIT_MOON", "not_executable"),
    ({"rlimits": [{"type": "getrlimit", "soft": 1, "hard": 1}]}, "process.rlimits: getrlimit", "not_executable"),
    (
        {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]},
        "process.rlimits: RLIMIT_NOFILE",
        "not_executable",
    ),
    ({"oomScoreAdj": 5000}, "process.oomScoreAdj: .*Invalid argument", "not_executable"),
    ({"terminal": True}, "process.terminal: .*Inappropriate ioctl", "not_executable"),
]


@pytest.mark.parametrize(("process", "message", "kind"), FAULTS)
def test_what_cannot_be_is_an_error_of_start_that_names_its_field(
    tmp_path: Path, process: Map, message: str, kind: str
) -> None:
    error = refused(tmp_path, **process)
    with pytest.raises(InvalidArgument, match=message):
        raise error
    assert error.details["kind"] == kind
    assert error.details["field"] in error.message


def test_a_file_of_no_known_format_is_not_executable(tmp_path: Path) -> None:
    program = tmp_path / "data"
    program.write_bytes(b"\0\1\2")
    program.chmod(0o755)
    error = refused(tmp_path / "run", args=[str(program)])
    assert (error.message, error.details["kind"]) == (f"process.args: '{program}': Exec format error", "not_executable")


TOO_LONG: list[tuple[str, str]] = [
    ("args", ": File name too long"),
    ("env", " is not NAME=VALUE"),
    ("cwd", ": File name too long"),
]


@pytest.mark.parametrize("letter", ["a", "\u20ac", "\U0001f6a2", "\u0007", "\\"])
@pytest.mark.parametrize(("field", "end"), TOO_LONG)
def test_a_fault_with_a_very_long_name_is_told_from_begin_to_end(
    tmp_path: Path, field: str, end: str, letter: str
) -> None:
    long = "/" + letter * 20_000
    error = refused(tmp_path, **{field: long if field == "cwd" else [long]})
    assert isinstance(error, InvalidArgument)
    assert error.message.startswith(f"process.{field}: ")
    assert error.message.endswith(f"\u2026{end}")
    assert len(error.message) < 500


def test_a_program_of_a_long_name_is_missing_in_a_long_path(tmp_path: Path) -> None:
    error = refused(tmp_path, args=["\U0001f6a2" * 60], env=["PATH=" + "/\U0001f6a2:" * 2000])
    assert error.details["kind"] == "not_found_executable"
    assert re.fullmatch(r"process.args: '\U0001f6a2{60}' in PATH \([^)]+\u2026\): No such file or directory", error.message)


@as_root
def test_a_right_that_is_lacking_is_permission_denied(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(0o700)
    error = refused(tmp_path / "run", cwd=str(tmp_path / "closed"), user={"uid": 1234, "gid": 1234})
    assert type(error) is PermissionDenied
    assert error.message.startswith(f"process.cwd: {tmp_path}/closed: Permission denied")
