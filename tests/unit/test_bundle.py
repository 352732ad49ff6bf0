from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.bundle import Bundle, sweep, with_root, write_config
from shimproc.errors import AlreadyExists, FailedPrecondition
from shimproc.mounts import mount_all, private_namespace
from tests.support.shims import Surroundings, in_shim
from tests.support.specs import spec

SPEC: dict[str, Any] = spec(["sh", "-c", "echo \u00e9"])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.of(tmp_path, "space", "web")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def config(bundle: Bundle) -> Any:
    return json.loads((bundle.path / "config.json").read_text())


def tree(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Inside, a file takes no more than 16 bytes; a write beyond is an error (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_bundle_lies_in_its_namespace_under_the_state_folder() -> None:
    bundle = Bundle.of(Path("/state"), "space", "web")
    assert bundle.path == Path("/state/tasks/space/web")
    assert bundle.rootfs == Path("/state/tasks/space/web/rootfs")


def test_a_bundle_has_the_spec_as_it_came_and_an_empty_rootfs(bundle: Bundle) -> None:
    bundle.make(SPEC, mounted=False)
    assert tree(bundle.path) == ["config.json", "rootfs"]
    assert config(bundle) == SPEC


def test_with_mounts_the_bundles_rootfs_is_the_root(bundle: Bundle) -> None:
    bundle.make({**SPEC, "root": {"path": "elsewhere", "readonly": True}}, mounted=True)
    assert config(bundle) == {**SPEC, "root": {"path": str(bundle.rootfs), "readonly": True}}


@pytest.mark.parametrize("root", [{}, {"root": None}, {"root": {"path": "/old"}}])
def test_another_root_leaves_the_given_spec_as_it_is(root: dict[str, Any]) -> None:
    before = {"ociVersion": "1.0.2", **root}
    given = {**before}
    assert with_root(given, "/new") == {"ociVersion": "1.0.2", "root": {"path": "/new"}}
    assert given == before


def test_only_the_owner_reads_the_config_and_others_walk_through(bundle: Bundle) -> None:
    former = os.umask(0)
    try:
        bundle.make(SPEC, mounted=False)
    finally:
        os.umask(former)
    assert mode(bundle.path / "config.json") == 0o600
    assert [mode(path) for path in (bundle.path.parent, bundle.path, bundle.rootfs)] == [0o711] * 3


def test_a_config_is_never_written_over_another(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_config(path, {"a": 1})
    with pytest.raises(FileExistsError):
        write_config(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_config_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        write_config(tmp_path / "config.json", {})
    assert not (tmp_path / "target").exists()


def test_a_bundle_that_is_there_is_never_touched(bundle: Bundle) -> None:
    bundle.make(SPEC, mounted=False)
    (bundle.rootfs / "kept").touch()
    with pytest.raises(AlreadyExists, match=f"the bundle {bundle.path} exists already"):
        bundle.make({"other": True}, mounted=True)
    assert config(bundle) == SPEC
    assert (bundle.rootfs / "kept").exists()


def test_two_bundles_of_one_id_lie_in_two_namespaces(tmp_path: Path) -> None:
    for namespace in ("a", "b"):
        Bundle.of(tmp_path, namespace, "web").make({"in": namespace}, mounted=False)
    assert [config(Bundle.of(tmp_path, namespace, "web"))["in"] for namespace in ("a", "b")] == ["a", "b"]


def test_a_bundle_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"cannot make the bundle .*: File name too long"):
        Bundle.of(tmp_path, "n" * 300, "web").make(SPEC, mounted=False)


def test_a_namespaces_folder_that_is_a_file_is_no_bundle_that_exists(bundle: Bundle) -> None:
    bundle.path.parent.parent.mkdir()
    bundle.path.parent.touch()
    with pytest.raises(FailedPrecondition, match=f"cannot make the bundle {bundle.path}: "):
        bundle.make(SPEC, mounted=False)


def test_a_bundle_whose_config_cannot_be_written_leaves_nothing(bundle: Bundle) -> None:
    with no_room(), pytest.raises(FailedPrecondition, match=f"cannot make the bundle {bundle.path}: File too large"):
        bundle.make(SPEC, mounted=False)
    assert not bundle.path.exists()


def test_an_id_whose_bundle_could_not_be_written_can_be_used_again(bundle: Bundle) -> None:
    with no_room(), contextlib.suppress(FailedPrecondition, OSError):
        bundle.make(SPEC, mounted=False)
    bundle.make(SPEC, mounted=False)
    assert config(bundle) == SPEC


def test_a_removed_bundle_leaves_nothing_and_its_id_can_be_used_again(bundle: Bundle, tmp_path: Path) -> None:
    bundle.make(SPEC, mounted=False)
    (bundle.rootfs / "deep/deeper").mkdir(parents=True)
    (bundle.path / "shim.log").write_text("x")
    os.mkfifo(bundle.path / "pipe")
    bundle.remove()
    assert tree(tmp_path) == ["tasks"]
    bundle.make(SPEC, mounted=False)
    assert config(bundle) == SPEC


def test_the_namespaces_folder_stays_for_its_other_bundles(bundle: Bundle) -> None:
    other = Bundle(bundle.path.with_name("other"))
    bundle.make(SPEC, mounted=False)
    other.make(SPEC, mounted=False)
    bundle.remove()
    assert config(other) == SPEC
    other.remove()
    assert not bundle.path.parent.exists()


def test_removing_what_is_not_there_does_nothing(bundle: Bundle, tmp_path: Path) -> None:
    bundle.remove()
    bundle.make(SPEC, mounted=False)
    bundle.remove()
    bundle.remove()
    assert tree(tmp_path) == ["tasks"]


def test_a_link_in_a_rootfs_is_removed_and_not_followed(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    bundle.make(SPEC, mounted=False)
    (bundle.rootfs / "link").symlink_to(outside)
    bundle.remove()
    assert tree(tmp_path) == ["outside", "outside/kept", "tasks"]


def test_a_bundle_is_removed_though_a_former_removal_was_not_finished(bundle: Bundle, tmp_path: Path) -> None:
    bundle.make(SPEC, mounted=False)
    hidden = bundle.path.with_name(f".web.{os.getpid()}")
    (hidden / "rootfs").mkdir(parents=True)
    bundle.remove()
    assert not bundle.path.exists()
    sweep(tmp_path, set())
    assert tree(tmp_path) == ["tasks"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("by", ["remove", "sweep"])
def test_a_rootfs_that_is_still_mounted_is_unmounted_and_not_emptied(bundle: Bundle, tmp_path: Path, by: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()

    def deed(_: Surroundings) -> bool:
        assert private_namespace()
        bundle.make(SPEC, mounted=True)
        mount_all([{"type": "bind", "source": str(outside), "options": []}], str(bundle.rootfs))
        there = (bundle.rootfs / "kept").exists()
        if by == "remove":
            bundle.remove()
        else:
            sweep(tmp_path, set())
        return there

    assert in_shim(deed)
    assert tree(tmp_path) == ["outside", "outside/kept", "tasks"]


def test_a_sweep_removes_what_no_task_is_known_for_and_what_is_half_removed(bundle: Bundle, tmp_path: Path) -> None:
    others = [Bundle.of(tmp_path, namespace, name) for namespace, name in (("space", "lost"), ("lonely", "lost"))]
    for one in (bundle, *others):
        one.make(SPEC, mounted=False)
    (bundle.path.with_name(".gone.7") / "rootfs/etc").mkdir(parents=True)
    sweep(tmp_path, {bundle.path})
    assert tree(tmp_path / "tasks") == ["space", "space/web", "space/web/config.json", "space/web/rootfs"]
    assert config(bundle) == SPEC


def test_a_sweep_goes_through_no_link_and_takes_no_file(bundle: Bundle, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept/rootfs").mkdir(parents=True)
    bundle.path.parent.mkdir(parents=True)
    (bundle.path.parent / "link").symlink_to(outside)
    (tmp_path / "tasks/link").symlink_to(outside)
    (bundle.path.parent / "file").touch()
    sweep(tmp_path, set())
    assert tree(tmp_path) == ["outside", "outside/kept", "outside/kept/rootfs", "tasks", "tasks/link", *_in_space("file", "link")]


def test_a_sweep_of_a_state_folder_without_tasks_does_nothing(tmp_path: Path) -> None:
    sweep(tmp_path, set())
    assert tree(tmp_path) == []


def _in_space(*names: str) -> list[str]:
    return ["tasks/space", *(f"tasks/space/{name}" for name in names)]
