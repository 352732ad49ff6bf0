"""The composition root: the only file that knows every room. Builds in order, runs, stops in reverse.

    folders, lock ─▶ sockets ─▶ loop ─▶ store ─▶ exchange ─▶ monitor, runtime ─▶ tasks taken back ─▶ front end ─▶ READY=1
"""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykka
import zmq

from actors import folders, restore
from actors.about import NAME, AboutActor
from actors.api.frontend import FrontEnd, FrontEndSettings
from actors.api.sockets import bind_ipc
from actors.api.watch import Watcher
from actors.catalog import Catalog
from actors.config import Config
from actors.diagnostics import configure
from actors.disk import Disk, DiskActor
from actors.dispatch import post
from actors.exchange import Bounds, Exchange, ExchangeClient, UseStore
from actors.launcher import Launcher, LaunchSettings
from actors.monitor import MonitorActor
from actors.notify import notify
from actors.registry import Registry
from actors.runtime import Parts, RuntimeActor
from actors.runtimes import Runtimes
from actors.store.actor import Store
from actors.task.tools import LogLimits, Tools
from shimproc.loop import Loop
from shimproc.reaper import Reaper

log = logging.getLogger(__name__)
