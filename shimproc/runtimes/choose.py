"""From a create request to the backend that serves it."""

from __future__ import annotations

import json

from shimproc.messages import Create
from shimproc.reaper import Reaper
from shimproc.runtimes.backend import Backend
from shimproc.runtimes.container import OciBackend
from shimproc.runtimes.oci import OciOptions, OciRuntime
from shimproc.runtimes.plain import PlainBackend


def backend_of(request: Create, reaper: Reaper) -> Backend:
    """``process`` is built in; every other name comes with the path of its command."""
    runtime, bundle = request.runtime, request.bundle
    if runtime["name"] == "process":
        with open(f"{bundle}/config.json", "rb") as config:  # noqa: PTH123 - pathlib costs the shim memory
            spec = json.load(config)
        chroot = f"{bundle}/rootfs" if request.mounts else None
        return PlainBackend(spec, request.runtime_id, chroot, reaper)
    options = runtime["options"]
    settings = OciOptions(
        command=runtime["command"],
        root=runtime["root"],
        bundle=bundle,
        id=request.runtime_id,
        systemd_cgroup=bool(options.get("systemd_cgroup")),
        no_pivot_root=bool(options.get("no_pivot_root")),
        no_new_keyring=bool(options.get("no_new_keyring")),
        criu=options.get("criu_path") or None,
    )
    return OciBackend(OciRuntime(settings, reaper), reaper)
