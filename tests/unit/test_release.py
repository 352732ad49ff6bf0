"""One version, and the same everywhere."""

from __future__ import annotations

from importlib.metadata import version

from actors.release import NAME, VERSION
from tests.support.sources import PACKAGES, sources


def test_the_version_is_that_of_the_installed_package() -> None:
    assert version(NAME) == VERSION


def test_no_request_waits_for_the_installed_metadata_to_be_read() -> None:
    """It takes milliseconds of the daemon's one loop, and after an upgrade it is another daemon's."""
    product = sources(*PACKAGES)
    assert not [source.module for source in product if "importlib.metadata" in source.path.read_text(encoding="utf-8")]
