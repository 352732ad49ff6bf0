"""A checkpoint as a folder: CRIU's images, and beside them ``shimyard.json``, our own word that it is whole, and how it was made.

A folder is made for a checkpoint, or is empty; one that has failed leaves it as it was. A checkpoint that something else has
made (``runc checkpoint``, Podman's unpacked) lacks our word, and is taken as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from shimproc.errors import FailedPrecondition, InvalidArgument, scarce

INVENTORY: Final = "inventory.img"
"""What CRIU writes last, and reads first."""
PARENT: Final = "parent"
"""CRIU's link to the images that these are a difference to."""
RECORD: Final = "shimyard.json"


def make_room(path: str) -> bool:
    """An empty folder for a checkpoint; was it made now? ``InvalidArgument`` or ``FailedPrecondition`` names ``path``."""
    try:
        os.mkdir(path, 0o700)  # noqa: PTH102 - pathlib costs the shim memory
    except FileExistsError:
        _check_empty(path)
        return False
    except FileNotFoundError as error:
        raise InvalidArgument(f"path: the folder above {path} is not there; make it first") from error
    except OSError as error:
        raise scarce(error, f"path: cannot make the folder {path}", InvalidArgument) from error
    return True


def _check_empty(path: str) -> None:
    try:
        names = os.listdir(path)  # noqa: PTH208 - pathlib costs the shim memory
    except OSError as error:
        raise scarce(error, f"path: {path} is no folder for a checkpoint", InvalidArgument) from error
    if names:
        raise FailedPrecondition(f"path: {path} is not empty; name an empty folder, or one that is not there yet")


def clear(path: str, *, made: bool) -> None:
    """What a failed checkpoint has written, and with ``made`` the folder. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path):  # noqa: PTH208 - pathlib costs the shim memory
            with contextlib.suppress(OSError):
                os.unlink(f"{path}/{name}")  # noqa: PTH108 - see above
        if made:
            os.rmdir(path)  # noqa: PTH106 - see above


def sign(path: str, record: Mapping[str, Any]) -> None:
    """It is whole. ``ResourceExhausted``: no room for that."""
    try:
        fd = os.open(f"{path}/{RECORD}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(record, file)
    except OSError as error:
        raise scarce(error, f"path: {path}/{RECORD} cannot be written") from error


def read(path: str) -> dict[str, Any]:
    """What ``sign`` wrote; empty for a checkpoint that is not ours."""
    try:
        with open(f"{path}/{RECORD}", "rb") as file:  # noqa: PTH123 - see above
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def are_there(path: str) -> bool:
    """Are there CRIU's images, as far as can be told by the one that it writes last?"""
    return os.path.isfile(f"{path}/{INVENTORY}")  # noqa: PTH113 - pathlib costs the shim memory


def check(path: str, parent: str | None, *, terminal: bool) -> None:
    """Can a task be restored from it, as far as can be told without CRIU? ``InvalidArgument`` names the field."""
    if not are_there(path):
        what = f"has no {INVENTORY}: it is no checkpoint, or not a whole one" if os.path.isdir(path) else "is no folder"  # noqa: PTH112
        raise InvalidArgument(f"checkpoint: {path} {what}; name the path that was given to tasks.checkpoint")
    if parent is not None and not _is_parent(path, parent):
        raise InvalidArgument(
            f"parent_checkpoint: {parent} is not what {path}/{PARENT} points to; leave it out, CRIU finds it by that link"
        )
    had = read(path).get("stdio", {}).get("terminal")
    if had is not None and had != terminal:
        raise InvalidArgument(
            f"stdio.terminal: the checkpointed task was {'on' if had else 'not on'} a terminal; make spec.process.terminal and "
            f"stdio.terminal {'true' if had else 'false'}"
        )


def _is_parent(path: str, parent: str) -> bool:
    try:
        return os.path.samefile(f"{path}/{PARENT}", parent)  # noqa: PTH121 - pathlib costs the shim memory
    except OSError:
        return False
