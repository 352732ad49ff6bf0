"""The host's seccomp profile: which of its rules hold here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors import seccomp
from actors.specs import default_spec


def rule(name: str, **more: Any) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}} | more


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        rule("read"),
        rule("arch_prctl", includes={"arches": ["amd64"]}),
        rule("sync_file_range2", includes={"arches": ["ppc64le"]}),
        rule("chroot", includes={"caps": ["CAP_SYS_CHROOT"]}),
        rule("mount", includes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("bpf", excludes={"caps": ["CAP_SYS_ADMIN"]}, action="SCMP_ACT_ERRNO", errnoRet=1),
        rule("ptrace", includes={"minKernel": "4.8"}),
        rule("later", includes={"minKernel": "99.0"}),
        rule("elsewhere", excludes={"arches": ["amd64"]}),
        rule("personality", args=[{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]),
    ],
}


def names(capabilities: list[str], machine: str = "x86_64") -> list[str]:
    found = seccomp.translated(PROFILE, capabilities, machine, "6.1.0-44-amd64")
    assert found is not None
    return [name for one in found["syscalls"] for name in one["names"]]


def test_rules_of_other_machines_kernels_and_capabilities_are_left_out() -> None:
    assert names(["CAP_SYS_CHROOT"]) == ["read", "arch_prctl", "chroot", "bpf", "ptrace", "personality"]
    assert names(["CAP_SYS_ADMIN"]) == ["read", "arch_prctl", "mount", "ptrace", "personality"]


def test_what_a_rule_says_of_arguments_and_errors_is_kept_and_nothing_else() -> None:
    found = seccomp.translated(PROFILE, [], "x86_64", "6.1.0")
    assert found is not None
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    by_name = {one["names"][0]: one for one in found["syscalls"]}
    assert by_name["read"] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    assert by_name["bpf"] == {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    assert by_name["personality"]["args"] == [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]


def test_a_machine_that_the_profile_does_not_know_gets_none() -> None:
    assert seccomp.translated(PROFILE, [], "vax", "6.1.0") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"archMap": 5}'])
def test_what_is_no_profile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    (tmp_path / "good.json").write_text(json.dumps(PROFILE))
    monkeypatch.setattr(seccomp, "PROFILES", (tmp_path / "none.json", tmp_path / "bad.json"))
    assert seccomp.host_profile([]) is None
    monkeypatch.setattr(seccomp, "PROFILES", (tmp_path / "bad.json", tmp_path / "good.json"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert seccomp.host_profile([]) is not None


def test_the_default_spec_has_the_hosts_profile_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.specs.host_profile", lambda _: {"defaultAction": "SCMP_ACT_ERRNO"})
    assert default_spec(["true"])["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ERRNO"}
    monkeypatch.setattr("actors.specs.host_profile", lambda _: None)
    assert "seccomp" not in default_spec(["true"])["linux"]


def test_the_default_spec_gives_away_no_more_than_it_says() -> None:
    spec = default_spec(["true"])
    assert spec["process"]["noNewPrivileges"] is True
    assert not {"CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_MKNOD", "CAP_SYS_PTRACE"} & set(
        spec["process"]["capabilities"]["bounding"]
    )
    assert {"/proc/kcore", "/sys/firmware"} <= set(spec["linux"]["maskedPaths"])
    assert "/proc/sys" in spec["linux"]["readonlyPaths"]
    assert {one["type"] for one in spec["linux"]["namespaces"]} == {"pid", "network", "ipc", "uts", "mount"}
