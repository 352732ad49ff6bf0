"""The daemon's folders are its own: not somebody else's, not behind somebody else's link, whatever the umask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import folders, locations
from shimproc.errors import FailedPrecondition

FOREIGN = 65534


@pytest.fixture(params=[0o000, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """The widest, and the narrowest."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """Its permissions."""
    return path.stat().st_mode & 0o7777


@pytest.mark.usefixtures("umask")
def test_a_folder_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    folders.prepare(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o711


def test_one_that_is_too_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    folders.prepare(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o711


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", FOREIGN, FOREIGN)
    with pytest.raises(FailedPrecondition, match=f"uid {FOREIGN}.*--state"):
        folders.prepare(tmp_path / "state")


def test_somebody_elses_link_to_a_folder_of_ours_is_refused_and_the_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to("private")
    os.chown(tmp_path / "state", FOREIGN, FOREIGN, follow_symlinks=False)
    with pytest.raises(FailedPrecondition, match=f"uid {FOREIGN}"):
        folders.prepare(tmp_path / "state")
    assert mode(tmp_path / "private") == 0o700


def test_a_link_of_our_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "state").symlink_to("there")
    folders.prepare(tmp_path / "state")
    assert mode(tmp_path / "there") == 0o711


def test_a_link_that_leads_nowhere_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to("nowhere")
    with pytest.raises(FailedPrecondition, match="cannot use"):
        folders.prepare(tmp_path / "state")
    assert not (tmp_path / "nowhere").exists()


def test_a_default_folder_where_anyone_may_write_is_claimed_before_it_is_used(tmp_path: Path) -> None:
    assert locations.claimed(tmp_path / "ours") == locations.claimed(tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", FOREIGN, FOREIGN)
    (tmp_path / "link").symlink_to("ours")
    for name in ("theirs", "link"):
        with pytest.raises(FailedPrecondition, match="SHIMYARD_STATE"):
            locations.claimed(tmp_path / name)
