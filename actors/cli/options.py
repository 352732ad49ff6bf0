"""What describes a container on the command line, for ``run`` and ``containers create``, as the params of the API.

The spec is that of ``--spec`` or ``--bundle``, else the usual one of container engines (``actors.specs``); the options go on
top of it. Without a rootfs, a bundle or a spec the container gets a private writable overlay over the host's own files; the
runtime ``process`` runs on the host's files themselves, and what it cannot do is refused instead of ignored.
"""

from __future__ import annotations

import json
import os
from argparse import REMAINDER, ArgumentTypeError, Namespace
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from actors.cli import supervision, values
from actors.cli.parser import Parser
from actors.records import Mount, Runtime
from actors.specs import default_spec, host_rootfs
from shimproc.errors import InvalidArgument

PLAIN: Final = "process"
_ADJECTIVES: Final = (
    *("brave", "calm", "clever", "eager", "fair", "fast", "fine", "free", "glad"),
    *("gold", "good", "keen", "kind", "late", "mild", "neat", "new", "nice"),
)
_NOUNS: Final = (
    *("badger", "beaver", "crane", "eagle", "falcon", "finch", "fox", "hare", "heron"),
    *("lark", "lynx", "marten", "otter", "owl", "raven", "seal", "swan", "wren"),
)


def add_options(parser: Parser) -> None:
    """All of them, and the command."""
    parser.usage = f"{parser.prog} [options] [--] COMMAND [ARG ...]"
    parser.add_argument("--name", metavar="ID", help="the id of container and task (default: a made-up one)")
    _add_process(parser)
    _add_files(parser)
    _add_limits(parser)
    supervision.add_options(parser)
    parser.add_argument("command", nargs=REMAINDER, metavar="COMMAND", help="what to run, with its arguments")


def made_up_name() -> str:
    """``calm-otter-3f9a2c``: easy to say, and hardly ever taken."""
    first, second, *rest = os.urandom(5)
    return f"{_ADJECTIVES[first % len(_ADJECTIVES)]}-{_NOUNS[second % len(_NOUNS)]}-{bytes(rest).hex()}"


def container(arguments: Namespace, runtime: str) -> dict[str, Any]:
    """The params of ``containers.create``; ``InvalidArgument`` for what does not go together.

    Parameters
    ----------
    runtime : the one that will run it: the daemon's default where the command line names none.
    """
    plain = runtime == PLAIN
    if plain:
        _refuse_isolation(arguments)
    args = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    spec, rootfs, files = _foundation(arguments, args, plain=plain)
    _set_process(spec, arguments, args, files)
    _set_isolation(spec, arguments)
    _set_resources(spec, arguments)
    return {
        "id": arguments.name or made_up_name(),
        "spec": spec,
        "rootfs": rootfs,
        "runtime": Runtime(runtime),
        "labels": dict(arguments.label),
        "timeout": arguments.timeout,
        **supervision.params(arguments),
    }


def _add_process(parser: Parser) -> None:
    add = parser.add_argument_group("the process").add_argument
    variable = {"default": [], "action": "append", "metavar": "NAME[=VALUE]", "type": values.variable}
    add("-e", "--env", **variable, help="set a variable, or pass on the one that is set here")  # type: ignore[arg-type]
    add("--env-file", default=[], action="append", metavar="FILE", type=values.variables, help="a variable a line")
    add("-w", "--workdir", metavar="DIR", help="working directory (default /)")
    add("-u", "--user", metavar="USER[:GROUP]", help="names of the container's files, or numbers (default root)")
    add("--hostname", metavar="NAME", help="its hostname")
    add("--network", choices=("none", "host"), help="none: a loopback interface of its own (default); host: the host's")
    add("--runtime", metavar="NAME", help="crun, runc, process, or the path of an OCI runtime (default: the daemon's)")
    add("--timeout", type=values.some_span, metavar="TIME", help="stop it after this time: seconds, or 90s, 5m, 1h30m")
    add(
        *("-l", "--label"),
        default=[],
        action="append",
        type=values.label,
        metavar="KEY=VALUE",
        help="a label, to filter by",
    )


def _add_files(parser: Parser) -> None:
    group = parser.add_argument_group("its files")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--rootfs", metavar="DIR", help="a folder with a root file system; it is written to")
    source.add_argument("--host-rootfs", action="store_true", help="a private writable overlay over the host's files (default)")
    source.add_argument("--bundle", metavar="DIR", help="an OCI bundle: its config.json and its rootfs")
    group.add_argument("--spec", metavar="FILE", help="an OCI config.json to begin with")
    group.add_argument(
        *("-v", "--volume"),
        default=[],
        action="append",
        type=values.volume,
        metavar="SOURCE:TARGET[:ro]",
        help="show a folder or file of the host inside",
    )
    group.add_argument(
        "--mount",
        default=[],
        action="append",
        type=values.mount,
        metavar="type=bind,source=S,target=T[,ro]",
        help="the same in more words; or type=tmpfs,target=T[,size=64m]",
    )
    group.add_argument(
        "--tmpfs", default=[], action="append", type=values.tmpfs, metavar="TARGET[:size=64m]", help="files in memory"
    )


