"""A task's bundle: ``STATE/tasks/NAMESPACE/ID`` with config.json, rootfs/, and what its shim keeps there.

A bundle is removed by renaming it hidden first (no identifier begins with a dot), so that one half removed is never
taken for a task. A rootfs that is still mounted is unmounted, never walked.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shimproc import mounts
from shimproc.errors import AlreadyExists, FailedPrecondition, scarce

CONFIG = "config.json"
ROOTFS = "rootfs"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where one incarnation of a task lives."""

    path: Path

    @classmethod
    def of(cls, state: Path, namespace: str, task_id: str) -> Bundle:
        """The bundle of a task under the daemon's state folder."""
        return cls(state / "tasks" / namespace / task_id)

    @property
    def rootfs(self) -> Path:
        """Where the rootfs mounts go, in the shim's mount namespace."""
        return self.path / ROOTFS

    def make(self, spec: Mapping[str, Any], *, mounted: bool) -> None:
        """Write it. With ``mounted`` the spec's root.path becomes the bundle's rootfs.

        Raises ``AlreadyExists`` when the folder is there: it is never touched then.
        """
        config = with_root(spec, str(self.rootfs)) if mounted else spec
        try:
            for folder in (self.path.parent.parent, self.path.parent):
                folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._make_folder()
            try:
                self.rootfs.mkdir(mode=0o711)
                write_config(self.path / CONFIG, config)
            except BaseException:
                with contextlib.suppress(OSError, FailedPrecondition):  # the first failure is the one to tell
                    self.remove()
                raise
        except OSError as error:
            raise scarce(error, f"cannot make the bundle {self.path}") from error

    def _make_folder(self) -> None:
        try:
            self.path.mkdir(mode=0o711)
        except FileExistsError as error:
            raise AlreadyExists(f"the bundle {self.path} exists already") from error

    def remove(self) -> None:
        """Remove it, if it is there; whatever dies half-way leaves only a hidden folder (``sweep``). ``OSError`` or
        ``FailedPrecondition``: some of it is left, and the same call goes on with it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}"))
        for left in _hidden(self.path):  # those of a removal that was cut off, too
            _remove_hidden(left)
        with contextlib.suppress(OSError):  # the namespace's folder goes with its last bundle
            self.path.parent.rmdir()


def with_root(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    """``spec`` with another root.path; the rest of ``root`` stays."""
    return {**spec, "root": {**(spec.get("root") or {}), "path": path}}


def write_config(path: Path, spec: Mapping[str, Any]) -> None:
    """Write a config.json that only its owner reads: a spec's environment may hold secrets."""
    data = json.dumps(spec, separators=(",", ":")).encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as config:
        config.write(data)


def sweep(state: Path, known: set[Path]) -> None:
    """Remove hidden left-overs and bundles that no task is known for."""
    for folder in _folders(state / "tasks"):
        for path in _folders(folder):
            with contextlib.suppress(OSError, FailedPrecondition):  # what stays now is swept the next time
                if path.name.startswith("."):
                    _remove_hidden(path)
                elif path not in known:
                    Bundle(path).remove()
        with contextlib.suppress(OSError):
            folder.rmdir()


def strangers(state: Path, known: set[Path]) -> list[Path]:
    """Bundles that no task is known for."""
    return [
        path
        for folder in _folders(state / "tasks")
        for path in _folders(folder)
        if path not in known and not path.name.startswith(".")
    ]


def _folders(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from [entry for entry in path.iterdir() if entry.is_dir() and not entry.is_symlink()]


def _hidden(path: Path) -> list[Path]:
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - an error of it is one
    except FileNotFoundError:
        return []
    return [path.with_name(name) for name in names if name.startswith(f".{path.name}.")]


def _remove_hidden(path: Path) -> None:
    mounts.unmount_all(str(path / ROOTFS))
    shutil.rmtree(path)
