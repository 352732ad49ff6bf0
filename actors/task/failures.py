"""A runtime's failure in the words of whoever wrote the spec: which program it was that could not be run."""

from __future__ import annotations

from typing import Final

from actors.records import Map
from shimproc.errors import ShimyardError

_ABOUT_THE_PROGRAM: Final = ("not_found_executable", "not_executable")


def named(error: ShimyardError, program: str, field: str) -> ShimyardError:
    """The error with the program's name, where it is about that and does not tell it (crun's does not always)."""
    if error.details.get("kind") not in _ABOUT_THE_PROGRAM or program in error.message:
        return error
    return type(error)(f"{field}.args[0]: {program}: {error.message}", error.details)


def program_of(process: Map) -> str:
    """What an OCI process runs."""
    args = process.get("args") or [""]
    return str(args[0])
