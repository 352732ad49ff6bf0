"""``actors/API.md`` read as data: its table of methods and its error codes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.sources import CHECKOUT

API = (CHECKOUT / "actors/API.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| (`.*?) \| (N?) ?\| (.*) \|$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")
_KEY = re.compile(r"^(\w+)(\??)")


@dataclass(frozen=True)
class Documented:
    """A method as the contract has it. ``params`` is None where the table does not list them as a map of their own."""

    name: str
    namespaced: bool
    params: dict[str, bool] | None
    """Name -> is it required?"""


def methods() -> list[Documented]:
    """Every row of section 4; a row with ``/ .other`` is two methods."""
    section = API.partition("## 4. Methods")[2].partition("## 5.")[0]
    found: list[Documented] = []
    for names, namespaced, what in _ROW.findall(section):
        maps = _maps(what.partition("→")[0])
        for number, name in enumerate(_names(names)):
            own = maps[min(number, len(maps) - 1)] if maps else None
            if own is not None and "`containers.create`'s params" in what:
                own |= next(row.params or {} for row in found if row.name == "containers.create")
            found.append(Documented(name, namespaced == "N", own))
    return found


def error_codes() -> set[str]:
    """Every code that section 2 lists."""
    paragraph = API.partition("Error codes:")[2].partition("\n\n")[0]
    return set(_CODE.findall(paragraph.partition("An OCI runtime")[0]))


def _names(cell: str) -> list[str]:
    names: list[str] = []
    for name in _CODE.findall(cell):
        room = names[0].rpartition(".")[0] if names else ""
        names.append(room + name if name.startswith(".") else name)
    return names


def _maps(text: str) -> list[dict[str, bool]]:
    """The ``{a, b?: type}`` maps that stand in backquotes."""
    return [_params(code[1:-1]) for code in _CODE.findall(text) if code.startswith("{") and code.endswith("}")]


def _params(inner: str) -> dict[str, bool]:
    depth, part, parts = 0, "", []
    for character in inner + ",":
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    keys = [_KEY.match(one) for one in parts if one]
    return {key[1]: key[2] != "?" for key in keys if key}
