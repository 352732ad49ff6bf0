"""The linter and the type checker find nothing: they are part of the one command that runs the tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.sources import CHECKOUT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of this Python, on the checkout."""
    return subprocess.run([sys.executable, "-m", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(120)
def test_ruff_finds_nothing() -> None:
    done = run("ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_mypy_finds_nothing() -> None:
    done = run("mypy", "--cache-dir=/dev/null")
    assert done.returncode == 0, done.stdout + done.stderr
