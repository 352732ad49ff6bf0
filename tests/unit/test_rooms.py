"""Imports go down only. The rooms, the lowest first; a file imports from rooms below its own, or from its own.

A request walks a ring: front end, runtime, task, shim, event, task, exchange, reply. What travels up is a message that
carries its return address, never an import.
"""

from __future__ import annotations

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.sources import CHECKOUT, PACKAGES, imports, sources

SHIM_ROOMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("words", ("crash", "errors", "messages", "wire", "flow", "machine")),
    ("the system's calls and the loop", ("linux", "loop")),
    (
        "one outside thing each",
        (
            *("link", "keeper", "journal", "reaper", "mounts", "userns", "spawn", "door", "io", "images"),
            *("cgroups", "cgroup_stats", "freezer", "oom"),
        ),
    ),
    ("runtimes", ("runtimes",)),
    ("processes", ("process",)),
    ("the service", ("service",)),
    ("the shim", ("shim",)),
    ("the forkserver", ("ward", "forkserver")),
)
DAEMON_ROOMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "words, and the actor type",
        (
            *("release", "identifiers", "records", "methods", "params", "messages", "dispatch"),
            *("shape", "filters", "patterns", "spec", "locations", "config", "diagnostics", "measures"),
        ),
    ),
    (
        "one outside thing each",
        (
            *("store", "bundle", "disk", "folders", "logfiles", "notify"),
            *("launcher", "runtimes", "shimlink", "boot", "relics", "sockets", "curve", "catalog", "registry"),
        ),
    ),
    ("events", ("exchange", "subscribers", "monitor")),
    ("supervisors", ("supervision",)),
    ("what is told of it all", ("metrics",)),
    ("one task", ("task",)),
    ("all tasks", ("metadata", "runtime", "restore", "logs", "about")),
    ("the outside world", ("api",)),
    ("the roof", ("daemon",)),
)
CLIENT_MAY = ("shimproc.errors", "actors.identifiers", "actors.records", "actors.methods", "actors.shape")
CLIENT_MAY_ALSO = ("actors.locations", "actors.specs", "actors.seccomp", "actors.users", "shimproc.userns")
PROBES = ("shimproc.runtimes.probe", "shimproc.runtimes.probe_criu", "shimproc.cgroups")
CLI_MAY = ("actors.client", "actors.config", "actors.specs", "actors.locations", "actors.records", "actors.methods")
CLI_MAY_ALSO = ("actors.release", "shimproc.errors", "actors.identifiers", "actors.shape", "actors.users", *PROBES)
OUTSIDE = ("client", "cli", "specs", "seccomp", "users", "__main__")
"""Not the daemon's rooms: what runs in its clients."""

SOURCES = sources(*PACKAGES)
MODULES = frozenset(source.module for source in SOURCES)
IMPORTS = [found for source in SOURCES for found in imports(source, MODULES)]
OWN = [found for found in IMPORTS if found.target.partition(".")[0] in PACKAGES]
NOT_IN_A_SHIM = {"actors", "zmq", "asyncio", "psutil", "pykka", "subprocess", "multiprocessing", "sqlite3"}


def floor(module: str) -> int:
    """Where a module lives; shimproc's floors lie below the daemon's."""
    package, _, rest = module.partition(".")
    rooms = SHIM_ROOMS if package == "shimproc" else DAEMON_ROOMS
    base = 0 if package == "shimproc" else len(SHIM_ROOMS)
    name = rest.partition(".")[0]
    for number, (_, members) in enumerate(rooms):
        if name in members:
            return base + number
    raise AssertionError(f"{module} is in no room: put it into one in {__name__}")


def within(module: str, *rooms: str) -> bool:
    """Is it one of these, or inside one of these?"""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def is_outside(module: str) -> bool:
    """Does it run in the daemon's clients?"""
    return within(module, *(f"actors.{name}" for name in OUTSIDE))


def test_imports_go_down() -> None:
    inside = [found for found in OWN if found.source.module not in PACKAGES and not is_outside(found.source.module)]
    wrong = [f"{found}: the daemon knows nothing of its clients' code" for found in inside if is_outside(found.target)]
    known = [found for found in inside if not is_outside(found.target)]
    wrong += [f"{found}: up" for found in known if floor(found.target) > floor(found.source.module)]
    assert not wrong, wrong


def test_shimproc_imports_nothing_of_the_daemon() -> None:
    inside = [found for found in IMPORTS if within(found.source.module, "shimproc")]
    wrong = [str(found) for found in inside if found.target.partition(".")[0] in {"actors", "zmq", "psutil", "pykka"}]
    assert not wrong, wrong


def test_a_shim_loads_nothing_heavy() -> None:
    script = "import sys, shimproc.forkserver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert not NOT_IN_A_SHIM & {name.partition(".")[0] for name in done.stdout.split()}


def test_the_client_library_stands_on_words_alone() -> None:
    inside = [found for found in OWN if within(found.source.module, "actors.client")]
    allowed = ("actors.client", *CLIENT_MAY, *CLIENT_MAY_ALSO)
    wrong = [str(found) for found in inside if not within(found.target, *allowed)]
    assert not wrong, wrong


def test_the_command_line_is_a_client_and_only_its_daemon_module_knows_the_roof() -> None:
    inside = [found for found in OWN if within(found.source.module, "actors.cli")]
    wrong = []
    for found in inside:
        roof = ("actors.daemon",) if found.source.module == "actors.cli.daemon" else ()
        if not within(found.target, "actors.cli", *CLI_MAY, *CLI_MAY_ALSO, *roof):
            wrong.append(str(found))
    assert not wrong, wrong


def test_only_the_command_line_imports_inside_functions_for_its_start() -> None:
    """And the client library's AsyncClient, which brings asyncio: a command line is to start within 150 ms."""
    may = ("actors.cli", "actors.client")
    wrong = [str(found) for found in OWN if found.inside and not within(found.source.module, *may)]
    assert not wrong, wrong


def test_there_is_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for found in OWN:
        if found.inside is None and found.target != found.source.module:
            graph.setdefault(found.source.module, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' imports '.join(reversed(error.args[1]))}")


def test_every_module_has_its_room() -> None:
    for module in MODULES:
        if module not in PACKAGES and not is_outside(module):
            floor(module)


def test_every_room_has_a_module() -> None:
    named = {f"shimproc.{name}" for _, members in SHIM_ROOMS for name in members}
    named |= {f"actors.{name}" for _, members in DAEMON_ROOMS for name in members}
    assert not named - MODULES, "rooms without a module"
