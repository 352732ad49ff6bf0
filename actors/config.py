"""The daemon's configuration: flags, environment, TOML file, defaults, in that order of strength; frozen once read.

``KEYS`` is the one place where a key is named, typed and explained; the file, ``--help`` and the README follow from it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from actors import locations
from actors.shape import nearest
from shimproc.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file, with its table: ``events.keep``. ``least``: the smallest number that makes sense."""

    name: str
    type: type
    default: Any
    doc: str
    least: int = 0


KEYS: Final = (
    Key("shim", str, "", "program that starts the forkserver in place of the built-in one: a path, or a name on PATH"),
    Key("runtime", str, "", "default runtime: crun, runc, process or an absolute path; empty: the first usable of these"),
    Key("no_shim", bool, False, "serve tasks inside the daemon, without a shim process; they do not outlive it"),
    Key("shim_debug", bool, False, "shims write a debug log, shim.log in the bundle"),
    Key("state", str, "", "folder for sockets, locks and bundles; empty: as the API document says"),
    Key("root", str, "", "folder for metadata, events and logs; empty: as the API document says"),
    Key("api.addresses", list, [], "further addresses of the API: ipc://PATH, or tcp://HOST:PORT with CURVE"),
    Key("api.group", str, "", "group whose members may connect to the API and events sockets (0660 instead of 0600)"),
    Key("api.allowed_uids", list, [], "uids that may send requests, beside the daemon's own and root"),
    Key("api.max_message", int, 16 << 20, "longest request in bytes; longer ones are not read", 1024),
    Key("api.requests_per_client", int, 16384, "requests that one client may have in flight", 1),
    Key("api.streams_per_client", int, 1024, "streaming answers that one client may have open", 1),
    Key("api.keys", int, 500_000, "idempotency keys that are kept, of all clients; each for ten minutes", 1),
    Key("api.curve_server_key", str, "", "file with the server's CURVE secret key (zmq.auth.create_certificates)"),
    Key("api.curve_client_keys", str, "", "folder with the public keys of the clients that may connect over tcp://"),
    Key("events.addresses", list, [], "further addresses of the events socket"),
    Key("events.keep", int, 1_000_000, "events kept for replay", 1000),
    Key("events.subscriber_queue", int, 100_000, "events that wait for a slow subscriber before it misses some or ends", 1000),
    Key("events.subscriptions_per_client", int, 1000, "subscriptions that one connection may have before it is closed", 1),
    Key("metrics.address", str, "", "where Prometheus finds /metrics: HOST:PORT, or a unix socket's path; empty: nowhere"),
    Key("metrics.tasks", int, 0, "tasks of which single CPU, memory, pids and I/O are told there, at most; 0: of none"),
    Key("log.level", str, "info", "debug, info, warning or error"),
    Key("log.format", str, "text", "text, or json: an object a line"),
    Key("stdio.log_size", int, 64 << 20, "bytes after which a task's managed log is rotated", 4096),
    Key("stdio.log_files", int, 4, "how many files a managed log has at most, the current one included", 1),
)
_CHOICES: Final = {"log.level": ("debug", "info", "warning", "error"), "log.format": ("text", "json")}
_KINDS: Final = {str: "text", int: "an integer", bool: "true or false", list: "a list"}
_MANY: Final = {str: "texts", int: "integers"}
_RUNTIMES: Final = ("crun", "runc", "process")


@dataclass(frozen=True, slots=True)
class Config:
    """``values``: every key of ``KEYS`` with what holds."""

    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def state(self) -> Path:
        """STATE."""
        return Path(self.values["state"]).absolute()

    @property
    def root(self) -> Path:
        """ROOT."""
        return Path(self.values["root"]).absolute()


def load(flags: Mapping[str, Any], file: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration that holds.

    Parameters
    ----------
    flags : keys given on the command line; None means not given.
    file : the file named there; else SHIMYARD_CONFIG, else the default one if it exists.

    Raises ``InvalidArgument`` naming the key and, for an unknown one, the nearest.
    """
    values = {key.name: key.default for key in KEYS}
    values |= _from_file(_file(file, environ))
    for name, variable in (("state", "SHIMYARD_STATE"), ("root", "SHIMYARD_ROOT")):
        if environ.get(variable):
            values[name] = environ[variable]
    for name, value in flags.items():
        if value is not None:
            values[name] = _checked(name, value, "the command line")
    values["state"] = values["state"] or str(locations.state_dir(environ))
    values["root"] = values["root"] or str(locations.root_dir(environ))
    return Config(values)


def sample() -> str:
    """A config file with every key, its default and what it is for, all commented out."""
    lines: list[str] = []
    table = ""
    for key in KEYS:
        prefix, _, name = key.name.rpartition(".")
        if prefix != table:
            table = prefix
            lines += ["", f"[{table}]"]
        lines += [f"# {key.doc}", f"#{name} = {json.dumps(key.default)}"]
    return "\n".join(lines) + "\n"


def _file(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    if named is not None:
        return named
    if environ.get("SHIMYARD_CONFIG"):
        return Path(environ["SHIMYARD_CONFIG"])
    default = locations.config_file(environ)
    return default if default.exists() else None


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise InvalidArgument(f"config file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"config file {path}: {error}") from error
    where = f"config file {path}"
    tables = {key.name.partition(".")[0] for key in KEYS if "." in key.name}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if not isinstance(value, Mapping):
            if name in tables:
                raise InvalidArgument(f"{where}: {name}: expected a table, [{name}], got {value!r}")
            values[name] = value
        elif name in tables:
            values |= {f"{name}.{inner}": item for inner, item in value.items()}
        elif name in {key.name for key in KEYS}:
            raise InvalidArgument(f"{where}: {name}: it is a key, not a table; write {name} = ...")
        else:
            raise InvalidArgument(f"{where}: unknown table [{name}]{nearest(name, tables)}")
    return {name: _checked(name, value, where) for name, value in values.items()}


def _checked(name: str, value: Any, where: str) -> Any:
    key = next((known for known in KEYS if known.name == name), None)
    if key is None:
        raise InvalidArgument(f"{where}: unknown key {name!r}{nearest(name, [known.name for known in KEYS])}")
    if not isinstance(value, key.type) or (key.type is int and isinstance(value, bool)):
        raise InvalidArgument(f"{where}: {name}: expected {_KINDS[key.type]}, got {value!r}")
    if isinstance(value, list):
        kind = int if name == "api.allowed_uids" else str
        wrong = next((item for item in value if type(item) is not kind), None)
        if wrong is not None:
            raise InvalidArgument(f"{where}: {name}: expected a list of {_MANY[kind]}, got {wrong!r} in it")
    if isinstance(value, int) and value < key.least:
        raise InvalidArgument(f"{where}: {name}: {value} is less than {key.least}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise InvalidArgument(f"{where}: {name}: {value!r} is none of {', '.join(_CHOICES[name])}")
    if name == "runtime" and value and value not in _RUNTIMES and not str(value).startswith("/"):
        raise InvalidArgument(f"{where}: {name}: {value!r} is none of {', '.join(_RUNTIMES)}, nor an absolute path")
    return value
