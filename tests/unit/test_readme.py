"""What README.md says is so: its made parts, its commands, its links, its folders."""

from __future__ import annotations

import re

import pytest

from tests.support.readme import PARTS, README, block, command
from tests.support.sources import CHECKOUT, PACKAGES, sources

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PARTS)
def test_a_made_part_is_as_the_code_has_it(name: str) -> None:
    assert block(TEXT, name) == PARTS[name](), "run: python -m tests.support.readme"


@pytest.mark.parametrize("name", ["run-command", "test-command"])
def test_a_command_is_one_line_that_begins_on_a_fresh_machine(name: str) -> None:
    found = command(TEXT, name)
    assert "\n" not in found
    assert found.startswith("python3 -m venv .venv && ")


def test_every_link_within_the_tree_leads_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT) if "://" not in target]
    assert targets
    assert not [target for target in targets if not (CHECKOUT / target).exists()]


def test_the_tree_names_every_module() -> None:
    shown = block(TEXT, "tree")
    names = {source.path.name for source in sources(*PACKAGES)} - {"__init__.py", "__main__.py"}
    assert not {name for name in names if name.removesuffix(".py") not in shown}
