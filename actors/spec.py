"""What is checked of a container before anything touches the disk: its OCI spec, mounts, stdio, labels, times, signals.

The spec is not rewritten and unknown keys of it are not refused (runtime-spec, "Extensibility"): only what every
container needs, and what would do harm on its way to the runtime.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Mapping
from typing import Any, Final

from actors.params import ContainerCreate, Exec, TaskRun
from actors.records import Health, Mount, Restart, Stdio
from shimproc.errors import InvalidArgument, shown
from shimproc.io.uri import parse_uri

MAX_DEPTH: Final = 64
MAX_CAPTURE: Final = 8 << 20
MAX_LABEL: Final = 4096
POLICIES: Final = ("no", "always", "on-failure", "unless-stopped")
_DIGITS: Final = 9
_NUMBERS: Final = ("limit", "swap", "reservation", "shares", "quota", "period")
_LONGEST_PATH: Final = 200
_SIMPLE: Final = frozenset({str, int, bool, type(None)})
_LAST_ID: Final = 2**32 - 2


def check_container(params: ContainerCreate | TaskRun) -> None:
    """All of a container's params; ``InvalidArgument`` names the first that is wrong."""
    check_spec(params.spec)
    for index, mount in enumerate(params.rootfs):
        _check_mount(mount, f"rootfs[{index}]")
    check_stdio(params.stdio)
    check_terminal(params.spec["process"], params.stdio, "spec.process")
    check_labels(params.labels)
    _check_runtime(params.runtime.name)
    criu = params.runtime.options.criu_path
    if criu and not criu.startswith("/"):
        raise InvalidArgument(f"runtime.options.criu_path: expected the absolute path of criu, got {shown(criu)}")
    if params.timeout is not None:
        check_seconds(params.timeout, "timeout", above_zero=True)
    if params.stop is not None:
        parse_signal(params.stop.signal, "stop.signal")
        check_seconds(params.stop.grace, "stop.grace")
    check_restart(params.restart)
    if params.restart is not None and params.restart.policy != "no" and isinstance(params, TaskRun) and params.rm:
        raise InvalidArgument("restart: rm removes the task after its first exit; leave out one of them")
    if params.health is not None:
        _check_health(params.health)
    capture = getattr(params, "capture", None)
    if capture is not None and not 0 <= capture <= MAX_CAPTURE:
        raise InvalidArgument(f"capture: {capture} is not within 0 and {MAX_CAPTURE} bytes; use log: for more")
    if capture is not None and isinstance(params, TaskRun) and not params.wait:
        raise InvalidArgument("capture: it needs wait, whose reply carries the output")


def check_path(path: str | None, field: str) -> None:
    """A folder's absolute path; ``InvalidArgument`` names the field. None is left out."""
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise InvalidArgument(f"{field}: expected the absolute path of a folder, got {shown(path)}")


def check_exec(params: Exec) -> None:
    """What ``tasks.exec`` takes; ``InvalidArgument`` names the first that is wrong."""
    check_plain(params.process, "process")
    _check_process(params.process, "process")
    check_stdio(params.stdio)
    check_terminal(params.process, params.stdio, "process")


def check_terminal(process: Mapping[str, Any], stdio: Stdio, field: str) -> None:
    """A runtime gives a terminal to a process whose spec has one, and to no other."""
    if bool(process.get("terminal")) != stdio.terminal:
        raise InvalidArgument(f"{field}.terminal: it differs from stdio.terminal; make both true, or neither")


def check_resources(resources: Mapping[str, Any], field: str) -> None:
    """OCI ``linux.resources``, as far as it matters here; ``InvalidArgument`` names the field."""
    check_plain(resources, field)
    if not resources:
        raise InvalidArgument(f"{field}: it names no limit; give memory, cpu or pids")
    for name in ("memory", "cpu", "pids"):
        values = resources.get(name)
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise InvalidArgument(f"{field}.{name}: expected a map")
        for key, value in values.items():
            if key in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int)):
                raise InvalidArgument(f"{field}.{name}.{key}: expected an integer, got {value!r}")


