"""The forked child that becomes a plain process: held, then made what the spec says, then the program.

Runs between fork and execve, so it does as little as it can. What fails is told over a close-on-exec pipe, as JSON
``{field, errno, what}``, and the child ends; if the shim goes while the child is held, the child ends, too.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from shimproc import linux
from shimproc.errors import InvalidArgument, PermissionDenied, ShimyardError

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UMASK: Final = 0o022
_INFINITE: Final = 1 << 63
"""OCI gives no limit as the largest of 64 bits; setrlimit(2) has a number of its own."""
_LAST_FD: Final = 0xFFFFFFFF
_TIOCSCTTY: Final = 0x540E  # ioctl_tty(2)
_NAME: Final = 128
"""Characters of one name within a sentence that are told, so that its end is told, too."""
_TOLD: Final = 320
"""Characters of ``what``: as JSON each is 12 bytes at most, and a report of PIPE_BUF (4096) is written whole (pipe(7))."""


@dataclass(frozen=True, slots=True)
class Held:
    """Descriptors of a held child: ``hold`` gives a byte to go on, ``report`` takes a failure."""

    hold: int
    report: int
    stdio: tuple[int, int, int]
    chroot: str | None


def become(spec: Mapping[str, Any], held: Held) -> NoReturn:
    """In the child. Never returns."""
    field = "stdio"
    try:
        linux.set_name("held")  # it is no shim, whatever its name was
        os.setsid()
        _default_signals()
        _take_stdio(held)
        if os.read(held.hold, 1) == b"":
            os._exit(1)
        process = spec["process"]
        for field, step in _STEPS:  # noqa: B007 - told when a step fails
            step(process, held)
        field = "process.env"
        env = _environment(process)
        field = "process.args"
        _execute(process["args"], env)
    except BaseException as error:  # noqa: BLE001 - nothing may climb back into the shim
        _report(held.report, field, error)
    finally:
        os._exit(127)


def failure_of(told: bytes) -> ShimyardError:
    """The error that a child's report stands for; ``details.kind`` says that no program ran."""
    report = json.loads(told)
    number, field, what = report["errno"], report["field"], report["what"]
    message = f"{field}: {what}: {os.strerror(number)}" if number else f"{field}: {what}"
    missing = field == "process.args" and number == errno.ENOENT
    details = {"field": field, "kind": "not_found_executable" if missing else "not_executable"}
    if field != "process.args" and number in (errno.EPERM, errno.EACCES):
        return PermissionDenied(f"{message}; the daemon, or this user, may not do that", details)
    return InvalidArgument(message, details)


def _report(fd: int, field: str, error: BaseException) -> None:
    """``what``: the name that ``errno`` is about; without a number the whole reason."""
    if isinstance(error, OSError) and error.errno:
        number, what = error.errno, str(error.filename or type(error).__name__)
    else:
        number, what = None, str(error) or type(error).__name__
    os.write(fd, json.dumps({"field": field, "errno": number, "what": _cut(what, _TOLD)}).encode())


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _take_stdio(held: Held) -> None:
    """Our 0, 1 and 2, and nothing of the shim's: a held child must keep no pipe or socket of it open."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in held.stdio]
    for number, fd in enumerate(high):
        os.dup2(fd, number)
    first = 3
    for fd in sorted((held.hold, held.report)):
        if fd > first:
            linux.close_range(first, fd - 1)
        first = fd + 1
    linux.close_range(first, _LAST_FD)


def _set_terminal(process: Mapping[str, Any], _: Held) -> None:
    if process.get("terminal"):
        fcntl.ioctl(0, _TIOCSCTTY, 0)


def _set_oom(process: Mapping[str, Any], _: Held) -> None:
    if (score := process.get("oomScoreAdj")) is not None:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib costs the shim memory
            file.write(str(score))


def _set_limits(process: Mapping[str, Any], _: Held) -> None:
    for limit in process.get("rlimits") or ():
        name = limit["type"]
        which = getattr(resource, name, None) if name.startswith("RLIMIT_") else None
        if which is None:
            raise OSError(errno.EINVAL, "no such limit", name)
        soft, hard = (_rlimit(limit[end]) for end in ("soft", "hard"))
        try:
            resource.setrlimit(which, (soft, hard))
        except ValueError as error:  # Python's word for EPERM and EINVAL
            raised = "not allowed" in str(error)
            raise OSError(errno.EPERM if raised else errno.EINVAL, str(error), name) from error


def _rlimit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= _INFINITE else value


def _set_root(_: Mapping[str, Any], held: Held) -> None:
    if held.chroot is not None:
        os.chroot(held.chroot)
        os.chdir("/")


def _set_user(process: Mapping[str, Any], _: Held) -> None:
    """Groups first: after setresuid(2) they could not be set any more."""
    user = process.get("user") or {}
    uid, gid = user.get("uid", os.geteuid()), user.get("gid", os.getegid())
    groups = user.get("additionalGids") or []
    if groups or os.geteuid() == 0:
        os.setgroups(groups)
    if gid != os.getegid():
        os.setresgid(gid, gid, gid)
    if uid != os.geteuid():
        os.setresuid(uid, uid, uid)
    umask = user.get("umask")
    os.umask(_UMASK if umask is None else umask)


def _set_no_new_privs(process: Mapping[str, Any], _: Held) -> None:
    if process.get("noNewPrivileges"):
        linux.set_no_new_privs()


def _set_cwd(process: Mapping[str, Any], _: Held) -> None:
    os.chdir(process.get("cwd") or "/")


_STEPS: Final = (
    ("process.terminal", _set_terminal),
    ("process.oomScoreAdj", _set_oom),
    ("process.rlimits", _set_limits),
    ("rootfs", _set_root),
    ("process.user", _set_user),
    ("process.noNewPrivileges", _set_no_new_privs),
    ("process.cwd", _set_cwd),
)


def _environment(process: Mapping[str, Any]) -> dict[str, str]:
    env = {"PATH": _PATH}
    for entry in process.get("env") or ():
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise ValueError(f"{_cut(repr(entry), _NAME)} is not NAME=VALUE")
        env[name] = value
    return env


def _execute(args: list[str], env: Mapping[str, str]) -> NoReturn:
    """execve along the spec's own PATH. Every descriptor but 0, 1 and 2 is close-on-exec (PEP 446)."""
    if not args:
        raise ValueError("it is empty; give the program and its arguments")
    try:
        if not args[0]:
            raise FileNotFoundError(errno.ENOENT, "no name")
        os.execvpe(args[0], args, env)  # noqa: S606 - it is the job
    except OSError as error:  # its file name is the last that was tried
        where = "" if "/" in args[0] else f" in PATH ({_cut(env['PATH'], _NAME)})"
        raise OSError(error.errno, error.strerror, f"{_cut(repr(args[0]), _NAME)}{where}") from error
