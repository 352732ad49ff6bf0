"""Checkpoint and restore by an OCI runtime, which has CRIU do it (criu(8), runc-checkpoint(8), runc-restore(8)).

CRIU's reasons are in its log alone; the runtime tells little more than the log's name. So an error here quotes the log's first
error lines and its last, but for those that only say that something has failed, and names it. The log is kept where
``work_path`` says, until the next one of its kind.

``criu_path`` works for each runtime that looks for ``criu`` on PATH: runc does (its ``--criu`` has no effect from 1.2 on), and
libcriu in crun.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from shimproc.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    ShimyardError,
    Unimplemented,
    Unknown,
    scarce,
)
from shimproc.messages import Checkpoint
from shimproc.runtimes.backend import Images
from shimproc.runtimes.told import read

DUMP_LOG: Final = "dump.log"
RESTORE_LOG: Final = "restore.log"
SUCCESS: Final = "Dumping finished successfully"
"""What CRIU says last of a dump that is whole; a line of it once all is on disk (cr-dump.c)."""
FLAGS: Final[Mapping[str, str]] = {
    "open_tcp": "--tcp-established",
    "external_unix_sockets": "--ext-unix-sk",
    "terminal": "--shell-job",
    "file_locks": "--file-locks",
}
"""Both to dump and to restore: what was put up with then has to be now."""
_QUOTED: Final = 2
_FOLLOWS: Final = ("rlimit: ", "failed with -1", "exited, status=", "FAILED.", "cgroupd: ")
"""In lines that are no cause."""
_KEPT: Final = 20
_ERROR: Final = "Error ("
_RESOURCES: Final = ("no space left", "disk quota exceeded", "cannot allocate memory")


def flags(options: Mapping[str, Any]) -> list[str]:
    """The runtime's flags for a record of options, as ``Checkpoint`` has them; what is missing is off."""
    args = [flag for name, flag in FLAGS.items() if options.get(name)]
    for namespace in options.get("empty_namespaces") or ():
        args += ["--empty-ns", str(namespace)]
    return args


def dump_args(request: Checkpoint) -> list[str]:
    """Of ``checkpoint``."""
    leave = [] if request.exit else ["--leave-running"]
    return ["--image-path", request.path, "--work-path", request.work_path, *leave, *flags(request.to_map())]


def make_work(folder: str, log: str) -> None:
    """A folder for CRIU's log, without that of before. ``FailedPrecondition`` or ``ResourceExhausted`` names it."""
    before = os.umask(0o077)  # for the folders above it, too
    try:
        os.makedirs(folder, 0o700, exist_ok=True)  # noqa: PTH103 - pathlib costs the shim memory
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{log}")  # noqa: PTH108 - see above
    except OSError as error:
        raise scarce(error, f"work_path: the folder {folder} for CRIU's log cannot be used") from error
    finally:
        os.umask(before)


def search_path(criu_path: str, folder: str, path: str) -> str:
    """PATH with a ``criu`` in front that is ``criu_path``, by a link in ``folder``. ``FailedPrecondition`` names the option."""
    if not os.access(criu_path, os.X_OK):
        raise FailedPrecondition(
            f"runtime.options.criu_path: {criu_path} is no program that can be run; install CRIU there, or leave it out"
        )
    own = f"{folder}/criu"
    try:
        os.makedirs(own, 0o700, exist_ok=True)  # noqa: PTH103 - pathlib costs the shim memory
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{own}/criu")  # noqa: PTH108 - see above
        os.symlink(criu_path, f"{own}/criu")  # noqa: PTH211 - see above
    except OSError as error:
        raise scarce(error, f"{own}/criu cannot be made") from error
    return f"{own}:{path}"


def whole(log: str) -> bool:
    """Does CRIU's log of a dump say that it is?"""
    return SUCCESS in read(log, 0)


def explained(error: ShimyardError, verb: str, log: str) -> ShimyardError:
    """A runtime's failure to checkpoint or restore, with CRIU's own reasons if it came so far."""
    told = errors_in(read(log, 0))
    if not told:
        return _before_criu(error, verb)
    causes = [line for line in told if not any(words in line for words in _FOLLOWS)] or told[-1:]
    details = {**error.details, "criu_log": log, "criu_error": causes[0], "criu_errors": told[-_KEPT:]}
    quoted = dict.fromkeys((line.partition("): ")[2] or line).rstrip(".") for line in (*causes[:_QUOTED], causes[-1]))
    message = f"CRIU cannot {verb} it: {'; '.join(quoted)}; its log: {log}"
    if any(word in line.lower() for line in told for word in _RESOURCES):
        return ResourceExhausted(f"{message}; make room there, or for memory", details)
    return FailedPrecondition(message, details)


def errors_in(log: str) -> list[str]:
    """The error lines of a log, without their times; the first of several that are the same."""
    found: dict[str, None] = {}
    for line in log.splitlines():
        if (at := line.find(_ERROR)) >= 0:
            found[line[at:].strip()] = None
    return list(found)


def _before_criu(error: ShimyardError, verb: str) -> ShimyardError:
    """CRIU has said nothing: it is missing, or the runtime does not know of it."""
    said = error.message.lower()
    if "criu" in said and any(words in said for words in ("not found", "no such file", "not executable")):
        return FailedPrecondition(
            f"CRIU is not on the PATH of the daemon: {error.message}; install it, or give runtime.options.criu_path",
            _without_kind(error),
        )
    if isinstance(error, Unimplemented):
        return Unimplemented(f"this runtime has no such option to {verb}: {error.message}; leave it out", error.details)
    if "unknown command" in said:
        return FailedPrecondition(
            f"this runtime was built without CRIU, so it cannot {verb}: {error.message}; take runc, or one built with it",
            _without_kind(error),
        )
    if isinstance(error, Unknown | InvalidArgument | PermissionDenied):
        return FailedPrecondition(f"cannot {verb} it: {error.message}", _without_kind(error))
    return error


def _without_kind(error: ShimyardError) -> dict[str, Any]:
    """It is CRIU that was not found, not the user's program."""
    return {name: value for name, value in error.details.items() if name != "kind"}


def restore_args(images: Images) -> list[str]:
    """Of ``restore``."""
    return ["--image-path", images.path, "--work-path", images.work_path, *flags(images.options)]
