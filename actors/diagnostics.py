"""The daemon's own log: text for people, or a JSON object a line; and the stacks of all threads on SIGUSR1.

As JSON every line is one, also what Python itself would write to stderr: warnings, exceptions that nobody caught, stacks.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)
TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(level: str, layout: str) -> None:
    """Log to stderr from ``level`` on, as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if layout == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("pykka").setLevel(logging.WARNING)  # it formats a line for each actor's birth and death
    if layout == "json":
        logging.captureWarnings(capture=True)
        sys.excepthook = _on_uncaught
        threading.excepthook = lambda caught: _on_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)
        sys.unraisablehook = lambda caught: _on_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)
        signal.signal(signal.SIGUSR1, _on_stacks_wanted)
    else:
        faulthandler.register(signal.SIGUSR1)  # tells even when the interpreter is stuck


def _on_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    log.critical("an exception that nobody caught", exc_info=(kind, error or kind(), trace))


def _on_stacks_wanted(*_: Any) -> None:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - documented, for debugging
    stacks = [
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}" for ident, frame in frames.items()
    ]
    log.warning("the stacks of all threads:\n%s", "\n".join(stacks))
