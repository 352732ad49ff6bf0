"""Which OCI runtimes this host can use, and which one a container gets."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.records import Runtime
from shimproc.errors import FailedPrecondition, InvalidArgument
from shimproc.runtimes.probe import Probe, probe
from shimproc.runtimes.probe_criu import why_no_checkpoint

KNOWN = ("crun", "runc", "process")
"""In order of preference: the default is the first that is usable."""


class Runtimes:
    """The outcome of probing this host, and the choice that follows."""

    def __init__(self, state: Path, preferred: str, probes: tuple[Probe, ...]) -> None:
        self._state = state
        self._preferred = preferred
        self._probes = {found.name: found for found in probes}
        self._no_checkpoint: dict[str, str | None] = {}

    @classmethod
    def probe(cls, state: Path, preferred: str) -> Runtimes:
        """Try every known runtime, and the preferred one. Takes some tens of milliseconds: not on the loop."""
        names = KNOWN if not preferred or preferred in KNOWN else (preferred, *KNOWN)
        return cls(state, preferred, tuple(probe(name) for name in names))

    def told(self) -> list[dict[str, Any]]:
        """For ``version``: ``{name, path, version, usable, why, checkpoint, checkpoint_why}`` each.

        The first time CRIU is looked for and tried, which takes 50 ms: not on the loop.
        """
        if not self._no_checkpoint:
            self._no_checkpoint = {found.name: why_no_checkpoint(found) for found in self._probes.values()}
        told = []
        for found in self._probes.values():
            why = self._no_checkpoint[found.name]
            told.append({**asdict(found), "checkpoint": why is None, "checkpoint_why": why})
        return told

    @property
    def default(self) -> str:
        """The configured runtime, else the first usable one."""
        if self._preferred:
            return self._preferred
        return next(name for name in KNOWN if self._probes[name].usable)

    def resolve(self, runtime: Runtime) -> Mapping[str, Any]:
        """What a shim is told: name, command and root. ``FailedPrecondition`` where it cannot be used, and why."""
        name = runtime.name or self.default
        options = asdict(runtime.options)
        if name == "process":
            return {"name": name, "command": "", "root": "", "options": options}
        root = options["root"] or str(self._state / "oci" / Path(name).name)
        return {"name": name, "command": self._command(name), "root": root, "options": options}

    def _command(self, name: str) -> str:
        known = self._probes.get(name)
        if known is not None and not known.usable:
            raise FailedPrecondition(f"runtime.name: {name} cannot be used on this host: {known.why}")
        if known is None and not Path(name).is_absolute():
            raise InvalidArgument(f"runtime.name: {name!r} is neither {', '.join(KNOWN)} nor an absolute path")
        command = shutil.which(name)
        if command is None:
            raise FailedPrecondition(f"runtime.name: {name} is not installed or not executable; install it or name another")
        return command
