"""Where the daemon's two folders are when nobody says otherwise (API.md, section 1). Imports next to nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from shimproc.errors import FailedPrecondition


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """STATE: sockets, locks, bundles; need not outlive a reboot."""
    if given := environ.get("SHIMYARD_STATE"):
        return Path(given)
    if os.geteuid() == 0:
        return Path("/run/shimyard")
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "shimyard"
    return claimed(Path(f"/tmp/shimyard-{os.geteuid()}"))  # noqa: S108 - where anyone may have made it


def claimed(folder: Path) -> Path:
    """A folder where anyone may make one: ours from now on. ``FailedPrecondition`` if somebody else was faster: whoever serves
    there is not to be told anything."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o711)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FailedPrecondition(
            f"{folder} was made by uid {found.st_uid} and is no folder of yours; remove it, or name another with SHIMYARD_STATE"
        )
    return folder


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
