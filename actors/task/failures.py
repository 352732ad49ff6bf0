"""A runtime's failure in the words of whoever wrote the spec: which program it was that could not be run."""

from __future__ import annotations

from typing import Final

from actors.records import Exit, Map
from actors.task.events import START_FAILED
from shimproc.errors import InvalidArgument, ShimyardError

_ABOUT_THE_PROGRAM: Final = ("not_found_executable", "not_executable")
NOT_FOUND_STATUS: Final = 127


def named(error: ShimyardError, program: str, field: str) -> ShimyardError:
    """The error with the program's name, where it is about that and does not tell it (crun's does not always)."""
    if error.details.get("kind") not in _ABOUT_THE_PROGRAM or program in error.message:
        return error
    return type(error)(f"{field}.args[0]: {program}: {error.message}", error.details)


def failed_start(ended: Exit | None, program: str, field: str) -> ShimyardError | None:
    """How a start failed of which only the shim's event is left, not the runtime's own words. None: it did not fail."""
    if ended is None or ended.reason != START_FAILED:
        return None
    kind = _ABOUT_THE_PROGRAM[ended.exit_status != NOT_FOUND_STATUS]
    what = "cannot be executed" if kind == _ABOUT_THE_PROGRAM[1] else "is not there"
    return InvalidArgument(f"{field}.args[0]: {program}: it could not be started, as it {what}", {"kind": kind})


def program_of(process: Map) -> str:
    """What an OCI process runs."""
    args = process.get("args") or [""]
    return str(args[0])
