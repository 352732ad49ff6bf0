"""The host's seccomp profile (seccomp.json(5) of containers-common), made into what an OCI spec has (runtime-spec, "Seccomp").

The profile's rules may hold only for some machines, kernels or capabilities; a spec's hold as they stand, so it is decided here.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

PROFILES: Final = (Path("/etc/containers/seccomp.json"), Path("/usr/share/containers/seccomp.json"))
"""The host's own, else its distribution's (containers.conf(5), seccomp_profile)."""
_ARCHES: Final = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
_KEPT: Final = ("args", "errnoRet")


def host_profile(capabilities: Collection[str]) -> dict[str, Any] | None:
    """The ``linux.seccomp`` for a container with these; None where the host has no profile, or one that is not understood."""
    for path in PROFILES:
        try:
            return translated(json.loads(path.read_bytes()), capabilities, platform.machine(), platform.release())
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def translated(
    profile: Mapping[str, Any], capabilities: Collection[str], machine: str, release: str
) -> dict[str, Any] | None:
    """As for ``host_profile``; None for a machine that no profile knows. Raises ``KeyError`` or ``TypeError`` for no profile."""
    if machine not in _ARCHES:
        return None
    arch, name = _ARCHES[machine]
    below = next((row["subArchitectures"] or [] for row in profile["archMap"] if row["architecture"] == name), [])
    found: dict[str, Any] = {"defaultAction": profile["defaultAction"], "architectures": [name, *below]}
    if profile.get("defaultErrnoRet") is not None:
        found["defaultErrnoRet"] = profile["defaultErrnoRet"]
    host = (arch, set(capabilities), _numbers(release))
    found["syscalls"] = [_rule(rule) for rule in profile["syscalls"] if _holds(rule, host)]
    return found


def _holds(rule: Mapping[str, Any], host: tuple[str, set[str], tuple[int, ...]]) -> bool:
    arch, capabilities, kernel = host
    only, never = rule.get("includes") or {}, rule.get("excludes") or {}
    if only.get("arches") and arch not in only["arches"]:
        return False
    if not capabilities.issuperset(only.get("caps") or ()):
        return False
    if only.get("minKernel") and kernel < _numbers(only["minKernel"]):
        return False
    if never.get("minKernel") and kernel >= _numbers(never["minKernel"]):
        return False
    return arch not in (never.get("arches") or ()) and capabilities.isdisjoint(never.get("caps") or ())


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {"names": rule["names"], "action": rule["action"]} | {name: rule[name] for name in _KEPT if rule.get(name)}


def _numbers(release: str) -> tuple[int, ...]:
    """``6.1.0-44-amd64`` -> (6, 1)."""
    return tuple(int(part) for part in release.split("-", maxsplit=1)[0].split(".")[:2])
