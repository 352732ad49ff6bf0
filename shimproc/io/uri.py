"""Where a process's streams may go (API.md, section 3), and the descriptors for that. Nothing here blocks."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from shimproc.errors import InvalidArgument, scarce, shown

_NULL: Final = ("null", "")
_ATTACH: Final = ("attach", "")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The managed log of a process: where, bytes after which it is rotated, how many files."""

    path: str
    max_size: int
    max_files: int


@dataclass(frozen=True, slots=True)
class Capture:
    """Keep the first ``limit`` bytes of stdout and of stderr, in ``folder``."""

    limit: int
    folder: str


def parse_uri(uri: str, field: str) -> tuple[str, str]:
    """(kind, path): null, attach, fifo, file, log or binary. ``InvalidArgument`` names ``field``."""
    if uri == "":
        return _NULL
    if uri == "attach:":
        return _ATTACH
    if uri == "log:" and not field.endswith("stdin"):
        return "log", ""
    if uri.startswith("binary:///") and not field.endswith("stdin") and "\0" not in uri:
        return "binary", uri
    scheme, separator, rest = uri.partition("://")
    kind, path = ("fifo", uri) if uri.startswith("/") or not separator else (scheme, rest)
    if kind not in ("fifo", "file") or not path.startswith("/") or "\0" in path:
        allowed = '"", an absolute path, fifo:///path, file:///path, attach:' + ("" if field.endswith("stdin") else ", log:, binary:///path?name=value")
        raise InvalidArgument(f"{field}: {shown(uri)} is none of {allowed}")
    return kind, path


def make_pipe(field: str) -> tuple[int, int]:
    """Reading and writing end. ``FailedPrecondition`` names ``field``."""
    try:
        return os.pipe2(os.O_CLOEXEC)
    except OSError as error:
        raise scarce(error, f"{field}: no pipe") from error


def open_file(path: str, flags: int, field: str) -> int:
    """A file, never waiting for the other side of a named pipe, which is refused here."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise scarce(error, f"{field}: cannot open {path}", InvalidArgument) from error
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArgument(f"{field}: {path} is a named pipe; write fifo://{path}")
    os.set_blocking(fd, True)  # the process expects it so
    return fd
