"""The house limits: sizes that keep a file readable at one sitting, and a few things that are never done."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.sources import CHECKOUT, Source, sources

FILE_LINES, CLASS_LINES, FUNCTION_LINES, PARAMETERS = 400, 300, 40, 6
OURS = [top for top in ("shimproc", "actors", "tests", "bench") if (CHECKOUT / top).is_dir()]
SOURCES = sources(*OURS)
PRODUCT = [source for source in SOURCES if source.module.partition(".")[0] in ("shimproc", "actors")]
MUTABLE = ("dict", "list", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter")
CHANGERS = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "appendleft", "popleft"),
    *("update", "setdefault", "popitem", "add", "discard"),
}
SLEEPS = ("time.sleep", "sleep", "asyncio.sleep")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: Source) -> Iterator[Function]:
    """Every function and method."""
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines(node: ast.ClassDef | Function) -> int:
    """From its first decorator to its end."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return (node.end_lineno or node.lineno) - first + 1


def parameters(function: Function) -> int:
    """How many, besides self or cls."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([argument for argument in named if argument.arg not in ("self", "cls")])


def test_no_file_is_longer_than_its_limit() -> None:
    lengths = {str(source): len(source.text.splitlines()) for source in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > FILE_LINES}


def test_no_class_is_longer_than_its_limit() -> None:
    classes = [(s, node) for s in SOURCES for node in ast.walk(s.tree) if isinstance(node, ast.ClassDef)]
    assert not [f"{s}: {node.name}, {lines(node)} lines" for s, node in classes if lines(node) > CLASS_LINES]


def test_no_function_is_longer_than_its_limit() -> None:
    found = [(source, node) for source in SOURCES for node in functions(source)]
    assert not [f"{s}: {node.name}, {lines(node)} lines" for s, node in found if lines(node) > FUNCTION_LINES]


def test_no_function_takes_more_than_so_many_parameters() -> None:
    """One that is called by keyword alone, as subprocess.run is, may say so: a bare star, and noqa PLR0913 with why."""
    long = []
    for source in PRODUCT:
        excused = {number for number, line in enumerate(source.text.splitlines(), 1) if "noqa: PLR0913" in line}
        found = [node for node in functions(source) if node.lineno not in excused]
        long += [f"{source}: {node.name}, {parameters(node)}" for node in found if parameters(node) > PARAMETERS]
    assert not long


def test_no_except_is_bare() -> None:
    handlers = [(s, node) for s in SOURCES for node in ast.walk(s.tree) if isinstance(node, ast.ExceptHandler)]
    assert not [f"{source}:{node.lineno}" for source, node in handlers if node.type is None]


def test_every_file_says_what_it_is() -> None:
    assert not [str(source) for source in PRODUCT if source.text.strip() and not ast.get_docstring(source.tree)]


def test_nothing_at_module_level_is_changed_later() -> None:
    changed = []
    for source in PRODUCT:
        names = set(_mutable_globals(source.tree))
        changed += [f"{source}:{line}: {name}" for name, line in _changes(source.tree) if name in names]
    assert not changed


def test_ctypes_lives_in_one_file() -> None:
    assert {str(source) for source in PRODUCT if "ctypes" in _imported(source)} <= {"shimproc/linux.py"}


def test_no_file_is_named_after_nothing() -> None:
    nameless = {"util", "utils", "helpers", "misc", "common"}
    assert not [str(source) for source in SOURCES if source.path.stem in nameless]


def test_nobody_sleeps() -> None:
    calls = [(source, node) for source in SOURCES for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    asleep = [f"{s}:{node.lineno}" for s, node in calls if ast.unparse(node.func) in SLEEPS]
    assert not asleep, "wait for an event"


def _mutable_globals(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_mutable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in MUTABLE
    return isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)


def _changes(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, line) of what is rebound by ``global``, called to change, assigned into or deleted from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from ((name, node.lineno) for name in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGERS:
            yield ast.unparse(node.func.value), node.lineno
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield ast.unparse(node.value), node.lineno


def _imported(source: Source) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names
