from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from shimproc import linux

ROOT = os.geteuid() == 0


def in_child(deed: Callable[[], object]) -> int:
    """The exit status of a child that does ``deed``: what it gives, as an integer; 99 when it raises."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = int(deed() or 0)  # type: ignore[call-overload]
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_subreaper_is_given_the_orphans_of_its_children() -> None:
    def deed() -> bool:
        linux.set_child_subreaper()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.read(reading, 1)
                os._exit(7)
            os._exit(0)
        os.waitpid(child, 0)
        os.write(writing, b"x")
        return os.waitstatus_to_exitcode(os.wait()[1]) == 7

    assert in_child(deed) == 1


def test_a_name_is_what_ps_shows_cut_to_15_bytes() -> None:
    def deed() -> bool:
        linux.set_name("shim-of-a-very-long-task")
        return Path("/proc/self/comm").read_text() == "shim-of-a-very-\n"

    assert in_child(deed) == 1


def test_no_new_privileges_can_be_set() -> None:
    def deed() -> bool:
        linux.set_no_new_privs()
        return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    assert in_child(deed) == 1


def test_the_signal_of_the_parents_death_is_delivered() -> None:
    def deed() -> bool:
        linux.set_child_subreaper()
        reading, writing = os.pipe()
        parent = os.fork()
        if parent == 0:
            child = os.fork()
            if child == 0:
                linux.set_pdeathsig(signal.SIGUSR1)
                os.write(writing, b"x")
                signal.pause()
            os.read(reading, 1)
            os._exit(0)
        os.waitpid(parent, 0)
        return os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGUSR1

    assert in_child(deed) == 1


def test_a_range_of_descriptors_is_closed_and_no_other() -> None:
    def deed() -> bool:
        low, *many = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
        linux.close_range(many[0], many[-1])
        os.fstat(low)
        for fd in many:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(fd)
        return True

    assert in_child(deed) == 1


def test_an_error_has_errno_reason_and_what_failed(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(OSError, match="missing") as raised:
        linux.umount(missing)
    assert raised.value.errno in (errno.ENOENT, errno.EPERM)
    assert raised.value.filename == missing


@pytest.mark.parametrize("arguments", [("a\0b", "/mnt", "tmpfs"), ("a", "/mnt\0x", "tmpfs"), ("a", "/mnt", "tmpfs\0")])
def test_a_nul_in_a_mount_is_refused_and_never_cuts_a_path_short(arguments: tuple[str, str, str]) -> None:
    with pytest.raises(OSError, match="NUL") as raised:
        linux.mount(*arguments)
    assert raised.value.errno == errno.EINVAL


def test_mount_options_longer_than_a_page_are_refused_and_not_cut_short() -> None:
    with pytest.raises(OSError, match="4095") as raised:
        linux.mount("none", "/nowhere", "tmpfs", 0, "size=1," * 1000)
    assert raised.value.errno == errno.E2BIG


def test_inotify_tells_of_a_file_that_is_made(tmp_path: Path) -> None:
    fd = linux.inotify_init()
    try:
        linux.inotify_add_watch(fd, str(tmp_path), linux.IN_CREATE)
        with pytest.raises(BlockingIOError):
            os.read(fd, 4096)
        (tmp_path / "made").touch()
        assert b"made" in os.read(fd, 4096)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_watch_of_what_is_not_there_names_it(tmp_path: Path) -> None:
    fd = linux.inotify_init()
    try:
        with pytest.raises(FileNotFoundError, match="missing"):
            linux.inotify_add_watch(fd, str(tmp_path / "missing"), linux.IN_CREATE)
    finally:
        os.close(fd)


def test_a_pipe_tells_from_both_ends_how_much_is_unread_and_can_be_made_larger() -> None:
    reading, writing = os.pipe()
    try:
        linux.set_pipe_size(writing, 128 << 10)
        os.set_blocking(writing, False)
        assert os.write(writing, bytes(100 << 10)) == 100 << 10
        assert linux.unread(reading) == linux.unread(writing) == 100 << 10
        os.read(reading, 1000)
        assert linux.unread(reading) == (100 << 10) - 1000
    finally:
        os.close(reading)
        os.close(writing)


def test_a_peer_is_known_by_pid_uid_and_gid() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert linux.peer_credentials(ours) == (os.getpid(), os.getuid(), os.getgid())


@pytest.mark.parametrize(("how", "status"), [("exit 7", 7 << 8), ("kill -9 $$", 9)])
def test_a_pidfd_tells_the_wait_status_of_a_process_that_was_reaped(how: str, status: int) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", how], {})
    pidfd = os.pidfd_open(pid)
    try:
        select.select([pidfd], [], [])
        assert linux.pidfd_exit_status(pidfd) is None  # a zombie: not reaped yet
        assert os.waitpid(pid, 0)[1] == status
        told = linux.pidfd_exit_status(pidfd)
        if told is None and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15):
            pytest.skip("the kernel is older than 6.15: it does not tell")
        assert told == status
    finally:
        os.close(pidfd)


def test_the_exit_status_of_what_is_no_pidfd_is_not_known() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        assert linux.pidfd_exit_status(fd) is None
    finally:
        os.close(fd)


@pytest.mark.skipif(not ROOT, reason="only root has a mount namespace to leave")
def test_unshare_gives_a_mount_namespace_of_its_own() -> None:
    before = os.readlink("/proc/self/ns/mnt")  # noqa: PTH115 - it is no path

    def deed() -> bool:
        linux.unshare(linux.CLONE_NEWNS)
        return os.readlink("/proc/self/ns/mnt") != before  # noqa: PTH115

    assert in_child(deed) == 1


def test_ctypes_is_used_nowhere_else() -> None:
    here = Path(linux.__file__).parent.parent
    files = [*(here / "shimproc").rglob("*.py"), *(here / "actors").rglob("*.py")]
    users = [path.name for path in files if "import ctypes" in path.read_text()]
    assert users == ["linux.py"]
    assert ctypes.sizeof(ctypes.c_int) == 4  # what the ioctls here rely on
