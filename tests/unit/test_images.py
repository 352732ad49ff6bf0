"""A checkpoint's folder: made or empty, signed once whole, and left as it was after a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimproc import images
from shimproc.errors import FailedPrecondition, InvalidArgument


def test_a_folder_is_made_for_its_owner_alone_or_is_taken_empty(tmp_path: Path) -> None:
    new, empty = tmp_path / "new", tmp_path / "empty"
    empty.mkdir(mode=0o755)
    assert images.make_room(str(new))
    assert new.stat().st_mode & 0o777 == 0o700
    assert not images.make_room(str(empty))


def test_a_folder_with_anything_in_it_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    with pytest.raises(FailedPrecondition, match=r"^path: .* is not empty"):
        images.make_room(str(tmp_path))
    with pytest.raises(InvalidArgument, match=r"^path: "):
        images.make_room(str(tmp_path / "kept"))
    with pytest.raises(InvalidArgument, match=r"^path: the folder above"):
        images.make_room(str(tmp_path / "no" / "images"))
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("made", [True, False])
def test_a_failure_leaves_it_as_it_was(tmp_path: Path, *, made: bool) -> None:
    path = tmp_path / "images"
    path.mkdir()
    (path / "core-1.img").touch()
    (path / "parent").symlink_to("../before")
    images.clear(str(path), made=made)
    assert path.exists() is not made
    assert made or not list(path.iterdir())
    images.clear(str(path / "gone"), made=made)


def test_what_was_signed_is_read_and_what_is_not_ours_is_empty(tmp_path: Path) -> None:
    assert images.read(str(tmp_path)) == {}
    images.sign(str(tmp_path), {"options": {"open_tcp": True}})
    assert images.read(str(tmp_path)) == {"options": {"open_tcp": True}}
    (tmp_path / images.RECORD).write_text("[1]")
    assert images.read(str(tmp_path)) == {}
    (tmp_path / images.RECORD).write_text("{")
    assert images.read(str(tmp_path)) == {}


def test_only_a_whole_checkpoint_with_its_own_parent_is_restored(tmp_path: Path) -> None:
    path, parent, other = (tmp_path / name for name in ("images", "parent", "other"))
    for folder in (path, parent, other):
        folder.mkdir()
    with pytest.raises(InvalidArgument, match=r"checkpoint: .* has no inventory.img"):
        images.check(str(path), None, terminal=False)
    with pytest.raises(InvalidArgument, match=r"checkpoint: .* is no folder"):
        images.check(str(tmp_path / "no"), None, terminal=False)
    (path / images.INVENTORY).touch()
    images.check(str(path), None, terminal=False)
    with pytest.raises(InvalidArgument, match=r"^parent_checkpoint: "):
        images.check(str(path), str(parent), terminal=False)
    (path / images.PARENT).symlink_to("../parent")
    images.check(str(path), str(parent), terminal=False)
    with pytest.raises(InvalidArgument, match=r"^parent_checkpoint: "):
        images.check(str(path), str(other), terminal=False)
    images.sign(str(path), {"stdio": {"terminal": True}})
    images.check(str(path), None, terminal=True)
    with pytest.raises(InvalidArgument, match=r"^stdio.terminal: .* on a terminal"):
        images.check(str(path), None, terminal=False)
