"""What every task actor is given: the ways to the rest of the daemon, and the folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka

from actors.disk import Disk
from actors.exchange import ExchangeClient
from actors.launcher import Launcher
from actors.relics import Relics


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Rotation of ``log:`` output: bytes of a file, number of files."""

    max_size: int
    max_files: int


@dataclass(frozen=True, slots=True)
class Tools:
    """Shared by all tasks; no task knows another by it."""

    state: Path
    root: Path
    logs: LogLimits
    exchange: ExchangeClient
    launcher: Launcher
    disk: Disk
    runtime: pykka.ActorRef[Any]
    monitor: pykka.ActorRef[Any]
    relics: Relics

    def log_path(self, namespace: str, container_id: str) -> Path:
        """Where the managed log of a container's init is kept."""
        return log_path(self.root, namespace, container_id)

    def criu_path(self, namespace: str, container_id: str) -> str:
        """Where CRIU's logs are kept, unless the request says where: as long as the container is."""
        return str(self.log_path(namespace, container_id).parent / "criu")

    def log_settings(self, namespace: str, container_id: str, exec_id: str | None = None) -> dict[str, Any]:
        """What a shim needs to know of the managed log of init, or of an exec."""
        path = log_path(self.root, namespace, container_id, exec_id)
        return {"path": str(path), "max_size": self.logs.max_size, "max_files": self.logs.max_files}


def log_path(root: Path, namespace: str, container_id: str, exec_id: str | None = None) -> Path:
    """Where the managed log of a container's init, or of one of its execs, is kept."""
    folder = root / "logs" / namespace / container_id
    return folder / "log" if exec_id is None else folder / "execs" / exec_id / "log"
