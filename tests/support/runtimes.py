"""Which runtimes the tests run on: skipped with the probe's reason, or failed where ``SHIMYARD_REQUIRE`` asks.

``SHIMYARD_REQUIRE`` is a list with commas of runtimes, and ``criu`` for checkpoints by runc.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

import pytest

from shimproc.runtimes.probe import probe
from shimproc.runtimes.probe_criu import why_no_checkpoint

NAMES = ("crun", "runc", "process")
REQUIRE = "SHIMYARD_REQUIRE"
CRIU = "criu"


def built_with_criu(name: str) -> bool:
    """Does a runtime of this host know how to checkpoint?"""
    path = shutil.which(name)
    return path is not None and subprocess.run([path, "checkpoint", "--help"], capture_output=True, check=False).returncode == 0


CHECKPOINTING = ("runc", *(name for name in ("crun",) if built_with_criu(name)))
"""What tests of checkpoints run on: runc, and what else was built with CRIU."""


def need(name: str) -> str:
    """``name``, if this host can use that runtime."""
    found = probe(name)
    if not found.usable:
        _go_without(name, str(found.why))
    return name


def need_criu(name: str = "runc") -> str:
    """``name``, if this host can use it, and it can checkpoint; runc is what is demanded."""
    need(name)
    why = _why_no_checkpoint(name)
    if why is not None:
        _go_without(CRIU if name == "runc" else f"{CRIU} by {name}", why)
    return name


@functools.cache
def _why_no_checkpoint(name: str) -> str | None:
    return why_no_checkpoint(probe(name))


def _go_without(name: str, why: str) -> None:
    if name in os.environ.get(REQUIRE, "").split(","):
        pytest.fail(f"{REQUIRE} demands {name}, which this host cannot use: {why}")
    pytest.skip(f"{name}: {why}")
