"""The forked child that becomes a plain process: held, then made what the spec says, then the program.

Runs between fork and execve, so it does as little as it can. What fails is told over a close-on-exec pipe, as JSON
``{field, errno, kind}``, and the child ends; if the shim goes while the child is held, the child ends, too.
"""

from __future__ import annotations

import errno
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
_INFINITE: Final = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class Held:
    """Descriptors of a held child: ``hold`` gives a byte to go on, ``report`` takes a failure, ``shim_end`` is not ours."""

    hold: int
    report: int
    shim_end: int
    stdio: tuple[int, int, int]
    chroot: str | None


def become(spec: Mapping[str, Any], held: Held) -> NoReturn:
    """In the child. Never returns."""
    field = "process"
    try:
        os.close(held.shim_end)
        os.setsid()
        _default_signals()
        if os.read(held.hold, 1) == b"":
            os._exit(1)
        process = spec["process"]
        for field, step in _STEPS:
            step(process, held)
        field = "process.args"
        _execute(process)
    except BaseException as error:  # noqa: BLE001 - nothing may climb back into the shim
        _report(held.report, field, error)
    finally:
        os._exit(127)


def failure_of(told: bytes) -> ShimyardError:
    """The error that a child's report stands for."""
    report = json.loads(told)
    number, field = report["errno"], report["field"]
    message = f"{field}: {report['what']}: {os.strerror(number) if number else report['error']}"
    details = {"field": field}
    if field == "process.args":
        details["kind"] = "not_found_executable" if number == errno.ENOENT else "not_executable"
    elif number == errno.EPERM:
        return PermissionDenied(f"{message}; the daemon may not do that for this user", details)
    return InvalidArgument(message, details)


def _report(fd: int, field: str, error: BaseException) -> None:
    number = error.errno if isinstance(error, OSError) else None
    what = error.filename if isinstance(error, OSError) and error.filename else type(error).__name__
    os.write(fd, json.dumps({"field": field, "errno": number, "what": str(what), "error": str(error)}).encode())


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _set_oom(process: Mapping[str, Any], _: Held) -> None:
    if (score := process.get("oomScoreAdj")) is not None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))


def _set_limits(process: Mapping[str, Any], _: Held) -> None:
    for limit in process.get("rlimits") or ():
        which = getattr(resource, limit["type"], None)
        if which is None:
            raise OSError(errno.EINVAL, "unknown limit", limit["type"])
        soft, hard = (_INFINITE if limit[name] >= 1 << 63 else limit[name] for name in ("soft", "hard"))
        resource.setrlimit(which, (soft, hard))


def _set_stdio(_: Mapping[str, Any], held: Held) -> None:
    for number, fd in enumerate(held.stdio):
        os.dup2(fd, number)


def _set_root(_: Mapping[str, Any], held: Held) -> None:
    if held.chroot is not None:
        os.chroot(held.chroot)
        os.chdir("/")


def _set_user(process: Mapping[str, Any], _: Held) -> None:
    user = process.get("user") or {}
    uid, gid, groups = user.get("uid", 0), user.get("gid", 0), user.get("additionalGids") or []
    if os.geteuid() == 0:
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
    ("process.oomScoreAdj", _set_oom),
    ("process.rlimits", _set_limits),
    ("stdio", _set_stdio),
    ("rootfs", _set_root),
    ("process.user", _set_user),
    ("process.noNewPrivileges", _set_no_new_privs),
    ("process.cwd", _set_cwd),
)


def _execute(process: Mapping[str, Any]) -> NoReturn:
    """execve along the spec's own PATH. Every descriptor but 0, 1 and 2 is close-on-exec (PEP 446)."""
    args = process["args"]
    env = dict(entry.split("=", 1) for entry in process.get("env") or ())
    os.execvpe(args[0], args, env if "PATH" in env else {**env, "PATH": _PATH})
