"""Stand-ins for the modules by which the product reaches its host; and the exchange of one for the other.

A stand-in passes on what it does not know, so that folders, journals and the database are real (in a folder of the seed's).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shimproc import linux
from tests.simulation.kernel import FIRST_FD, PidFile, Process
from tests.simulation.stage import STAGE

_PREFIXES = ("actors.", "shimproc.")


class OsModule:
    """In place of ``os``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    # -- descriptors

    @staticmethod
    def open(path: Any, flags: int, mode: int = 0o777) -> int:
        process = STAGE.kernel.enter()
        fd = os.open(path, flags, mode)
        process.real.add(fd)
        return fd

    @staticmethod
    def close(fd: int) -> None:
        process = STAGE.kernel.enter()
        if fd >= FIRST_FD:
            STAGE.kernel.file(fd)
            STAGE.kernel.close(fd)
        else:
            os.close(fd)
            process.real.discard(fd)

    @staticmethod
    def dup(fd: int) -> int:
        process = STAGE.kernel.enter()
        if fd >= FIRST_FD:
            return STAGE.kernel.open(STAGE.kernel.file(fd))
        made = os.dup(fd)
        process.real.add(made)
        return made

    @staticmethod
    def fdopen(fd: int, *args: Any, **kwargs: Any) -> Any:
        STAGE.kernel.current.real.discard(fd)
        return os.fdopen(fd, *args, **kwargs)

    @staticmethod
    def write(fd: int, data: bytes) -> int:
        STAGE.kernel.enter()
        return os.write(fd, data)

    @staticmethod
    def rename(old: Any, new: Any) -> None:
        STAGE.kernel.enter()
        os.rename(old, new)  # noqa: PTH104

    @staticmethod
    def unlink(path: Any) -> None:
        STAGE.kernel.enter()
        os.unlink(path)  # noqa: PTH108

    # -- processes

    @staticmethod
    def getpid() -> int:
        return STAGE.kernel.current.pid

    @staticmethod
    def getcwd() -> str:
        return STAGE.kernel.current.cwd

    @staticmethod
    def getsid(pid: int) -> int:
        return (_process(pid) if pid else STAGE.kernel.current).session

    @staticmethod
    def pidfd_open(pid: int) -> int:
        STAGE.kernel.enter()
        return STAGE.kernel.open(PidFile(STAGE.kernel, _process(pid)))

    @staticmethod
    def kill(pid: int, number: int) -> None:
        STAGE.kernel.enter()
        STAGE.kernel.signal(_process(pid), number)

    @staticmethod
    def waitpid(pid: int, _options: int) -> tuple[int, int]:
        """Of any child, without waiting, is all that is asked."""
        me = STAGE.kernel.enter()
        assert pid == -1
        if not me.children:
            raise ChildProcessError(10, "No child processes")
        for child in me.children.values():
            if not child.alive:
                STAGE.kernel.reap(child, me)
                return child.pid, child.status
        return 0, 0

    @staticmethod
    def waitid(kind: int, number: int, options: int) -> Any:
        me = STAGE.kernel.enter()
        if kind == os.P_ALL:
            found = list(me.children.values())
        else:
            if kind == os.P_PIDFD:
                file = STAGE.kernel.file(number)
                assert isinstance(file, PidFile)
                number = file.process.pid
                child = me.children.get(number)
                found = [child] if child is file.process else []
            else:
                found = [me.children[number]] if number in me.children else []
        if not found:
            raise ChildProcessError(10, "No child processes")
        for child in found:
            if not child.alive:
                if not options & os.WNOWAIT:
                    STAGE.kernel.reap(child, me)
                return WaitResult(child)
        return None

    @staticmethod
    def posix_spawn(path: str, argv: Sequence[str], _env: Mapping[str, str], **_: Any) -> int:
        STAGE.kernel.enter()
        return int(STAGE.world.spawned(path, argv))

    posix_spawnp = posix_spawn


