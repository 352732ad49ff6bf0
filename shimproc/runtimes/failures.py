"""An OCI runtime's failure -> our error: by the phrases of crun and runc, in one table.

The message is the runtime's own last error line; ``details`` has its command, exit status and all that it logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shimproc.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, ShimyardError, Unknown


@dataclass(frozen=True, slots=True)
class Failure:
    """What the runtime was asked, and how it failed. ``logged``: its messages, the last one last."""

    verb: str
    command: str
    exit_status: int
    logged: list[str]


@dataclass(frozen=True, slots=True)
class Phrase:
    """If a message has all of ``words``, it is this error; ``kind`` where the user's program is at fault."""

    words: tuple[str, ...]
    error: type[ShimyardError]
    kind: str | None = None


PHRASES: Final = (
    Phrase(("executable file", "not found"), InvalidArgument, "not_found_executable"),
    Phrase(('exec: "', "no such file or directory"), InvalidArgument, "not_found_executable"),
    Phrase(("open executable", "No such file or directory"), InvalidArgument, "not_found_executable"),
    Phrase(('exec: "', "permission denied"), InvalidArgument, "not_executable"),
    Phrase(("open executable",), InvalidArgument, "not_executable"),
    Phrase(("exec format error",), InvalidArgument, "not_executable"),
    Phrase(("is a directory",), InvalidArgument, "not_executable"),
    Phrase(("namespace", "does not exist"), InvalidArgument),
    Phrase(("container", "does not exist"), NotFound),
    Phrase(("cannot open directory", "No such file or directory"), NotFound),
    Phrase(("error opening file", "status", "No such file or directory"), NotFound),
    Phrase(("not running",), FailedPrecondition),
    Phrase(("container that has stopped",), FailedPrecondition),
    Phrase(("is not in created state",), FailedPrecondition),
    Phrase(("cannot start an already running container",), FailedPrecondition),
    Phrase(("process already finished",), NotFound),
    Phrase(("No such process",), NotFound),
    Phrase(("already exists",), FailedPrecondition),
    Phrase(("hybrid mode not supported",), FailedPrecondition),
    Phrase(("operation not permitted",), PermissionDenied),
    Phrase(("Operation not permitted",), PermissionDenied),
    Phrase(("no such file or directory",), InvalidArgument),
    Phrase(("No such file or directory",), InvalidArgument),
    Phrase(("invalid",), InvalidArgument),
    Phrase(("Invalid argument",), InvalidArgument),
    Phrase(("unknown",), InvalidArgument),
    Phrase(("cannot parse",), InvalidArgument),
)


def explain(failure: Failure) -> ShimyardError:
    """The error to raise."""
    message = failure.logged[-1] if failure.logged else f"{failure.verb} ended with status {failure.exit_status}"
    details = {
        "command": failure.command,
        "exit_status": failure.exit_status,
        "stderr": "\n".join(failure.logged),
    }
    for phrase in PHRASES:
        if all(word in message for word in phrase.words):
            if phrase.kind is not None:
                details["kind"] = phrase.kind
            return phrase.error(message, details)
    return Unknown(message, details)
