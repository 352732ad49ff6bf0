"""What a runtime's command has written into its files: log, stderr, and whether there was room for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shimproc.errors import scarce

_TAIL: Final = 1 << 16
"""A message may quote an argument of the spec, and those are long."""
_ROOM: Final = 4096


def size(path: str) -> int:
    """Of a file; 0 if it is not there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - pathlib costs the shim memory
    except FileNotFoundError:
        return 0


def read(path: str, offset: int) -> str:
    """What was written since, at most the last ``_TAIL`` bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        os.lseek(fd, max(offset, os.fstat(fd).st_size - _TAIL), os.SEEK_SET)
        return os.read(fd, _TAIL).decode(errors="replace")
    finally:
        os.close(fd)


def errors_in(log: str) -> Iterator[str]:
    """The messages of its error lines: ``{"level": "error", "msg": ..., "time": ...}``; warnings are no reason."""
    for line in log.splitlines():
        try:
            entry: Any = json.loads(line)
        except ValueError:  # cut off by the tail's begin, or no JSON
            continue
        if isinstance(entry, Mapping) and entry.get("level") in ("error", "fatal", "panic"):
            yield str(entry.get("msg", ""))


def try_to_write(path: str) -> None:
    """A runtime that failed and logged no reason may have had no room to. ``ResourceExhausted`` if so."""
    try:
        fd = os.open(f"{path}.room", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, bytes(_ROOM))
        finally:
            os.close(fd)
            os.unlink(f"{path}.room")  # noqa: PTH108 - pathlib costs the shim memory
    except OSError as error:
        raise scarce(error, f"{path} cannot be written") from error
