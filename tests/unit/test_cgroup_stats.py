"""What a cgroup has used, from the files of v1, of v2 and of a host that has some of each; None for what is not told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from shimproc.cgroup_stats import oom_file, oom_kills, usage
from shimproc.cgroups import Cgroup

V1 = {
    "cpuacct": {"cpuacct.usage": "36357646\n", "cpuacct.stat": "user 1\nsystem 2\n"},
    "memory": {
        "memory.usage_in_bytes": "692224\n",
        "memory.max_usage_in_bytes": "33554432\n",
        "memory.limit_in_bytes": "33554432\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    },
    "pids": {"pids.current": "2\n", "pids.max": "50\n"},
    "blkio": {
        "blkio.throttle.io_service_bytes": "8:0 Read 1\n8:0 Write 1\nTotal 2\n",
        "blkio.throttle.io_service_bytes_recursive": (
            "259:0 Read 4096\n259:0 Write 8192\n259:0 Sync 12288\n259:0 Async 0\n259:0 Discard 0\n259:0 Total 12288\n"
            "8:0 Read 100\n8:0 Write 0\n8:0 Sync 100\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 100\n"
            "Total 12388\n"
        ),
    },
}
"""As Linux 6.18 gives them."""
V2 = {
    "": {
        "cpu.stat": (
            "usage_usec 36357\nuser_usec 13637\nsystem_usec 22720\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
            "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n"
        ),
        "memory.current": "1466368\n",
        "memory.peak": "33554432\n",
        "memory.max": "33554432\n",
        "memory.events": "low 0\nhigh 0\nmax 1834\noom 3\noom_kill 2\noom_group_kill 0\n",
        "pids.current": "7\n",
        "pids.max": "max\n",
        "io.stat": (
            "254:1 rbytes=6901432320 wbytes=14245535744 rios=263278 wios=248603 dbytes=0 dios=0\n"
            "254:0 rbytes=2702336 wbytes=0 rios=97 wios=0 dbytes=0 dios=0\n"
            "7:0 \n"
        ),
    }
}
NOTHING = {
    "cpu": {"usage_ns": None, "user_ns": None, "system_ns": None},
    "memory": {"usage": None, "peak": None, "limit": None, "oom_kills": None},
    "pids": {"current": None, "limit": None},
    "io": {"read_bytes": None, "write_bytes": None},
}


def laid(folder: Path, files: Mapping[str, Mapping[str, str]]) -> Cgroup:
    """A cgroup with these files, by controller."""
    for controller, contents in files.items():
        (folder / f"at-{controller}").mkdir()
        for name, text in contents.items():
            (folder / f"at-{controller}" / name).write_text(text)
    return Cgroup({controller: str(folder / f"at-{controller}") for controller in files})


def test_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shimproc.cgroup_stats._USER_HZ", 100)
    assert usage(laid(tmp_path, V1)) == {
        "cpu": {"usage_ns": 36_357_646, "user_ns": 10_000_000, "system_ns": 20_000_000},
        "memory": {"usage": 692_224, "peak": 33_554_432, "limit": 33_554_432, "oom_kills": 1},
        "pids": {"current": 2, "limit": 50},
        "io": {"read_bytes": 4196, "write_bytes": 8192},
    }


def test_version_2(tmp_path: Path) -> None:
    assert usage(laid(tmp_path, V2)) == {
        "cpu": {"usage_ns": 36_357_000, "user_ns": 13_637_000, "system_ns": 22_720_000},
        "memory": {"usage": 1_466_368, "peak": 33_554_432, "limit": 33_554_432, "oom_kills": 2},
        "pids": {"current": 7, "limit": None},
        "io": {"read_bytes": 6_904_134_656, "write_bytes": 14_245_535_744},
    }


def test_of_a_hybrid_host_each_controller_is_read_where_it_is(tmp_path: Path) -> None:
    some = {name: V1[name] for name in ("memory", "pids")}
    found = usage(laid(tmp_path, some | {"": {"cpu.stat": V2[""]["cpu.stat"], "memory.current": "no"}}))
    assert found["cpu"]["usage_ns"] == 36_357_000
    assert (found["memory"]["usage"], found["memory"]["oom_kills"]) == (692_224, 1)
    assert found["pids"] == {"current": 2, "limit": 50}
    assert found["io"] == NOTHING["io"]


@pytest.mark.parametrize("files", [{}, {"": {}}, {"freezer": {}}, {name: {} for name in V1}])
def test_what_the_host_does_not_tell_is_none(tmp_path: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    assert usage(laid(tmp_path, files)) == NOTHING


def test_nothing_read_or_written_yet_is_zero(tmp_path: Path) -> None:
    idle = {"blkio.throttle.io_service_bytes_recursive": "Total 0\n"}
    assert usage(laid(tmp_path, {"blkio": idle}))["io"] == {"read_bytes": 0, "write_bytes": 0}
    (tmp_path / "two").mkdir()
    assert usage(laid(tmp_path / "two", {"": {"io.stat": ""}}))["io"] == {"read_bytes": 0, "write_bytes": 0}


@pytest.mark.parametrize("none", ["9223372036854771712\n", "9223372036854710272\n"], ids=["4K pages", "64K pages"])
def test_no_limit_is_none(tmp_path: Path, none: str) -> None:
    assert usage(laid(tmp_path, {"memory": {"memory.limit_in_bytes": none}}))["memory"]["limit"] is None


def test_a_kernel_without_the_recursive_count_tells_its_own(tmp_path: Path) -> None:
    old = {"blkio.throttle.io_service_bytes": V1["blkio"]["blkio.throttle.io_service_bytes"]}
    assert usage(laid(tmp_path, {"blkio": old}))["io"] == {"read_bytes": 1, "write_bytes": 1}


@pytest.mark.parametrize(("files", "count"), [(V1, 1), (V2, 2)], ids=["v1", "v2"])
def test_the_kills_of_the_oom_killer_are_counted(tmp_path: Path, files: dict[str, dict[str, str]], count: int) -> None:
    path = oom_file(laid(tmp_path, files))
    assert oom_kills(path) == count
    Path(path).unlink()
    with pytest.raises(OSError, match="No such file"):
        oom_kills(path)


def test_a_host_that_counts_no_kills_has_no_file_of_them(tmp_path: Path) -> None:
    assert oom_file(laid(tmp_path, {"pids": V1["pids"]})) == ""
    (tmp_path / "at-memory").mkdir()
    old = Cgroup({"memory": str(tmp_path / "at-memory")})
    (tmp_path / "at-memory" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert oom_kills(oom_file(old)) == 0
