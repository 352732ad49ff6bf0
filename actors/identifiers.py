"""Ids, namespaces, topics and credits: checked before anything is done; ids are safe as one path component (API.md, 2)."""

from __future__ import annotations

import re

from shimproc.errors import InvalidArgument

MAX_LENGTH = 76
MAX_CREDIT = 1 << 20
_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*")
_NAMESPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")
_TOPIC = re.compile(r"(?:/[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*)+")


def check_id(value: str, field: str = "id") -> str:
    """``value`` if it is an identifier; ``InvalidArgument`` naming ``field`` otherwise."""
    if not 1 <= len(value) <= MAX_LENGTH or not _IDENTIFIER.fullmatch(value):
        raise InvalidArgument(
            f"{field}: {value[:80]!r} is no identifier: 1 to {MAX_LENGTH} letters and digits, "
            "with single '.', '_' or '-' between them"
        )
    return value


def check_namespace(value: str, field: str = "namespace") -> str:
    """``value`` if it is a namespace's name; ``InvalidArgument`` naming ``field`` otherwise."""
    if not 1 <= len(value) <= MAX_LENGTH or not _NAMESPACE.fullmatch(value):
        raise InvalidArgument(
            f"{field}: {value[:80]!r} is no namespace: 1 to {MAX_LENGTH} characters, "
            "dot-separated labels of letters, digits and inner dashes"
        )
    return value


def check_credit(value: int, field: str = "credit") -> int:
    """``value`` if so many chunks can be asked for; ``InvalidArgument`` naming ``field`` otherwise."""
    if not 1 <= value <= MAX_CREDIT:
        raise InvalidArgument(f"{field}: {value} is not within 1 and {MAX_CREDIT}")
    return value


def check_topic(value: str, field: str = "topic") -> str:
    """``value`` if it is a topic such as ``/builds/done``; ``InvalidArgument`` naming ``field`` otherwise."""
    if len(value) > 4 * MAX_LENGTH or not _TOPIC.fullmatch(value):
        raise InvalidArgument(f"{field}: {value[:80]!r} is no topic: it is /words/with/slashes of letters, digits, '.', '_', '-'")
    return value
