"""Where the daemon's two folders are when nobody says otherwise (API.md, section 1). Imports next to nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """STATE: sockets, locks, bundles; need not outlive a reboot."""
    if given := environ.get("SHIMYARD_STATE"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/shimyard")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "shimyard"
    return Path(f"/tmp/shimyard-{os.geteuid()}")  # noqa: S108 - made 0711 and checked to be ours


def root_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """ROOT: metadata, event log, task logs; outlives a reboot."""
    if given := environ.get("SHIMYARD_ROOT"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/shimyard")
    data = environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data) / "shimyard"


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The config file that is read if it exists and no other is named."""
    if os.geteuid() == 0:
        return Path("/etc/shimyard/config.toml")
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "shimyard/config.toml"


def api_address(state: Path) -> str:
    """The API socket's address in a state folder."""
    return f"ipc://{state}/api.sock"


def events_address(state: Path) -> str:
    """The events socket's address in a state folder."""
    return f"ipc://{state}/events.sock"
