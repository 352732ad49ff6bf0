"""The eleven errors that cross a wire, and their two translations.

    ShimyardError ─┬─ Unknown            "unknown"              the cause could not be classified
                   ├─ InvalidArgument    "invalid_argument"     the request itself is wrong
                   ├─ NotFound           "not_found"            no such thing
                   ├─ AlreadyExists      "already_exists"       the id is taken
                   ├─ FailedPrecondition "failed_precondition"  not in this state, or not on this host
                   ├─ Unavailable        "unavailable"          try again: the other side is away
                   ├─ DeadlineExceeded   "deadline_exceeded"    the client's time has passed
                   ├─ PermissionDenied   "permission_denied"    this peer may not
                   ├─ ResourceExhausted  "resource_exhausted"   a bound is reached
                   ├─ Unimplemented      "unimplemented"        this daemon or runtime cannot
                   └─ Internal           "internal"             a fault of our own

The code stands on the class; ``to_map`` and ``from_map`` are the only places where one becomes the other.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, ClassVar, Final

MAX_MESSAGE = 4096
"""Characters of a message: it goes over the wire, and must not carry back all that a client has sent."""
_SHOWN = 80


class ShimyardError(Exception):
    """Root of everything that shimyard reports to whoever asked.

    Parameters
    ----------
    message : one sentence that names the field or thing at fault and, where there is one, the remedy; cut at ``MAX_MESSAGE``.
    details : a map of what a program may want to read (command, exit status, the tail of stderr).
    """

    code: ClassVar[str] = "unknown"

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        message = message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class Unknown(ShimyardError):
    """The cause could not be classified."""

    code = "unknown"


class InvalidArgument(ShimyardError):
    """The request itself is wrong, whatever the state of things."""

    code = "invalid_argument"


class NotFound(ShimyardError):
    """What was named does not exist, or is gone."""

    code = "not_found"


class AlreadyExists(ShimyardError):
    """What was to be made is already there."""

    code = "already_exists"


class FailedPrecondition(ShimyardError):
    """The state of the thing, or of this host, does not allow the request."""

    code = "failed_precondition"


class Unavailable(ShimyardError):
    """The other side cannot be reached now; the same request may succeed later."""

    code = "unavailable"


class DeadlineExceeded(ShimyardError):
    """The time that the client allowed has passed."""

    code = "deadline_exceeded"


class PermissionDenied(ShimyardError):
    """This peer may not do that."""

    code = "permission_denied"


class ResourceExhausted(ShimyardError):
    """A bound of the daemon or of the host is reached."""

    code = "resource_exhausted"


class Unimplemented(ShimyardError):
    """Not served by this daemon, this runtime or this version."""

    code = "unimplemented"


class Internal(ShimyardError):
    """A fault of shimyard's own; the daemon's log has the traceback."""

    code = "internal"


CLASSES: tuple[type[ShimyardError], ...] = (
    Unknown,
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Unavailable,
    DeadlineExceeded,
    PermissionDenied,
    ResourceExhausted,
    Unimplemented,
    Internal,
)
_BY_CODE = {cls.code: cls for cls in CLASSES}


def shown(value: object) -> str:
    """A value that a stranger has sent, as a message tells it: a few of its characters, or what kind of thing it is."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, (str, bytes)):
        return repr(value[:_SHOWN]) + ("…" if len(value) > _SHOWN else "")
    return repr(value)


_SCARCE: Final = {
    errno.ENOSPC: "free some space on its file system",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the unit, ulimit -n)",
    errno.ENFILE: "raise fs.file-max of the host",
    errno.EAGAIN: "raise the limit of processes (TasksMax= of the unit, pids.max, ulimit -u)",
    errno.ENOMEM: "free some memory, or raise its limit",
}
"""What the host has run out of, and what to do (errno(3)). EAGAIN only of what makes a process."""


def scarce(error: OSError, what: str, other: type[ShimyardError] = FailedPrecondition) -> ShimyardError:
    """An error of the host about ``what``: ``ResourceExhausted`` with the remedy where a bound is reached, else ``other``."""
    remedy = _SCARCE.get(error.errno or 0)
    if remedy is None:
        return other(f"{what}: {error.strerror}")
    return ResourceExhausted(f"{what}: {error.strerror}; {remedy}")


def to_map(error: BaseException) -> dict[str, Any]:
    """The wire form ``{code, message, details}`` of any exception; a foreign one is ``internal``, unless the host is at a
    bound."""
    if isinstance(error, OSError) and error.errno in _SCARCE and error.errno != errno.EAGAIN:
        error = scarce(error, str(error.filename or "the daemon or its shim"))
    if isinstance(error, ShimyardError):
        return {"code": error.code, "message": error.message, "details": error.details}
    return {"code": Internal.code, "message": f"{type(error).__name__}: {error}", "details": {}}


def from_map(error: Mapping[str, Any]) -> ShimyardError:
    """The exception that a wire form stands for; a code of a later version becomes ``Unknown``."""
    cls = _BY_CODE.get(str(error.get("code")), Unknown)
    return cls(str(error.get("message", "")), error.get("details") or {})
