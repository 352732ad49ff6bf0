"""The parts of README.md that are made from the code, so that they cannot be wrong.

``python -m tests.support.readme`` writes them anew; a test compares them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from actors.config import KEYS
from actors.task.states import REQUESTS, TASK_STATES
from shimproc.machine import table
from tests.support.sources import CHECKOUT

README = CHECKOUT / "README.md"
_REFUSALS = ("failed_precondition", "not_found")
_OWN_DOING = ("created", "started", "unstarted", "paused", "unpaused", "resumed", "checkpointed", "uncheckpointed", "exited")


def configuration() -> str:
    """Every key of the config file."""
    rows = [f"| `{key.name}` | `{json.dumps(key.default)}` | {key.doc} |" for key in KEYS]
    return "\n".join(["| key | default | what it is |", "|---|---|---|", *rows])


def states() -> str:
    """What moves a task from one state to another: requests, and what its shim tells."""
    moves: dict[tuple[str, str], list[str]] = {}
    for (state, request), after in table(TASK_STATES, REQUESTS).items():
        if after not in (*_REFUSALS, state):
            moves.setdefault((state, after), []).append(request)
    lines = [f"    {state} --> {after}: {_label(requests)}" for (state, after), requests in moves.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> creating", *lines, "    deleting --> [*]", "```"])


def _label(requests: list[str]) -> str:
    """A forced delete goes where a delete goes, where both may."""
    shown = [name for name in requests if name != "force_delete" or "delete" not in requests]
    return ", ".join(f"({name})" if name in _OWN_DOING else name.replace("_", " ") for name in shown)


PARTS: Mapping[str, Callable[[], str]] = {"configuration": configuration, "states": states}


def block(text: str, name: str) -> str:
    """What stands between the markers of a part."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found, f"README.md has no part {name}"
    return found[1]


def command(text: str, name: str) -> str:
    """The shell command that stands after a marker."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)\n```", text, re.DOTALL)
    assert found, f"README.md has no {name}"
    return found[1]


def renewed(text: str) -> str:
    """The README with every part as the code has it."""
    for name, make in PARTS.items():
        text = text.replace(f"<!-- {name} -->\n{block(text, name)}\n", f"<!-- {name} -->\n{make()}\n")
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
