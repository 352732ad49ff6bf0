"""An OCI runtime's failure -> our error: by the phrases of crun and runc, in one table.

The message is the runtime's own last error line; ``details`` has its command, exit status and stderr's tail. The first
phrase that fits decides, so what is particular stands above what is general. The tests provoke crun 1.8.1 and runc
1.1.5 into telling them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shimproc.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ShimyardError,
    Unimplemented,
    Unknown,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What the runtime was asked, and how it failed.

    ``logged``: the errors of its ``--log``; ``stderr``: the tail of what it wrote there; the last line last in both.
    """

    verb: str
    command: str
    exit_status: int
    logged: tuple[str, ...]
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """If a message has all of ``words``, in any case, it is this error; ``kind``: the user's program is at fault."""

    words: tuple[str, ...]
    error: type[ShimyardError]
    kind: str | None = None


NOT_FOUND: Final = "not_found_executable"
NOT_EXECUTABLE: Final = "not_executable"
PHRASES: Final = (
    # The user's program.
    Phrase(("executable file", "not found"), InvalidArgument, NOT_FOUND),
    Phrase(('exec: "', "no such file or directory"), InvalidArgument, NOT_FOUND),
    Phrase(("open executable", "no such file or directory"), InvalidArgument, NOT_FOUND),
    Phrase(("open executable",), InvalidArgument, NOT_EXECUTABLE),
    Phrase(('exec: "',), InvalidArgument, NOT_EXECUTABLE),
    Phrase(("exec format error",), InvalidArgument, NOT_EXECUTABLE),
    # The container, and its state.
    Phrase(("namespace", "does not exist"), InvalidArgument),
    Phrase(("container", "does not exist"), NotFound),
    Phrase(("cannot open directory", "no such file or directory"), NotFound),
    Phrase(("error opening file", "/status`", "no such file or directory"), NotFound),
    Phrase(("already exists",), FailedPrecondition),
    Phrase(("not running",), FailedPrecondition),
    Phrase(("container that has stopped",), FailedPrecondition),
    Phrase(("cannot start an already running container",), FailedPrecondition),
    Phrase(("exec.fifo", "no such file or directory"), FailedPrecondition),
    Phrase(("is not in `created` or `stopped` state",), FailedPrecondition),
    Phrase(("that is not stopped",), FailedPrecondition),
    Phrase(("process already finished",), FailedPrecondition),
    Phrase(("no such process",), FailedPrecondition),
    # The host.
    Phrase(("hybrid mode not supported",), FailedPrecondition),
    Phrase(("invalid file system type on", "cgroup"), FailedPrecondition),
    Phrase(("no cgroup mount found",), FailedPrecondition),
    Phrase(("apparmor",), FailedPrecondition),
    Phrase(("selinux",), FailedPrecondition),
    Phrase(("/proc/self/attr/",), FailedPrecondition),
    Phrase(("executing hook",), FailedPrecondition),
    Phrase(("running hook",), FailedPrecondition),
    Phrase(("console",), FailedPrecondition),
    Phrase(("unrecognized option",), Unimplemented),
    Phrase(("flag provided but not defined",), Unimplemented),
    Phrase(("no space left",), ResourceExhausted),
    Phrase(("disk quota exceeded",), ResourceExhausted),
    Phrase(("too many open files",), ResourceExhausted),
    Phrase(("cannot allocate memory",), ResourceExhausted),
    Phrase(("resource temporarily unavailable",), ResourceExhausted),
    # The spec.
    Phrase(("memory limit could be too low",), InvalidArgument),
    Phrase(("unable to set memory limit",), InvalidArgument),
    Phrase(("error loading config.json",), InvalidArgument),
    Phrase(("cannot unmarshal",), InvalidArgument),
    Phrase(("config.json not found",), InvalidArgument),
    Phrase(("must be",), InvalidArgument),
    Phrase(("must not be",), InvalidArgument),
    Phrase(("uts namespace",), InvalidArgument),
    Phrase(("sysctl",), InvalidArgument),
    Phrase(("rlimit",), InvalidArgument),
    Phrase(("seccomp",), InvalidArgument),
    Phrase(("invalid",), InvalidArgument),
    Phrase(("unknown",), InvalidArgument),
    Phrase(("numerical result out of range",), InvalidArgument),
    # What a system call said of something that the spec names.
    Phrase(("operation not permitted",), PermissionDenied),
    Phrase(("permission denied",), PermissionDenied),
    Phrase(("read-only file system",), PermissionDenied),
    Phrase(("no such file or directory",), InvalidArgument),
    Phrase(("no such device",), InvalidArgument),
    Phrase(("not a directory",), InvalidArgument),
)


def explain(failure: Failure) -> ShimyardError:
    """The error to raise."""
    told = failure.logged or tuple(line for line in failure.stderr.splitlines() if line.strip())
    message = told[-1] if told else f"{failure.verb} ended with status {failure.exit_status} and logged no reason"
    details = {
        "command": failure.command,
        "exit_status": failure.exit_status,
        "stderr": failure.stderr or "\n".join(failure.logged),
    }
    phrase = _phrase_in("\n".join(told).lower() if not failure.logged else message.lower())
    if phrase is None:
        return Unknown(message, details)
    if phrase.kind is not None:
        details["kind"] = phrase.kind
    missing = phrase.error is NotFound and failure.verb == "create"  # nothing was there to be found: the spec names it
    return (InvalidArgument if missing else phrase.error)(message, details)


def _phrase_in(message: str) -> Phrase | None:
    return next((phrase for phrase in PHRASES if all(word in message for word in phrase.words)), None)
