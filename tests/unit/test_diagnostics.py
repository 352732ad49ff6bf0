"""The daemon's log as JSON: an object a line, whatever it is that speaks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SCRIPT = """
import logging, os, signal, threading, warnings
from actors.diagnostics import configure

class Unraisable:
    def __del__(self):
        raise ValueError("in a finaliser")

def thread():
    raise ValueError("in a thread")

configure("info", "json")
logging.getLogger("of.some.name").error("two\\nlines")
try:
    raise ValueError("caught")
except ValueError:
    logging.exception("told")
warnings.warn("a warning")
worker = threading.Thread(target=thread)
worker.start()
worker.join()
Unraisable()
os.kill(os.getpid(), signal.SIGUSR1)
raise ValueError("nobody caught me")
"""


def told() -> list[dict[str, Any]]:
    """What a process says that is configured so, and to which everything happens."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_line_is_an_object_also_of_tracebacks_warnings_and_stacks() -> None:
    lines = told()
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert lines[0]["message"] == "two\nlines"
    assert (lines[0]["level"], lines[0]["logger"]) == ("error", "of.some.name")
    whole = [f"{line['message']} {line.get('traceback', '')}" for line in lines[1:]]
    for what in ("caught", "a warning", "in a thread", "in a finaliser", "stacks of all threads", "nobody caught me"):
        assert any(what in text for text in whole), what
