"""The project's own Python files, parsed: for the tests that hold rooms, limits and words."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("shimproc", "actors")


@dataclass(frozen=True)
class Source:
    """One file."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    def __str__(self) -> str:
        return str(self.path.relative_to(CHECKOUT))


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target``, at this line; ``inside``: the function in which it does so."""

    source: Source
    target: str
    line: int
    inside: str | None

    def __str__(self) -> str:
        where = f" inside {self.inside}()" if self.inside else ""
        return f"{self.source}:{self.line} imports {self.target}{where}"


def sources(*tops: str) -> list[Source]:
    """Every Python file below these folders of the checkout."""
    found = []
    for top in tops:
        for path in sorted((CHECKOUT / top).rglob("*.py")):
            module = ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
            text = path.read_text(encoding="utf-8")
            found.append(Source(path, module, text, ast.parse(text)))
    return found


def imports(source: Source, modules: frozenset[str]) -> list[Import]:
    """What a file imports, as full module names where these are ours (``from package import module``)."""
    found: list[Import] = []
    for node, inside in _walk(source.tree, None):
        if isinstance(node, ast.Import):
            found += [Import(source, alias.name, node.lineno, inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append(Import(source, full if full in modules else str(node.module), node.lineno, inside))
    return found


def _walk(node: ast.AST, inside: str | None) -> Iterator[tuple[ast.AST, str | None]]:
    for child in ast.iter_child_nodes(node):
        yield child, inside
        deeper = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else inside
        yield from _walk(child, deeper)
