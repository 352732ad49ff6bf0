"""Waits until a file that another process writes holds something: on inotify(7), never on a clock."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from shimproc import linux

SECONDS = 20.0


def until_holds(path: Path, text: bytes) -> None:
    """Return once ``text`` is in the file; its folder must be there. ``AssertionError`` after ``SECONDS`` without a change."""
    watch = linux.inotify_init()
    try:
        linux.inotify_add_watch(watch, str(path.parent), linux.IN_MODIFY | linux.IN_CREATE | linux.IN_MOVED_TO)
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        while not _holds(path, text):
            assert poll.poll(SECONDS * 1000), f"{text!r} does not come into {path}"
            with contextlib.suppress(BlockingIOError):
                os.read(watch, 65536)
    finally:
        os.close(watch)


def _holds(path: Path, text: bytes) -> bool:
    return path.exists() and text in path.read_bytes()
