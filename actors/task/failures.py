"""A runtime's failure in the words of whoever wrote the spec: which program it was that could not be run."""

from __future__ import annotations

from typing import Final

from actors.records import Map
from shimproc.errors import ShimyardError

_ABOUT_THE_PROGRAM: Final = ("not_found_executable", "not_executable")


def named(error: ShimyardError, spec: Map) -> ShimyardError:
    """The error with the program's name, where it is about that and does not tell it (crun's does not always)."""
    args = (spec.get("process") or {}).get("args") or [""]
    if error.details.get("kind") not in _ABOUT_THE_PROGRAM or args[0] in error.message:
        return error
    return type(error)(f"spec.process.args[0]: {args[0]}: {error.message}", error.details)
