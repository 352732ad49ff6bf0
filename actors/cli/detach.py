"""The keys that leave a terminal's task running: docker's and podman's notation, and the search for them in what is typed."""

from __future__ import annotations

import string
from argparse import ArgumentTypeError
from typing import Final

DEFAULT_KEYS: Final = "ctrl-p,ctrl-q"
_CONTROLS: Final = string.ascii_lowercase + "@[\\]^_"


def detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or ``a,b``: single characters, or ``ctrl-`` with one of a-z @ [ \\ ] ^ _; an empty text is none."""
    keys = bytearray()
    for key in text.split(",") if text else ():
        name = key.removeprefix("ctrl-")
        if key != name and len(name) == 1 and name.lower() in _CONTROLS:
            keys.append(ord(name.upper()) & 0x1F)
        elif len(key) == 1 and key.isascii() and key.isprintable():
            keys.append(ord(key))
        else:
            raise ArgumentTypeError(f"{text!r}: {key!r} is no key; write single characters or ctrl-X, such as {DEFAULT_KEYS}")
    return bytes(keys)


class DetachSearch:
    """Finds the keys in what is typed. What may be the beginning of them is held back until it is known."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def take(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys were among it: then nothing behind them is."""
        if not self._keys:
            return typed, False
        data = self._held + typed
        before, found, _ = data.partition(self._keys)
        if found:
            return before, True
        most = min(len(self._keys) - 1, len(data))
        held = next((size for size in range(most, 0, -1) if self._keys.startswith(data[-size:])), 0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held], False
