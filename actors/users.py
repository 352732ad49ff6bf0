"""``USER[:GROUP]`` as an OCI user, by the passwd(5) and group(5) files of the container."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from shimproc.errors import InvalidArgument

_MOST: Final = 1 << 20
_SAFELY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def resolve_user(text: str, root: Path) -> Mapping[str, Any]:
    """``UID[:GID]``, or names of ``root``'s ``/etc/passwd`` and ``/etc/group``.

    Without a group it is the user's own there, with all that it belongs to; 0 for a uid that is not listed (as docker does).
    ``InvalidArgument`` for a name that is not there.
    """
    name, _, group = text.partition(":")
    people = _records(root, "passwd")
    person = next((fields for fields in people if len(fields) > 3 and name in (fields[0], fields[2])), None)
    if person is None and not name.isdecimal():
        raise InvalidArgument(f"{text!r}: no user {name!r} in {root / 'etc/passwd'}; name one, or write UID[:GID]")
    groups = [fields for fields in _records(root, "group") if len(fields) > 3]
    found: dict[str, Any] = {"uid": int(person[2] if person else name), "gid": int(person[3]) if person else 0}
    if group:
        named = next((fields[2] for fields in groups if group == fields[0]), group)
        if not named.isdecimal():
            raise InvalidArgument(f"{text!r}: no group {group!r} in {root / 'etc/group'}; name one, or write its number")
        found["gid"] = int(named)
    elif person:
        more = [int(fields[2]) for fields in groups if person[0] in fields[3].split(",")]
        found |= {"additionalGids": more} if more else {}
    return found


def _records(root: Path, name: str) -> list[list[str]]:
    """A file of the container's ``/etc``, split; none where it has no such file. No link is followed: it could lead out."""
    with contextlib.suppress(OSError):
        folder = os.open(root / "etc", os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = os.open(name, _SAFELY, dir_fd=folder)
        finally:
            os.close(folder)
        with os.fdopen(fd, "rb") as file:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return [line.split(":") for line in file.read(_MOST).decode(errors="replace").splitlines()]
    return []
