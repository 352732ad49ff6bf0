"""The simulation as a test: 2,000 seeds on all cores, those that once found something, and exact replay."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.simulation.kept import KEPT
from tests.support.sources import CHECKOUT


def simulate(*arguments: str) -> str:
    """What it prints; the test fails where it finds something."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5000:]
    return done.stdout


@pytest.mark.timeout(300)
def test_two_thousand_seeds_find_nothing() -> None:
    assert re.search(r"^2000 seeds in .* failed: none$", simulate("--seeds", "1-2000"), re.MULTILINE)


@pytest.mark.parametrize("seed", KEPT)
def test_what_a_seed_once_found_is_not_there_any_more(seed: int) -> None:
    simulate("--seed", str(seed))


def test_a_seed_is_replayed_byte_for_byte() -> None:
    traces = [simulate("--seed", "88", "-v") for _ in range(2)]
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 200