def check_spec(spec: Mapping[str, Any], field: str = "spec") -> None:
    """An OCI runtime-spec config, as far as it matters here; ``InvalidArgument`` names the field."""
    check_plain(spec, field)
    version = spec.get("ociVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise InvalidArgument(f'{field}.ociVersion: expected a version 1.x as text, such as "1.0.2", got {shown(version)}')
    process = spec.get("process")
    if not isinstance(process, Mapping):
        raise InvalidArgument(f"{field}.process: expected a map with args and cwd")
    _check_process(process, f"{field}.process")
    root = spec.get("root")
    if root is not None and not (isinstance(root, Mapping) and isinstance(root.get("path"), str)):
        raise InvalidArgument(f"{field}.root: expected a map with path, a text")
    for name, kind, what in (("mounts", list, "a list"), ("linux", Mapping, "a map"), ("hostname", str, "text")):
        if name in spec and spec[name] is not None and not isinstance(spec[name], kind):
            raise InvalidArgument(f"{field}.{name}: expected {what}")
    for index, mount in enumerate(spec.get("mounts") or ()):
        if not isinstance(mount, Mapping) or not isinstance(mount.get("destination"), str):
            raise InvalidArgument(f"{field}.mounts[{index}]: expected a map with destination, a text")


def check_plain(value: Any, field: str) -> None:
    """Only what JSON has: maps with text keys, lists, texts, finite numbers, booleans, null; not too deep."""
    try:
        _check_plain(value, 0)
    except _NotPlain as wrong:
        path = "".join(reversed(wrong.path))[:_LONGEST_PATH]
        raise InvalidArgument(f"{field}{path}: {wrong.why}") from None


class _NotPlain(Exception):  # noqa: N818 - carries a place, is none of the eleven
    """Why, and where, from the inside out: a path is only made where it is told."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []


def _check_plain(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _NotPlain(f"nested deeper than {MAX_DEPTH}")
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, (dict, Mapping)):
        inner = value.items()
        odd = next((key for key in value if not isinstance(key, str)), "")
        if odd != "":
            raise _NotPlain(f"its key {shown(odd)} is no text")
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _NotPlain(f"{value} is no finite number")
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise _NotPlain(f"{type(value).__name__} has no place in JSON")
    for place, item in inner:
        if depth == MAX_DEPTH or type(item) not in _SIMPLE:
            _check_inside(item, depth, place)


def _check_inside(item: Any, depth: int, place: str | int) -> None:
    try:
        _check_plain(item, depth + 1)
    except _NotPlain as wrong:
        wrong.path.append(f".{place[:_LONGEST_PATH]}" if isinstance(place, str) else f"[{place}]")
        raise


def check_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Labels, none for None; ``InvalidArgument`` for one that is too long."""
    for key, value in (labels or {}).items():
        if not key or len(key) + len(value) > MAX_LABEL:
            raise InvalidArgument(f"labels.{key[:80]}: a key is not empty, and key and value have at most {MAX_LABEL} characters")
    return dict(labels or {})


def check_stdio(stdio: Stdio, field: str = "stdio") -> None:
    """``InvalidArgument`` names the stream."""
    for name in ("stdin", "stdout", "stderr"):
        parse_uri(getattr(stdio, name), f"{field}.{name}")
    if stdio.terminal and stdio.stderr:
        raise InvalidArgument(f"{field}.stderr: with terminal there is no stderr; leave it empty")


def parse_signal(value: int | str, field: str) -> int:
    """``SIGTERM``, ``TERM``, ``"15"`` or 15 -> 15; ``InvalidArgument`` otherwise."""
    if isinstance(value, str) and not value.isdecimal():
        name = value.upper()
        known = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}")
        if known is None:
            raise InvalidArgument(f"{field}: {shown(value)} is no signal; write a name such as SIGTERM, or a number")
        return int(known)
    if isinstance(value, str) and len(value) > _DIGITS:
        raise InvalidArgument(f"{field}: {value[:_DIGITS]!r}… is no signal: they go from 1 to {int(signal.SIGRTMAX)}")
    number = int(value)
    if not 1 <= number <= signal.SIGRTMAX:
        raise InvalidArgument(f"{field}: {number} is no signal: they go from 1 to {int(signal.SIGRTMAX)}")
    return number


