"""How a task is stopped, started again and probed, on the command line: the options of ``run`` and ``containers create``."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import Any, Final

from actors.cli import values
from actors.cli.parser import Parser
from actors.records import Health, Restart, Stop
from shimproc.errors import InvalidArgument

_POLICIES: Final = ("no", "on-failure", "always", "unless-stopped")
_STOP: Final = Stop()


def policy(text: str) -> Restart:
    """``on-failure``, ``on-failure:3``, ``always``, ``unless-stopped`` or ``no``."""
    name, colon, number = text.partition(":")
    if name not in _POLICIES or (colon and name != "on-failure"):
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(_POLICIES)}, on-failure:N")
    return Restart(name, values.count(number) if colon else None)


def add_options(parser: Parser) -> None:
    """All of them."""
    add = parser.add_argument_group("its supervision").add_argument
    add("--restart", type=policy, metavar="POLICY", help="no (default), on-failure[:N], always or unless-stopped; with --detach")
    add("--stop-signal", metavar="SIGNAL", help="what asks it to stop (default SIGTERM)")
    add("--stop-timeout", type=values.span, metavar="TIME", help="how long it has before SIGKILL (default 10s)")
    add("--health-cmd", metavar="COMMAND", help="a shell command in it whose success is health")
    add("--health-interval", type=values.some_span, metavar="TIME", help="between probes (default 30s)")
    add("--health-timeout", type=values.some_span, metavar="TIME", help="for one probe (default 30s)")
    add("--health-retries", type=values.count, metavar="N", help="failures in a row that are ill health (default 3)")
    add("--health-start-period", type=values.span, metavar="TIME", help="failures that come so early do not count (default 0s)")


def params(arguments: Namespace) -> dict[str, Any]:
    """Of ``containers.create``; ``InvalidArgument`` for what does not go together."""
    return {"restart": arguments.restart, "stop": _stop(arguments), "health": _health(arguments)}


def _stop(arguments: Namespace) -> Stop | None:
    if arguments.stop_signal is None and arguments.stop_timeout is None:
        return None
    signal = _STOP.signal if arguments.stop_signal is None else arguments.stop_signal
    return Stop(signal, _STOP.grace if arguments.stop_timeout is None else arguments.stop_timeout)


def _health(arguments: Namespace) -> Health | None:
    given = {
        name: value
        for name in ("interval", "timeout", "retries", "start_period")
        if (value := getattr(arguments, f"health_{name}")) is not None
    }
    if arguments.health_cmd is None:
        if given:
            raise InvalidArgument(f"--health-{next(iter(given)).replace('_', '-')}: it needs --health-cmd")
        return None
    return Health(("/bin/sh", "-c", arguments.health_cmd), **given)
