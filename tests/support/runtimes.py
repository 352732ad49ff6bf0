"""Which runtimes the tests run on: skipped with the probe's reason, or failed where ``SHIMYARD_REQUIRE`` asks."""

from __future__ import annotations

import os

import pytest

from shimproc.runtimes.probe import probe

NAMES = ("crun", "runc", "process")
REQUIRE = "SHIMYARD_REQUIRE"


def need(name: str) -> str:
    """``name``, if this host can use that runtime."""
    found = probe(name)
    if not found.usable:
        if name in os.environ.get(REQUIRE, "").split(","):
            pytest.fail(f"{REQUIRE} demands {name}, which this host cannot use: {found.why}")
        pytest.skip(f"{name}: {found.why}")
    return name