def _check_process(process: Mapping[str, Any], field: str) -> None:
    args = process.get("args")
    if not isinstance(args, (list, tuple)) or not args or not all(isinstance(arg, str) for arg in args):
        raise InvalidArgument(f"{field}.args: expected a list of at least one text, the program first")
    if not args[0] or any("\0" in arg for arg in args):
        raise InvalidArgument(f"{field}.args: the program's name is not empty, and no argument has a NUL")
    cwd = process.get("cwd")
    if not isinstance(cwd, str) or not cwd.startswith("/") or "\0" in cwd:
        raise InvalidArgument(f'{field}.cwd: expected an absolute path, such as "/", got {shown(cwd)}')
    for index, entry in enumerate(_list(process.get("env"), f"{field}.env")):
        if not isinstance(entry, str) or "=" not in entry[1:] or "\0" in entry:
            raise InvalidArgument(f"{field}.env[{index}]: expected NAME=value, got {shown(entry)}")
    _check_user(process.get("user"), f"{field}.user")
    for index, limit in enumerate(_list(process.get("rlimits"), f"{field}.rlimits")):
        whole = isinstance(limit, Mapping) and isinstance(limit.get("type"), str)
        if not whole or not all(type(limit.get(name)) is int for name in ("soft", "hard")):
            raise InvalidArgument(f"{field}.rlimits[{index}]: expected {{type: text, soft: integer, hard: integer}}")


def _list(value: Any, field: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise InvalidArgument(f"{field}: expected a list, got {type(value).__name__}")
    return list(value)


def _check_user(user: Any, field: str) -> None:
    if user is None:
        return
    if not isinstance(user, Mapping):
        raise InvalidArgument(f"{field}: expected a map with uid and gid")
    for name in ("uid", "gid"):
        number = user.get(name, 0)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _LAST_ID:
            raise InvalidArgument(f"{field}.{name}: expected an integer from 0 to {_LAST_ID}, got {shown(number)}")


def _check_mount(mount: Mount, field: str) -> None:
    if not mount.type:
        raise InvalidArgument(f"{field}.type: expected bind, overlay, tmpfs or another type of mount(8)")
    for text in (mount.type, mount.source, *mount.options):
        if "\0" in text:
            raise InvalidArgument(f"{field}: no part of a mount has a NUL")


def _check_runtime(name: str) -> None:
    if name and name not in ("crun", "runc", "process") and not name.startswith("/"):
        raise InvalidArgument(f"runtime.name: {shown(name)} is none of crun, runc, process, nor an absolute path")


def check_restart(restart: Restart | None) -> None:
    """A restart policy; ``InvalidArgument`` names the field."""
    if restart is None:
        return
    if restart.policy not in POLICIES:
        raise InvalidArgument(f"restart.policy: {shown(restart.policy)} is none of {', '.join(POLICIES)}")
    if restart.max_retries is not None and restart.max_retries < 1:
        raise InvalidArgument(f"restart.max_retries: {restart.max_retries} is below 1; leave it out for no bound")
    if restart.backoff is not None:
        check_seconds(restart.backoff, "restart.backoff")


def _check_health(health: Health) -> None:
    if not health.args or not all(isinstance(word, str) and word and "\0" not in word for word in health.args[:1]):
        raise InvalidArgument("health.args: expected a command, and its arguments")
    check_seconds(health.interval, "health.interval", above_zero=True)
    check_seconds(health.timeout, "health.timeout", above_zero=True)
    check_seconds(health.start_period, "health.start_period")
    if health.retries < 1:
        raise InvalidArgument(f"health.retries: {health.retries} is below 1")


def check_seconds(value: float, field: str, *, above_zero: bool = False) -> None:
    """A finite span that is not negative; ``InvalidArgument`` names the field."""
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise InvalidArgument(f"{field}: expected seconds{' above 0' if above_zero else ', 0 or more'}, got {value}")
