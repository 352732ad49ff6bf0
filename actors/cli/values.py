"""The texts of a command line as the wire's values: sizes, times, limits, mounts, variables.

Each function is an argparse ``type``: what it cannot read is an ``ArgumentTypeError`` that says what it expected.
"""

from __future__ import annotations

import math
import os
import re
import resource
import time
from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from actors.users import resolve_user
from shimproc.errors import InvalidArgument

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NAME: Final = re.compile(r"[^=\0]+")
_INFINITY: Final = 2**64 - 1
_CPU_PERIOD: Final = 100_000
_LEAST_QUOTA: Final = 1000
_TRUE: Final = ("", "1", "true")
_LEAST_NS: Final = 10**15
"""Integers as large as this are nanoseconds: as seconds they would be 30 million years away."""


def size(text: str) -> int:
    """``64m``, ``1.5GiB``, ``4096`` -> bytes; the units are powers of 1024, as with docker."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no size; write bytes, or a number with k, m, g or t, such as 64m")
    unit = 1024 ** _POWERS[found[2].lower()]
    number = int(found[1]) * unit if found[1].isdecimal() else int(float(found[1]) * unit)
    if not 0 < number < 2**63:
        raise ArgumentTypeError(f"{text!r}: a size is above 0 and below 8 EiB")
    return number


def cpus(text: str) -> dict[str, int]:
    """``0.5`` -> the OCI quota and period of half a CPU's time; the kernel's least quota is 1 ms."""
    number = _number(text, "a number of CPUs, such as 0.5")
    quota = int(number * _CPU_PERIOD)
    if quota < _LEAST_QUOTA:
        raise ArgumentTypeError(f"{text!r}: at least 0.01 CPUs")
    return {"quota": quota, "period": _CPU_PERIOD}


def count(text: str) -> int:
    """An integer above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r}: expected an integer above 0")
    return int(text)


def lines(text: str) -> int | None:
    """A number of lines for ``--tail``; ``all`` is None."""
    if text == "all":
        return None
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r}: expected a number of lines, or all")
    return int(text)


def span(text: str) -> float:
    """``10``, ``1.5``, ``90s``, ``1h30m`` -> seconds."""
    parts = _SPAN.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return _number(text, "seconds, or a time such as 90s or 1h30m")


def some_span(text: str) -> float:
    """A ``span`` above 0."""
    found = span(text)
    if found <= 0:
        raise ArgumentTypeError(f"{text!r}: expected a time above 0")
    return found


def moment(text: str) -> int:
    """A time ago (``10m``), an ISO 8601 time (local if it names no zone) or seconds since the epoch -> ns since the epoch."""
    if text.isdecimal():
        return int(text) if int(text) >= _LEAST_NS else int(text) * 1_000_000_000
    if _SPAN.match(text) and "-" not in text:
        return time.time_ns() - int(span(text) * 1e9)
    from datetime import datetime  # noqa: PLC0415 - rarely needed

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "10m (that long ago), 2026-02-03T04:05:06Z, or seconds since the epoch"
        raise ArgumentTypeError(f"{text!r} is no time; write {expected}") from None
    return int(found.astimezone().timestamp()) * 1_000_000_000 + found.microsecond * 1000


def ulimit(text: str) -> dict[str, Any]:
    """``nofile=1024:2048`` or ``core=0`` -> an OCI rlimit; -1 and ``unlimited`` are no limit (prlimit(2))."""
    name, equals, limits = text.partition("=")
    kind = f"RLIMIT_{name.strip().upper()}"
    if not equals or not hasattr(resource, kind):
        known = sorted(known[7:].lower() for known in dir(resource) if known.startswith("RLIMIT_"))
        raise ArgumentTypeError(f"{text!r}: expected NAME=SOFT[:HARD], NAME one of {', '.join(known)}")
    soft, _, hard = limits.partition(":")
    least, most = _limit(soft, text), _limit(hard or soft, text)
    if least > most:
        raise ArgumentTypeError(f"{text!r}: the soft limit is above the hard one")
    return {"type": kind, "soft": least, "hard": most}


