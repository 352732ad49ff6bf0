"""Lines that crun and runc have written, and what is made of them; tests/unit/test_oci.py has the runtimes say some."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimproc.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ShimyardError,
    Unimplemented,
    Unknown,
)
from shimproc.runtimes.failures import NOT_EXECUTABLE, NOT_FOUND, PHRASES, Failure, Phrase, explain

RUNC_EXEC = 'runc create failed: unable to start container process: exec: "'
CGROUP_TYPE = "invalid file system type on `/sys/fs/cgroup/cgroup`"
NO_FIFO = "open /run/runc/web/exec.fifo: no such file or directory"
NO_CRUN_STATE = "error opening file `/run/crun/web/status`: No such file or directory"
EACH = pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: " ".join(phrase.words))
MISSING = (
    "executable file `/bin/nothing` not found in $PATH: No such file or directory",
    f'{RUNC_EXEC}nothing": executable file not found in $PATH',
    f'{RUNC_EXEC}/bin/nothing": stat /bin/nothing: no such file or directory',
    "open executable: No such file or directory",
)
NO_PROGRAM = (
    "open executable: Permission denied",
    f'{RUNC_EXEC}/etc": permission denied',
    f'{RUNC_EXEC}/etc": is a directory',
    "exec container process `/data`: Exec format error",
)


def failure(*logged: str, verb: str = "create", stderr: str = "") -> Failure:
    return Failure(verb, f"crun {verb} web", 1, logged, stderr)


@pytest.mark.parametrize("line", MISSING)
def test_a_program_that_is_not_there_is_the_requests_fault_and_says_so(line: str) -> None:
    error = explain(failure(line))
    assert (type(error), error.details["kind"], error.message) == (InvalidArgument, NOT_FOUND, line)


@pytest.mark.parametrize("line", NO_PROGRAM)
def test_a_program_that_cannot_be_executed_is_told_from_one_that_is_missing(line: str) -> None:
    error = explain(failure(line))
    assert (type(error), error.details["kind"], error.message) == (InvalidArgument, NOT_EXECUTABLE, line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("container `web` does not exist", NotFound),
        ("container does not exist", NotFound),
        (NO_CRUN_STATE, NotFound),
        ("cannot open directory `/run/crun/web`: No such file or directory", NotFound),
        ("namespace path: lstat /proc/7/ns/net: does not exist", InvalidArgument),
        ("container `web` already exists", FailedPrecondition),
        ("container with given ID already exists", FailedPrecondition),
        ("container `web` is not running", FailedPrecondition),
        ("cannot start a container that has stopped", FailedPrecondition),
        ("cannot start an already running container", FailedPrecondition),
        (NO_FIFO, FailedPrecondition),
        ("cannot delete container web that is not stopped: running", FailedPrecondition),
        ("os: process already finished", FailedPrecondition),
        ("kill container: No such process", FailedPrecondition),
        ("the container `web` is not in `created` or `stopped` state", FailedPrecondition),
    ],
)
def test_a_containers_state_is_told_from_its_absence(line: str, expected: type[ShimyardError]) -> None:
    assert type(explain(failure(line, verb="start"))) is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cgroups in hybrid mode not supported, drop all controllers from cgroupv2", FailedPrecondition),
        (CGROUP_TYPE, FailedPrecondition),
        ("no cgroup mount found in mountinfo", FailedPrecondition),
        ("write file `/proc/self/attr/exec`: No such file or directory", FailedPrecondition),
        ("error executing hook `/bin/false` (exit code: 1)", FailedPrecondition),
        ("error running hook #0: exit status 1", FailedPrecondition),
        ("unrecognized option '--no-pivot'", Unimplemented),
        ("flag provided but not defined: -no-new-keyring", Unimplemented),
        ("mkdir /run/runc/web: no space left on device", ResourceExhausted),
        ("write file `/run/crun/web/status`: Disk quota exceeded", ResourceExhausted),
        ("pipe2: too many open files", ResourceExhausted),
        ("clone: Cannot allocate memory", ResourceExhausted),
        ("fork/exec /proc/self/exe: resource temporarily unavailable", ResourceExhausted),
        ("mount `proc` to `proc`: Operation not permitted", PermissionDenied),
        ("mkdir /rootfs/proc: permission denied", PermissionDenied),
        ("mkdir `/rootfs/data`: Read-only file system", PermissionDenied),
    ],
)
def test_what_the_host_lacks_or_forbids_is_not_the_requests_fault(line: str, expected: type[ShimyardError]) -> None:
    assert type(explain(failure(line))) is expected


@pytest.mark.parametrize(
    "line",
    [
        "container init was OOM-killed (memory limit could be too low)",
        "unable to set memory limit to 10 (current usage: 1000, peak usage: 2000)",
        "error loading config.json",
        "json: cannot unmarshal string into Go struct field Process.args of type []string",
        "config.json not found",
        "process.cwd must be an absolute path",
        'sysctl "kernel.hostname" is not in a separate kernel namespace',
        "hostname requires the UTS namespace",
        "unable to set hostname without a private UTS namespace",
        "seccomp: unknown architecture",
        "unknown capability: CAP_NOTHING",
        "write file `/sys/fs/cgroup/cpu/web/cpu.shares`: Numerical result out of range",
        "chdir to `/nowhere`: No such file or directory",
        "mount `x` to `/mnt`: No such device",
        "mount destination /etc/passwd is not a directory: Not a directory",
    ],
)
def test_what_the_spec_asks_wrongly_is_an_invalid_argument(line: str) -> None:
    error = explain(failure(line))
    assert type(error) is InvalidArgument
    assert "kind" not in error.details


@pytest.mark.parametrize("line", ["container `other` does not exist", NO_CRUN_STATE])
def test_a_create_finds_nothing_missing_but_what_its_spec_names(line: str) -> None:
    assert type(explain(failure(line, verb="create"))) is InvalidArgument
    assert type(explain(failure(line, verb="start"))) is NotFound


def test_the_last_logged_error_decides_and_is_the_message() -> None:
    error = explain(failure("container `web` does not exist", "mount: Operation not permitted", verb="start"))
    assert type(error) is PermissionDenied
    assert error.message == "mount: Operation not permitted"


def test_what_was_logged_weighs_more_than_what_stderr_says() -> None:
    error = explain(failure("pipe2: too many open files", stderr="container does not exist\n"))
    assert (type(error), error.message) == (ResourceExhausted, "pipe2: too many open files")
    assert error.details["stderr"] == "container does not exist\n"


def test_a_reason_above_the_last_line_of_stderr_is_found_and_blank_lines_are_no_message() -> None:
    stderr = "flag provided but not defined: -log-format\n\nUsage: runtime [options]\n \n"
    error = explain(failure(stderr=stderr))
    assert (type(error), error.message) == (Unimplemented, "Usage: runtime [options]")


@pytest.mark.parametrize("stderr", ["", "\n", "  \n\t\n"])
def test_a_runtime_that_gives_no_reason_is_quoted_with_verb_and_status(stderr: str) -> None:
    error = explain(Failure("start", "/opt/mute start web", 139, (), stderr))
    assert type(error) is Unknown
    assert error.message == "start ended with status 139 and logged no reason"


def test_the_details_are_command_status_and_stderr_for_which_the_log_stands_in() -> None:
    error = explain(Failure("create", "crun create web", 3, ("one", "two"), ""))
    assert error.details == {"command": "crun create web", "exit_status": 3, "stderr": "one\ntwo"}


def test_a_reason_that_no_phrase_knows_is_unknown_in_its_own_words() -> None:
    error = explain(failure("the moon is in the wrong house"))
    assert (type(error), error.message) == (Unknown, "the moon is in the wrong house")


@EACH
def test_no_phrase_stands_in_the_shadow_of_an_earlier_one(phrase: Phrase) -> None:
    position, own = PHRASES.index(phrase), " ".join(phrase.words)
    assert not [one.words for one in PHRASES[:position] if all(word in own for word in one.words)]


@EACH
def test_every_phrase_is_small_letters_as_it_is_looked_for_among_small_letters(phrase: Phrase) -> None:
    assert phrase.words
    assert [word.lower() for word in phrase.words] == list(phrase.words)


@given(text=st.text(), logged=st.lists(st.text(), max_size=3), verb=st.sampled_from(["create", "start", "delete"]))
@settings(max_examples=100)
def test_whatever_a_runtime_says_there_is_an_error_with_a_message(text: str, logged: list[str], verb: str) -> None:
    error = explain(Failure(verb, "crun", 1, tuple(logged), text))
    assert isinstance(error, ShimyardError)
    assert set(error.details) - {"kind"} == {"command", "exit_status", "stderr"}
    if logged:
        assert error.message == logged[-1]
    else:
        assert error.message.strip()


@given(phrase=st.sampled_from(PHRASES), data=st.data())
def test_a_phrase_is_found_in_whatever_case_it_is_written(phrase: Phrase, data: st.DataObject) -> None:
    mixed = "".join(data.draw(st.sampled_from((one, one.upper()))) for one in " ".join(phrase.words))
    assert type(explain(failure(mixed, verb="start"))) is phrase.error
