"""A task's processes as a tree, as far as this host's ``/proc`` knows them (proc(5))."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.cli.output import printable


def described(pids: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``tasks.pids`` with parent and command of each; without them where it has just ended, or the daemon is elsewhere."""
    return [dict(one) | _about(int(one["pid"])) for one in pids]


def tree(processes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of ``PID COMMAND``, children below their parents."""
    known = {process["pid"] for process in processes}
    below: dict[int, list[Mapping[str, Any]]] = {}
    for process in processes:
        parent = int(process.get("parent", 0))
        below.setdefault(parent if parent in known else 0, []).append(process)
    yield from _branches(below, 0, "")


def _branches(below: Mapping[int, Sequence[Mapping[str, Any]]], parent: int, indent: str) -> Iterator[str]:
    children = below.get(parent, ())
    for number, process in enumerate(children, 1):
        last = number == len(children)
        note = f" (exec {process['exec_id']})" if "exec_id" in process else ""
        yield f"{indent}{'└─' if last else '├─'}{process['pid']} {printable(process.get('command', '?'))}{note}"
        yield from _branches(below, process["pid"], indent + ("  " if last else "│ "))


def _about(pid: int) -> dict[str, Any]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return {}
    name, _, rest = stat.partition("(")[2].rpartition(")")
    command = b" ".join(words).decode(errors="replace") or f"[{name}]"
    return {"parent": int(rest.split()[1]), "command": command}
