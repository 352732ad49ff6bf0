"""What ``shimyard doctor`` finds of cgroups and metrics, on hosts that this one is not."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import pytest

from actors.cli import doctor
from shimproc.cgroups import Hierarchy


def found_with(monkeypatch: pytest.MonkeyPatch, folder: Path, v1: str, v2: str | None) -> doctor.Finding:
    """On a host with these controllers; no v2 is None."""
    hierarchies: Mapping[str, Hierarchy] = {name: Hierarchy("/", str(folder)) for name in v1.split()}
    if v2 is not None:
        (folder / "cgroup.controllers").write_text(f"{v2}\n")
        hierarchies = {**hierarchies, "": Hierarchy("/", str(folder))}
    monkeypatch.setattr(doctor, "hierarchies", lambda: hierarchies)
    return doctor._cgroups()


@pytest.mark.parametrize(
    ("v1", "v2", "told", "ok"),
    [
        ("memory cpu pids name=systemd", None, "version 1: cpu memory pids", True),
        ("", "cpuset cpu io memory pids", "version 2: cpu cpuset io memory pids", True),
        ("memory cpu", "pids", "version 1: cpu memory; version 2: pids", True),
        ("memory cpu pids", "", "version 1: cpu memory pids", True),
        ("", "cpu pids", "version 2: cpu pids", None),
        ("", "", "version 2: no controllers", None),
        ("", None, "none", None),
    ],
)
def test_the_version_and_controllers_of_cgroups_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, v1: str, v2: str | None, told: str, ok: bool | None
) -> None:
    finding = found_with(monkeypatch, tmp_path, v1, v2)
    assert (finding.told, finding.ok) == (told, ok)
    assert bool(finding.remedy) is not bool(ok)


def test_a_controller_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "without memory there are no such limits" in found_with(monkeypatch, tmp_path, "", "cpu pids").remedy


@pytest.mark.parametrize(
    ("address", "library", "ok", "word"),
    [
        ("", True, None, "set metrics.address"),
        ("127.0.0.1:9187", True, True, ""),
        ("", False, None, "pip install 'shimyard[metrics]'"),
        ("127.0.0.1:9187", False, False, "pip install 'shimyard[metrics]'"),
    ],
)
def test_whether_metrics_can_be_served_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, library: bool, ok: bool | None, word: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[metrics]\naddress = "{address}"\n')
    monkeypatch.setenv("SHIMYARD_CONFIG", str(config))
    monkeypatch.setattr(doctor, "find_spec", lambda _: object() if library else None)
    finding = doctor._metrics(Namespace(state=str(tmp_path), address=None))
    assert finding.ok is ok
    assert word in finding.remedy
    assert bool(finding.remedy) is not bool(ok)
