"""A runtime's checkpoint and restore: its flags, and CRIU's reasons found in its log. The log's lines are CRIU 4.2.1's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimproc.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, ShimyardError, Unknown
from shimproc.messages import Checkpoint
from shimproc.runtimes import criu
from shimproc.runtimes.backend import Images

FAILED = Unknown("criu failed: type NOTIFY errno 0\nlog file: /work/dump.log", {"exit_status": 1})
DUMP = """\
(00.035372) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.141500) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.
(00.141512) Error (criu/cr-dump.c:1545): Dump files (pid: 3401) failed with -1
(00.141738) Error (criu/cr-dump.c:1975): Dumping FAILED.
"""
RESTORE = """\
(00.050000)     11: Error (soccr/soccr.c:529): Can't connect inet socket back: Network is unreachable
(00.050001)     11: Error (criu/files.c:1221): Unable to open fd=3 id=0x13
(00.050002)     11: Error (criu/files.c:1221): Unable to open fd=4 id=0xc
(00.060000) Error (criu/cr-restore.c:1265): 11 exited, status=1
(00.060001) Error (criu/cr-restore.c:2331): Restoring FAILED.
(00.060002) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory
"""


def explained(tmp_path: Path, log: str, verb: str = "checkpoint", error: ShimyardError = FAILED) -> ShimyardError:
    """What comes of a log."""
    path = tmp_path / "criu.log"
    path.write_text(log)
    return criu.explained(error, verb, str(path))


def test_every_option_is_a_flag_of_both_verbs() -> None:
    request = Checkpoint(
        "/images",
        "/work",
        open_tcp=True,
        external_unix_sockets=True,
        terminal=True,
        file_locks=True,
        empty_namespaces=("network",),
    )
    flags = ["--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks", "--empty-ns", "network"]
    paths = ["--image-path", "/images", "--work-path", "/work"]
    assert criu.dump_args(request) == [*paths, "--leave-running", *flags]
    assert criu.restore_args(Images("/images", "/work", request.to_map(), {})) == [*paths, *flags]
    assert criu.dump_args(Checkpoint("/images", "/work", exit=True)) == paths
    assert criu.restore_args(Images("/images", "/work", {}, {})) == paths


def test_the_cause_is_quoted_and_the_log_named(tmp_path: Path) -> None:
    error = explained(tmp_path, DUMP)
    said = "CRIU cannot checkpoint it: inet: Connected TCP socket, consider using --tcp-established option; its log: "
    assert (type(error), error.message) == (FailedPrecondition, f"{said}{tmp_path}/criu.log")
    assert error.details["criu_log"] == f"{tmp_path}/criu.log"
    assert error.details["criu_error"].startswith("Error (criu/sk-inet.c:200)")
    assert error.details["criu_errors"][-1] == "Error (criu/cr-dump.c:1975): Dumping FAILED."
    assert error.details["exit_status"] == 1


def test_of_many_the_first_two_and_the_last_are_quoted(tmp_path: Path) -> None:
    message = explained(tmp_path, RESTORE, "restore").message
    causes = "Can't connect inet socket back: Network is unreachable; Unable to open fd=3 id=0x13; Unable to open fd=4 id=0xc"
    assert message == f"CRIU cannot restore it: {causes}; its log: {tmp_path}/criu.log"


def test_a_log_that_only_says_that_it_failed_is_quoted_all_the_same(tmp_path: Path) -> None:
    assert "Dumping FAILED" in explained(tmp_path, DUMP.splitlines()[-1]).message


def test_no_room_is_told_as_that(tmp_path: Path) -> None:
    log = "(00.1) Error (criu/image.c:1): Can't write 4096 bytes: No space left on device\n"
    assert type(explained(tmp_path, log)) is ResourceExhausted


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InvalidArgument('exec: "criu": executable file not found in $PATH', {"kind": "not_found_executable"}), "criu_path"),
        (InvalidArgument("unknown command checkpoint"), "built without CRIU"),
        (Unknown("status 1 and logged no reason"), "cannot checkpoint it"),
    ],
)
def test_where_criu_said_nothing_the_runtime_did(tmp_path: Path, error: ShimyardError, said: str) -> None:
    found = criu.explained(error, "checkpoint", str(tmp_path / "no.log"))
    assert type(found) is FailedPrecondition
    assert said in found.message
    assert error.message in found.message
    assert "kind" not in found.details


def test_a_task_that_is_gone_stays_not_found(tmp_path: Path) -> None:
    gone = NotFound("container does not exist")
    assert criu.explained(gone, "checkpoint", str(tmp_path / "no.log")) is gone


def test_a_dump_is_whole_when_its_log_says_so(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    assert not criu.whole(str(log))
    log.write_text(DUMP)
    assert not criu.whole(str(log))
    log.write_text("(00.233484) Dumping finished successfully\n")
    assert criu.whole(str(log))
    criu.make_work(str(tmp_path), "dump.log")
    assert not log.exists()


def test_the_logs_folder_and_all_above_that_is_made_are_private(tmp_path: Path) -> None:
    deep = tmp_path / "logs" / "task" / "criu"
    criu.make_work(str(deep), "dump.log")
    assert [one.stat().st_mode & 0o777 for one in (deep, deep.parent, deep.parent.parent)] == [0o700] * 3
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match=r"^work_path: "):
        criu.make_work(str(tmp_path / "file" / "criu"), "dump.log")


def test_a_named_criu_is_first_on_the_path(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.touch(0o755)
    for _ in range(2):
        assert criu.search_path(str(own), str(tmp_path), "/usr/bin") == f"{tmp_path}/criu:/usr/bin"
    assert (tmp_path / "criu/criu").readlink() == own
    with pytest.raises(FailedPrecondition, match=r"^runtime.options.criu_path: "):
        criu.search_path(str(tmp_path / "no"), str(tmp_path), "/usr/bin")
