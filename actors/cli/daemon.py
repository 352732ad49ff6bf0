"""``shimyard daemon``: runs it in the foreground; ``daemon stop`` ends it and waits; ``daemon config`` prints a config file."""

from __future__ import annotations

import os
import select
import signal
from argparse import Namespace
from pathlib import Path
from typing import Final

from actors.cli.connection import about, address_of, connect
from actors.cli.output import say, show_json
from actors.cli.parser import Parser, Verb
from shimproc.errors import DeadlineExceeded, FailedPrecondition, NotFound, PermissionDenied

_ACTIONS: Final = ("run", "stop", "config")
_SECONDS: Final = 30.0


def _configure(parser: Parser) -> None:
    parser.usage = f"{parser.prog} [options] [stop | config]"
    add = parser.add_argument
    add(
        "action",
        nargs="?",
        default="run",
        choices=_ACTIONS,
        metavar="ACTION",
        help="stop: end the running one (its tasks run on); config: print a config file with every key explained",
    )
    add("--root", metavar="DIR", help="folder for metadata, events and logs (SHIMYARD_ROOT)")
    add("--config", metavar="FILE", type=Path, help="config file, TOML (SHIMYARD_CONFIG)")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add("--log-format", metavar="FORMAT", help="text, or json: an object a line")


def _daemon(arguments: Namespace) -> int:
    deeds = {"run": _run, "stop": _stop, "config": _config}
    return deeds[arguments.action](arguments)


def _run(arguments: Namespace) -> int:
    from actors.config import load  # noqa: PLC0415 - stop needs neither
    from actors.daemon import main  # noqa: PLC0415

    flags = {
        "state": arguments.state,
        "root": arguments.root,
        "log.level": arguments.log_level,
        "log.format": arguments.log_format,
    }
    arguments.json = arguments.json or arguments.log_format == "json"  # a config that is refused is a line of JSON, too
    return main(load(flags, arguments.config))


def _stop(arguments: Namespace) -> int:
    """SIGTERM to whoever answers there; it is over when the process is."""
    with connect(arguments, timeout=_SECONDS) as client:
        pid = int(about(client)["pid"])
    try:
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not select.select([pidfd], [], [], _SECONDS)[0]:
                raise DeadlineExceeded(f"the daemon (pid {pid}) has not ended after {_SECONDS:.0f} seconds; see its log")
        finally:
            os.close(pidfd)
    except ProcessLookupError:
        raise NotFound(f"the daemon at {address_of(arguments)} is pid {pid}, but no process here; stop it on its host") from None
    except PermissionError:
        raise PermissionDenied(f"the daemon (pid {pid}) is another user's; stop it as that user or as root") from None
    except OSError as error:
        raise FailedPrecondition(f"the daemon (pid {pid}) cannot be stopped: {error.strerror}") from error
    if arguments.json:
        show_json({"pid": pid, "stopped": True})
    else:
        say(f"stopped the daemon (pid {pid}); its tasks run on")
    return 0


def _config(_: Namespace) -> int:
    from actors.config import sample  # noqa: PLC0415

    print(sample(), end="")
    return 0


VERBS = {"daemon": Verb(_configure, _daemon)}