class WaitResult:
    """What waitid(2) tells."""

    def __init__(self, process: Process) -> None:
        code = os.waitstatus_to_exitcode(process.status)
        self.si_pid = process.pid
        self.si_code = os.CLD_EXITED if code >= 0 else os.CLD_KILLED
        self.si_status = abs(code)


class SignalModule:
    """In place of ``signal``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(signal, name)

    @staticmethod
    def pidfd_send_signal(pidfd: int, number: int) -> None:
        STAGE.kernel.enter()
        file = STAGE.kernel.file(pidfd)
        assert isinstance(file, PidFile)
        if file.process.reaped:
            raise ProcessLookupError(3, "No such process")
        STAGE.kernel.signal(file.process, number)


class TimeModule:
    """In place of ``time``: a clock that goes on by steps."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def time_ns() -> int:
        return STAGE.kernel.wall + STAGE.kernel.now

    @staticmethod
    def monotonic() -> float:
        return STAGE.kernel.now / 1e9

    @staticmethod
    def monotonic_ns() -> int:
        return STAGE.kernel.now

    @staticmethod
    def clock_gettime_ns(_: int) -> int:
        return STAGE.kernel.now


class SecretsModule:
    """In place of ``secrets``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(secrets, name)

    @staticmethod
    def token_hex(count: int) -> str:
        return STAGE.kernel.random.randbytes(count).hex()


class FcntlModule:
    """In place of ``fcntl``: a lock is its process's, and goes with it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(fcntl, name)

    @staticmethod
    def lockf(fd: int, _operation: int) -> None:
        me, locks = STAGE.kernel.enter(), STAGE.world.locks
        place = os.fstat(fd).st_ino
        holder = locks.get(place)
        if holder is not None and holder.alive and holder is not me:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        locks[place] = me


class LinuxModule:
    """In place of ``shimproc.linux``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(linux, name)

    @staticmethod
    def set_child_subreaper() -> None:
        STAGE.kernel.current.subreaper = True

    @staticmethod
    def pidfd_exit_status(pidfd: int) -> int | None:
        file = STAGE.kernel.file(pidfd)
        assert isinstance(file, PidFile)
        return file.process.status if file.process.reaped and STAGE.kernel.tells_exit else None


def children(pid: int) -> list[int]:
    """In place of ``shimproc.reaper.children``."""
    found = STAGE.kernel.processes.get(pid)
    return list(found.children) if found is not None else []


def begun(pid: int) -> int:
    """In place of ``shimproc.process.estate.begun``."""
    found = STAGE.kernel.processes.get(pid)
    return found.began if found is not None else 0


def point(name: str) -> None:
    """In place of ``shimproc.crash.point``: a call like any other, and counted."""
    STAGE.world.points.add(name)
    STAGE.kernel.enter()


def _process(pid: int) -> Process:
    found = STAGE.kernel.processes.get(pid)
    if found is None:
        raise ProcessLookupError(3, "No such process")
    return found


@contextlib.contextmanager
def interposed(swaps: Mapping[int, Any], one_by_one: Mapping[tuple[str, str], Any]) -> Iterator[None]:
    """Every module of the product that knows one of these knows the stand-in instead.

    Parameters
    ----------
    swaps : by ``id`` of what is replaced, wherever a module of the product has it under whatever name.
    one_by_one : by module and name.
    """
    undo: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if module is None or not name.startswith(_PREFIXES):
            continue
        for attribute, value in list(vars(module).items()):
            stand_in = one_by_one.get((name, attribute)) or swaps.get(id(value))
            if stand_in is not None and not (isinstance(value, type) and value.__module__ == name):
                undo.append((module, attribute, value))
                setattr(module, attribute, stand_in)
    try:
        yield
    finally:
        for module, attribute, value in undo:
            setattr(module, attribute, value)


__all__ = ["begun", "children", "interposed", "point"]