def mount(text: str) -> dict[str, Any]:
    """``type=bind,source=DIR,target=/DIR,ro`` or ``type=tmpfs,target=/DIR,size=64m`` -> an OCI mount (docker's words)."""
    given: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro"}.get(name, name)
        if name not in ("type", "source", "target", "ro", "size", "mode"):
            raise ArgumentTypeError(f"{text!r}: {name!r} is none of type, source, target, ro, size, mode")
        given[name] = value
    read_only = "ro" in given and given["ro"].lower() in _TRUE
    kind = given.get("type", "bind")
    if kind == "tmpfs":
        options = [f"{name}={given[name]}" for name in ("size", "mode") if name in given]
        return _tmpfs(given.get("target", ""), [*options, *(["ro"] if read_only else [])], text)
    if kind != "bind":
        raise ArgumentTypeError(f"{text!r}: the type is bind or tmpfs")
    return _bind(given.get("source", ""), given.get("target", ""), "ro" if read_only else "rw", text)


def volume(text: str) -> dict[str, Any]:
    """``SOURCE:TARGET[:ro]`` -> an OCI bind mount."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if mode not in ("", "ro", "rw"):
        raise ArgumentTypeError(f"{text!r}: expected SOURCE:TARGET, or SOURCE:TARGET:ro")
    return _bind(source, target, mode or "rw", text)


def tmpfs(text: str) -> dict[str, Any]:
    """``/DIR`` or ``/DIR:size=64m,mode=1777`` -> an OCI tmpfs mount."""
    target, _, options = text.partition(":")
    return _tmpfs(target, [option for option in options.split(",") if option], text)


def variable(text: str) -> str:
    """``NAME=value``; a bare ``NAME`` takes the value that it has here, and is left out (empty) where it has none."""
    name, equals, _ = text.partition("=")
    if not _NAME.fullmatch(name) or "\0" in text:
        raise ArgumentTypeError(f"{text!r}: expected NAME=value, or NAME to pass on what it is here")
    if equals:
        return text
    return f"{name}={os.environ[name]}" if name in os.environ else ""


def variables(path: str) -> list[str]:
    """A file of ``variable``s, one a line; empty lines and those that begin with ``#`` are skipped. Nothing is unquoted."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentTypeError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                found.append(variable(line.lstrip()))
            except ArgumentTypeError as error:
                raise ArgumentTypeError(f"{path}, line {number}: {error}") from None
    return found


def label(text: str) -> tuple[str, str]:
    """``KEY=VALUE``, or ``KEY`` with an empty value."""
    name, _, value = text.partition("=")
    if not name:
        raise ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    return name, value


def user(text: str, root: Path) -> Mapping[str, Any]:
    """``USER[:GROUP]`` by the files of ``root`` (``resolve_user``) -> an OCI user."""
    try:
        return resolve_user(text, root)
    except InvalidArgument as error:
        raise ArgumentTypeError(error.message) from None


def _number(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ArgumentTypeError(f"{text!r}: expected {expected}")
    return number


def _limit(text: str, whole: str) -> int:
    if text in ("-1", "unlimited"):
        return _INFINITY
    if not text.isdecimal():
        raise ArgumentTypeError(f"{whole!r}: a limit is an integer, or unlimited")
    return int(text)


def _bind(source: str, target: str, mode: str, text: str) -> dict[str, Any]:
    if not source or not Path(source).exists():
        raise ArgumentTypeError(f"{text!r}: the source {source or '(none)'} does not exist on this host")
    options = ["rbind", "rprivate", mode]
    return {"destination": _target(target, text), "type": "bind", "source": str(Path(source).absolute()), "options": options}


def _tmpfs(target: str, options: list[str], text: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", *options]
    return {"destination": _target(target, text), "type": "tmpfs", "source": "tmpfs", "options": options}


def _target(target: str, text: str) -> str:
    if not target.startswith("/") or target == "/":
        raise ArgumentTypeError(f"{text!r}: the target is an absolute path inside the container, and not /")
    return target
