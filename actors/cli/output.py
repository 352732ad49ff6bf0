"""What the command line shows: tables for people, JSON for programs, errors on stderr.

JSON keeps the wire's names and integers (times: ns since the epoch); bytes are text where they are UTF-8, else
``{"base64": ...}``. For people times are ISO 8601 in local time. No colours anywhere.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from shimproc.errors import ShimyardError, to_map


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as they need, separated by three spaces; ``None`` is shown as ``-``. Always has the headings."""
    lines = [list(headings), *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    padded = ("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def plain(value: Any) -> Any:
    """``value`` as JSON can have it: records as maps, bytes as text."""
    if is_dataclass(value) and not isinstance(value, type):
        from actors.shape import dump  # noqa: PLC0415 - not for those who print no record

        value = dump(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return _text(value)
    return value


def show_json(value: Any) -> None:
    """A whole document, indented."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def show_json_line(value: Any) -> None:
    """One line of a stream, at once."""
    print(json.dumps(plain(value), ensure_ascii=False), flush=True)


def when(nanoseconds: int | None) -> str | None:
    """``2026-02-03 04:05:06`` in local time; None and 0 (never) stay away."""
    if not nanoseconds:
        return None
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds // 1_000_000_000))


def precisely(nanoseconds: int) -> str:
    """``2026-02-03T04:05:06.789012345+0100``: for logs and events."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{rest:09d}{time.strftime('%z', local)}"


def say(message: str) -> None:
    """A line for people on stderr; nobody there to read it is no failure."""
    try:
        print(f"shimyard: {message}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def complain(error: ShimyardError, *, as_json: bool = False, about: str = "") -> None:
    """An error on stderr: ``shimyard: not found: ...``, or ``{"error": {code, message, details}}``.

    Parameters
    ----------
    about : which of several things it is about; said where the message does not.
    """
    if as_json:
        print(json.dumps({"error": plain(to_map(error))}, ensure_ascii=False), file=sys.stderr, flush=True)
    else:
        subject = f"{about}: " if about and about not in error.message else ""
        say(f"{subject}{error.code.replace('_', ' ')}: {error.message}")


def amount(number: int | None) -> str:
    """Bytes as ``1.5M``; the units are powers of 1024, and None is ``-``."""
    if number is None:
        return "-"
    size = float(number)
    for unit in ("B", "K", "M", "G"):
        if size < 1024:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _cell(value: Any) -> str:
    return printable("-" if value is None else str(value))


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        import base64  # noqa: PLC0415 - rarely needed

        return {"base64": base64.b64encode(data).decode()}