def _add_limits(parser: Parser) -> None:
    add = parser.add_argument_group("its limits").add_argument
    add("-m", "--memory", type=values.size, metavar="SIZE", help="most memory, such as 64m or 2g")
    add("--cpus", type=values.cpus, metavar="N", help="most CPU time, such as 0.5 or 2")
    add("--pids", type=values.count, metavar="N", help="most processes and threads")
    add(
        "--ulimit",
        default=[],
        action="append",
        type=values.ulimit,
        metavar="NAME=SOFT[:HARD]",
        help="a limit of setrlimit(2), such as nofile=1024:2048",
    )


def _refuse_isolation(arguments: Namespace) -> None:
    given = {
        "--host-rootfs": arguments.host_rootfs,
        "--volume": arguments.volume,
        "--mount": arguments.mount,
        "--tmpfs": arguments.tmpfs,
        "--hostname": arguments.hostname,
        "--network none": arguments.network == "none",
    }
    for name, value in given.items():
        if value:
            raise InvalidArgument(f"{name}: the runtime process isolates nothing; leave it out, or use --runtime crun or runc")


def _foundation(
    arguments: Namespace, args: list[str], *, plain: bool
) -> tuple[dict[str, Any], tuple[Mount, ...], Path]:
    """The spec before any option, the rootfs mounts, and where the container's files can be read from here."""
    if arguments.bundle:
        if arguments.spec:
            raise InvalidArgument("--spec: a bundle has a config.json of its own; leave --spec or --bundle out")
        return _of_file(Path(arguments.bundle, "config.json"))
    rootfs = _rootfs(arguments, plain=plain)
    files = Path(arguments.rootfs or "/")
    if arguments.spec:
        spec, own, own_files = _of_file(Path(arguments.spec))
        return (spec, rootfs, files) if arguments.rootfs or arguments.host_rootfs else (spec, own, own_files)
    if not args:
        raise InvalidArgument("no command: write it after the options, such as shimyard run -- echo hello")
    spec = dict(default_spec(args, host=plain))
    return spec, rootfs, files


def _rootfs(arguments: Namespace, *, plain: bool) -> tuple[Mount, ...]:
    if arguments.rootfs:
        folder = Path(arguments.rootfs)
        if not folder.is_dir():
            raise InvalidArgument(f"--rootfs: {folder} is no folder")
        return (Mount("bind", str(folder.absolute()), ("rbind", "rw")),)
    return () if plain else tuple(host_rootfs())


def _of_file(path: Path) -> tuple[dict[str, Any], tuple[Mount, ...], Path]:
    """A config.json; a relative ``root.path`` is beside it (runtime-spec, "Filesystem Bundle")."""
    try:
        spec = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidArgument(f"{path} is no JSON: {error}") from error
    if not isinstance(spec, dict) or not isinstance(spec.get("process", {}), dict):
        raise InvalidArgument(f"{path} is no OCI config.json: expected a map with process")
    root = (spec.get("root") or {}).get("path")
    if not isinstance(root, str):
        return spec, (), Path("/")
    folder = (path.parent / root).absolute()
    if not folder.is_dir():
        raise InvalidArgument(f"{path}: its root.path {folder} is no folder")
    return spec, () if Path(root).is_absolute() else (Mount("bind", str(folder), ("rbind", "rw")),), folder


def _set_process(spec: dict[str, Any], arguments: Namespace, args: list[str], files: Path) -> None:
    process = spec["process"] = dict(spec.get("process") or {})
    if args:
        process["args"] = args
    given = [entry for entry in (*chain.from_iterable(arguments.env_file), *arguments.env) if entry]
    if given:
        merged = {entry.partition("=")[0]: entry for entry in (*(process.get("env") or ()), *given)}
        process["env"] = list(merged.values())
    if process.get("terminal"):  # as `runc spec` writes it; but streams are passed on as they are
        process["terminal"] = False
    if arguments.workdir:
        process["cwd"] = arguments.workdir
    if arguments.user:
        try:
            umask = {name: value for name, value in (process.get("user") or {}).items() if name == "umask"}
            process["user"] = {**umask, **values.user(arguments.user, files)}
        except ArgumentTypeError as error:
            raise InvalidArgument(f"--user: {error}") from None
    if arguments.ulimit:
        merged = {limit["type"]: limit for limit in (*(process.get("rlimits") or ()), *arguments.ulimit)}
        process["rlimits"] = list(merged.values())


def _set_isolation(spec: dict[str, Any], arguments: Namespace) -> None:
    mounts = [*arguments.volume, *arguments.mount, *arguments.tmpfs]
    if mounts:
        replaced = {mount["destination"] for mount in mounts}
        kept = [mount for mount in spec.get("mounts") or () if mount["destination"] not in replaced]
        spec["mounts"] = [*kept, *mounts]
    if arguments.hostname:
        spec["hostname"] = arguments.hostname
    if arguments.network:
        linux = spec["linux"] = dict(spec.get("linux") or {})
        others = [namespace for namespace in linux.get("namespaces") or () if namespace.get("type") != "network"]
        linux["namespaces"] = others + ([{"type": "network"}] if arguments.network == "none" else [])


def _set_resources(spec: dict[str, Any], arguments: Namespace) -> None:
    wanted: Mapping[str, Mapping[str, int] | None] = {
        "memory": arguments.memory and {"limit": arguments.memory},
        "cpu": arguments.cpus,
        "pids": arguments.pids and {"limit": arguments.pids},
    }
    given = {name: value for name, value in wanted.items() if value}
    if given:
        linux = spec["linux"] = dict(spec.get("linux") or {})
        resources = linux["resources"] = dict(linux.get("resources") or {})
        for name, value in given.items():
            resources[name] = {**(resources.get(name) or {}), **value}
