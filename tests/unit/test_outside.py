"""Files that a container's processes have open from outside: found by /proc, and told to CRIU by its configuration file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from shimproc.runtimes.outside import files_from_outside, home_with, to_dump, to_restore


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_a_file_of_no_mount_of_the_process_is_found_by_the_descriptor_that_it_came_as(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = 'exec 4<"$0" 5>&1; echo >&2; exec sleep 1000'  # what is opened before has a mount of another namespace
    with (
        out.open("ab") as file,
        subprocess.Popen(["unshare", "-m", "sh", "-c", script, str(out)], stdout=file, stderr=subprocess.PIPE) as process,
    ):
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == b"\n"
            found = files_from_outside([os.getpid(), process.pid], process.pid)
        finally:
            process.kill()
    assert list(found.values()) == [1]
    assert next(iter(found)).endswith(f":{out.stat().st_ino:x}]")


def test_a_process_that_has_ended_has_none() -> None:
    assert files_from_outside([1 << 22], 1 << 22) == {}


def test_criu_reads_of_them_after_what_its_user_has_told_it(tmp_path: Path) -> None:
    user = tmp_path / "user" / ".criu"
    user.mkdir(parents=True)
    (user / "default.conf").write_text("tcp-close\n")
    outside = {"file[1b:23c014]": 2}
    home = Path(home_with(to_dump(outside), str(tmp_path), str(user.parent)))
    assert (home / ".criu/default.conf").read_text() == "tcp-close\nexternal file[1b:23c014]\n"
    assert home_with(to_restore(outside), str(tmp_path), str(tmp_path / "no")) == str(home)
    assert (home / ".criu/default.conf").read_text() == "inherit-fd fd[2]:file[1b:23c014]\n"
