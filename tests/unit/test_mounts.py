from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shimproc import linux
from shimproc.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from shimproc.mounts import mount_all, private_namespace, unmount_all

Deed = Callable[[], Any]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


def privately(deed: Deed) -> Any:
    """What ``deed`` gives, done by a child in a mount namespace of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            assert private_namespace()
            answer = {"ok": deed()}
        except BaseException:  # noqa: BLE001 - told to the parent
            answer = {"failed": traceback.format_exc()}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        answer = json.load(told)
    os.waitpid(pid, 0)
    assert "failed" not in answer, answer["failed"]
    return answer["ok"]


def mount(fstype: str, source: str | Path, *options: str) -> dict[str, Any]:
    return {"type": fstype, "source": str(source), "options": list(options)}


def mounted(path: Path) -> list[str]:
    """The option field of every mount at ``path`` or below, the oldest first."""
    table = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [fields[5] for fields in table if fields[4] == str(path) or fields[4].startswith(f"{path}/")]


def test_of_a_bind_all_is_readonly_where_that_is_asked_for(rootfs: Path, source: Path) -> None:
    (source / "below").mkdir()

    def deed() -> list[str]:
        linux.mount("tmpfs", str(source / "below"), "tmpfs")
        mount_all([mount("bind", source, "rbind", "rro")], str(rootfs))
        refused = []
        for path in (rootfs / "new", rootfs / "below/new"):
            try:
                path.touch()
            except OSError as error:
                refused.append(os.strerror(error.errno or 0))
        (source / "below/new").touch()
        return refused

    assert privately(deed) == ["Read-only file system"] * 2


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "file").write_text("from the source")
    return path


def test_a_private_namespace_shows_its_mounts_to_nobody_else(rootfs: Path) -> None:
    def deed() -> int:
        mount_all([mount("tmpfs", "tmpfs")], str(rootfs))
        return len(mounted(rootfs))

    assert privately(deed) == 1
    assert mounted(rootfs) == []


@pytest.mark.parametrize(
    "bind", [("bind", ()), ("rbind", ()), ("none", ("bind",)), ("none", ("rbind",)), ("", ("bind",))]
)
def test_a_bind_is_one_by_type_or_by_option(rootfs: Path, source: Path, bind: tuple[str, tuple[str, ...]]) -> None:
    def deed() -> str:
        mount_all([mount(bind[0], source, *bind[1])], str(rootfs))
        (rootfs / "new").touch()
        return (rootfs / "file").read_text()

    assert privately(deed) == "from the source"
    assert (source / "new").exists()


def test_only_a_recursive_bind_has_what_is_mounted_in_its_source(rootfs: Path, source: Path) -> None:
    (source / "inner").mkdir()

    def deed() -> list[bool]:
        linux.mount("tmpfs", str(source / "inner"), "tmpfs")
        (source / "inner" / "deep").touch()
        found = []
        for kind in ("bind", "rbind"):
            mount_all([mount(kind, source)], str(rootfs))
            found.append((rootfs / "inner" / "deep").exists())
            unmount_all(str(rootfs))
        return found

    assert privately(deed) == [False, True]


def test_a_bind_with_ro_cannot_be_written_though_its_source_can(rootfs: Path, source: Path) -> None:
    def deed() -> int | None:
        mount_all([mount("bind", source, "ro")], str(rootfs))
        (source / "still").touch()
        with pytest.raises(OSError, match="Read-only") as raised:
            (rootfs / "new").touch()
        return raised.value.errno

    assert privately(deed) == errno.EROFS


def test_a_bind_keeps_its_sources_flags_when_one_is_added(rootfs: Path, source: Path) -> None:
    def deed() -> list[str]:
        linux.mount("tmpfs", str(source), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOATIME)
        mount_all([mount("bind", source, "ro")], str(rootfs))
        return sorted(mounted(rootfs)[0].split(","))

    assert privately(deed) == ["noatime", "nodev", "nosuid", "ro"]


def test_a_bind_of_a_read_only_mount_stays_read_only_when_a_flag_is_added(rootfs: Path, source: Path) -> None:
    def deed() -> list[str]:
        linux.mount("tmpfs", str(source), "tmpfs")
        linux.mount("none", str(source), "", linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
        mount_all([mount("bind", source, "nosuid")], str(rootfs))
        return sorted(mounted(rootfs)[0].split(","))

    assert {"ro", "nosuid"} <= set(privately(deed))


def test_a_bind_gives_up_what_an_option_takes_back(rootfs: Path, source: Path) -> None:
    def deed() -> list[str]:
        linux.mount("tmpfs", str(source), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOATIME)
        mount_all([mount("bind", source, "ro", "suid", "relatime")], str(rootfs))
        return sorted(mounted(rootfs)[0].split(","))

    assert privately(deed) == ["nodev", "relatime", "ro"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), {"rw", "relatime"}),
        (("defaults",), {"rw", "relatime"}),
        (("ro", "nosuid", "nodev", "noexec"), {"ro", "nosuid", "nodev", "noexec", "relatime"}),
        (("ro", "rw"), {"rw", "relatime"}),
        (("noatime", "nodiratime"), {"rw", "noatime", "nodiratime"}),
        (("strictatime",), {"rw"}),
        (("noatime", "relatime"), {"rw", "relatime"}),
        (("noauto", "nofail", "user", "x-systemd.automount", "_netdev"), {"rw", "relatime"}),
    ],
)
def test_options_are_flags_as_mount_8_has_them(rootfs: Path, options: tuple[str, ...], told: set[str]) -> None:
    def deed() -> list[str]:
        mount_all([mount("tmpfs", "tmpfs", *options)], str(rootfs))
        return mounted(rootfs)[0].split(",")

    assert set(privately(deed)) == told


def test_other_words_go_to_the_file_system(rootfs: Path) -> None:
    def deed() -> list[int]:
        mount_all([mount("tmpfs", "tmpfs", "size=1m", "mode=0710", "nosuid")], str(rootfs))
        size = os.statvfs(rootfs)
        return [size.f_blocks * size.f_frsize, stat.S_IMODE(rootfs.stat().st_mode)]

    assert privately(deed) == [1 << 20, 0o710]


@pytest.mark.parametrize(
    ("word", "told"), [("shared", "shared:"), ("rslave", ""), ("private", ""), ("unbindable", "unbindable")]
)
def test_propagation_is_set_after_the_mount(rootfs: Path, word: str, told: str) -> None:
    def deed() -> str:
        mount_all([mount("tmpfs", "tmpfs", "shared", word)], str(rootfs))
        (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {rootfs} " in line]
        return " ".join(line.partition(" - ")[0].split()[6:])

    found = privately(deed)
    assert found.startswith(told) if told else found == ""


def test_a_remount_changes_the_mount_that_is_there(rootfs: Path) -> None:
    def deed() -> list[str]:
        mount_all([mount("tmpfs", "tmpfs"), mount("tmpfs", "tmpfs", "remount", "ro")], str(rootfs))
        return mounted(rootfs)

    (flags,) = privately(deed)
    assert flags.startswith("ro")


def test_mounts_are_stacked_in_order(rootfs: Path, source: Path) -> None:
    def deed() -> bool:
        mount_all([mount("tmpfs", "tmpfs"), mount("bind", source)], str(rootfs))
        return (rootfs / "file").exists() and len(mounted(rootfs)) == 2

    assert privately(deed)


def overlay(lower: str | Path, *options: str) -> dict[str, Any]:
    return mount("overlay", "overlay", f"lowerdir={lower}", *options)


@pytest.mark.parametrize("lower", ["/", None])
def test_a_private_upper_side_takes_what_is_written_over_any_lower_one(
    rootfs: Path, source: Path, lower: str | None
) -> None:
    def deed() -> bool:
        mount_all([overlay(lower or source, "x-shimyard.upper=tmpfs")], str(rootfs))
        (rootfs / "written").touch()
        shown = (rootfs / "etc").is_dir() if lower else (rootfs / "file").exists()
        unmount_all(str(rootfs))
        return shown and mounted(rootfs) == []

    assert privately(deed)
    assert not (Path(lower or source) / "written").exists()


def test_a_private_upper_side_has_the_mode_and_owner_of_the_topmost_lower_one(rootfs: Path, tmp_path: Path) -> None:
    top, bottom = tmp_path / "to:p", tmp_path / "bottom"
    for path, mode in ((top, 0o1751), (bottom, 0o700)):
        path.mkdir()
        path.chmod(mode)
    os.chown(top, 123, 456)
    layers = f"{tmp_path}/to\\:p:{bottom}"

    def deed() -> list[int]:
        mount_all([overlay(layers, "x-shimyard.upper=tmpfs")], str(rootfs))
        found = rootfs.stat()
        return [stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid]

    assert privately(deed) == [0o1751, 123, 456]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (overlay("/", "x-shimyard.upper=disk"), "only tmpfs"),
        (mount("overlay", "overlay", "x-shimyard.upper=tmpfs"), "lowerdir="),
        (mount("tmpfs", "tmpfs", "x-shimyard.upper=tmpfs"), "lowerdir="),
        (mount("bind", "/no/such/folder"), "does not exist"),
        (overlay("/no/such/folder", "x-shimyard.upper=tmpfs"), "does not exist"),
        (overlay("/no/such/folder"), "does not exist|wrong value"),
        (mount("nosuchfs", "none"), "no such type"),
        (mount("tmpfs", "tmpfs", "size=lots"), "wrong value"),
        (mount("tmpfs", "tmpfs", "bogus"), "not one of this type's"),
        (mount("bind", "/etc/passwd"), "no folder"),
        (mount("tmpfs", "tmpfs", "size=1m," * 600), "shorter options"),
    ],
)
def test_a_failing_mount_is_named_with_the_reason_and_all_before_it_are_undone(
    rootfs: Path, source: Path, bad: dict[str, Any], why: str
) -> None:
    def deed() -> list[str]:
        with pytest.raises(InvalidArgument, match=why) as raised:
            mount_all([mount("bind", source), mount("tmpfs", "tmpfs"), bad], str(rootfs))
        return [raised.value.message, *mounted(rootfs)]

    (message,) = privately(deed)
    assert message.startswith("rootfs[2]: ")
    assert bad["source"] in message
    assert (source / "file").exists()


def test_who_may_not_mount_is_told_so(rootfs: Path, source: Path) -> None:
    def deed() -> str:
        os.setuid(65534)
        with pytest.raises(PermissionDenied) as raised:
            mount_all([mount("bind", source)], str(rootfs))
        return raised.value.message

    message = privately(deed)
    assert "rootfs[0]" in message
    assert "root" in message


def test_who_may_not_have_a_namespace_is_told_no() -> None:
    def deed() -> bool:
        os.setuid(65534)
        return private_namespace()

    assert privately(deed) is False


def test_unmount_takes_off_every_layer_and_what_is_mounted_within(rootfs: Path, source: Path) -> None:
    (source / "a").mkdir()

    def deed() -> list[str]:
        mount_all([mount("bind", source)], str(rootfs))
        linux.mount("tmpfs", str(rootfs / "a"), "tmpfs")
        (rootfs / "a" / "b").mkdir()
        linux.mount("tmpfs", str(rootfs / "a" / "b"), "tmpfs")
        linux.mount("tmpfs", str(rootfs), "tmpfs")
        unmount_all(str(rootfs))
        return mounted(rootfs)

    assert privately(deed) == []
    assert (source / "file").exists()


def test_unmount_touches_no_file_and_no_neighbour(rootfs: Path, tmp_path: Path) -> None:
    neighbour = tmp_path / "rootfs2"
    neighbour.mkdir()
    (rootfs / "beneath").touch()

    def deed() -> int:
        linux.mount("tmpfs", str(neighbour), "tmpfs")
        mount_all([mount("tmpfs", "tmpfs")], str(rootfs))
        unmount_all(str(rootfs))
        return len(mounted(neighbour))

    assert privately(deed) == 1
    assert (rootfs / "beneath").exists()


def test_a_mount_that_is_in_use_is_detached(rootfs: Path) -> None:
    def deed() -> list[str]:
        mount_all([mount("tmpfs", "tmpfs")], str(rootfs))
        user = os.open(rootfs, os.O_RDONLY)
        with pytest.raises(OSError, match="busy"):
            linux.umount(str(rootfs))
        unmount_all(str(rootfs))
        os.close(user)
        return mounted(rootfs)

    assert privately(deed) == []


def test_paths_with_blanks_and_backslashes_are_unmounted(tmp_path: Path) -> None:
    path = tmp_path / "a b\\c\td\n"
    path.mkdir()

    def deed() -> list[int]:
        linux.mount("tmpfs", str(path), "tmpfs")
        before = os.stat(path).st_dev  # noqa: PTH116 - it is compared
        unmount_all(str(path))
        return [before, path.stat().st_dev]

    before, after = privately(deed)
    assert before != after


def test_a_rootfs_that_is_named_by_a_link_is_unmounted(rootfs: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(rootfs)

    def deed() -> list[str]:
        linux.mount("tmpfs", str(rootfs), "tmpfs")
        unmount_all(str(link))
        return mounted(rootfs)

    assert privately(deed) == []


def test_unmounting_where_nothing_is_mounted_is_no_deed(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "umount", lambda *_: pytest.fail("called"))
    unmount_all(str(rootfs))
    unmount_all(str(rootfs / "missing"))


def test_a_mount_that_stays_is_an_error_that_says_why_and_does_not_go_on_for_ever(rootfs: Path) -> None:
    def deed() -> str:
        linux.mount("tmpfs", str(rootfs), "tmpfs")
        os.setuid(65534)
        signal.alarm(10)
        with pytest.raises(FailedPrecondition) as raised:
            unmount_all(str(rootfs))
        return raised.value.message

    assert re.search("not permitted|denied", privately(deed))
