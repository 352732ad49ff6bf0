"""The way from a command line to the daemon: which address, is anybody there, a client for it.

``--address``, else ``--state``, ``SHIMYARD_STATE``, the config file's ``state`` if there is such a file, else the default.
"""

from __future__ import annotations

import os
import socket
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors import locations
from actors.cli.parser import namespace_of
from shimproc.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    from actors.client import Client

_IPC = "ipc://"


def state_of(arguments: Namespace) -> Path:
    """The daemon's folder of sockets."""
    if arguments.state:
        return Path(arguments.state).absolute()
    if not os.environ.get("SHIMYARD_STATE") and _config_file().exists():
        from actors.config import load  # noqa: PLC0415 - only where there is a file to read

        return load({}).state
    return locations.state_dir().absolute()


def address_of(arguments: Namespace) -> str:
    """Where requests go."""
    return arguments.address or locations.api_address(state_of(arguments))


def is_served(address: str) -> bool:
    """Does somebody listen there? Only a socket of this host can be asked without a request; others are taken to be."""
    if not address.startswith(_IPC):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(address.removeprefix(_IPC))
        except PermissionError:  # somebody's, and the request will say so
            return True
        except OSError:
            return False
    return True


def has_our_files(arguments: Namespace) -> bool:
    """Is the daemon on this host, so that a path is the same for both?"""
    return address_of(arguments).startswith(_IPC)


def connect(arguments: Namespace, *, timeout: float | None = None) -> Client:
    """A client in the namespace of the command line; ``Unavailable`` if no daemon is there."""
    address = address_of(arguments)
    if not is_served(address):
        raise Unavailable(f"no daemon serves {address}; start one: shimyard daemon")
    return dial(arguments, timeout)


def dial(arguments: Namespace, timeout: float | None = None, *, patience: float | None = None) -> Client:
    """A client; pyzmq is imported only now. ``patience``: seconds that the daemon may be away (default: the client's)."""
    from actors.client import Client, Curve  # noqa: PLC0415 - --help and wrong usage need none

    address = address_of(arguments)
    own = arguments.key or os.environ.get("SHIMYARD_KEY")
    server = arguments.server_key or os.environ.get("SHIMYARD_SERVER_KEY")
    curve = None
    if address.startswith("tcp://"):
        if not own or not server:
            raise InvalidArgument(f"--address: {address} needs --key and --server-key; make yours with: shimyard keys NAME")
        curve = Curve.load(server, own)
    more = {} if patience is None else {"patience": patience}
    return Client(address, namespace=namespace_of(arguments), timeout=timeout, curve=curve, **more)


def about(client: Client) -> Mapping[str, Any]:
    """What the daemon says of itself (``version``)."""
    found: Mapping[str, Any] = client.version()
    return found


def _config_file() -> Path:
    named = os.environ.get("SHIMYARD_CONFIG")
    return Path(named) if named else locations.config_file()
