"""``shimyard keys NAME``: a pair of CURVE keys, for a daemon that serves ``tcp://`` or for one of its clients."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from actors.cli.output import show_json
from actors.cli.parser import Parser, Verb
from shimproc.errors import AlreadyExists, InvalidArgument


def _configure(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the files: NAME.key, to be given away, and NAME.key_secret")
    parser.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where to write them (default: here)")


def _keys(arguments: Namespace) -> int:
    import zmq.auth  # noqa: PLC0415 - wrong usage needs none

    public = arguments.folder / f"{arguments.name}.key"
    secret = arguments.folder / f"{arguments.name}.key_secret"
    if "/" in arguments.name or not arguments.folder.is_dir():
        raise InvalidArgument(f"{public}: expected a bare name, and a folder that exists")
    for path in (public, secret):
        if path.exists():
            raise AlreadyExists(f"{path} exists; whoever uses it would be locked out: take another name, or remove it")
    secret.touch(mode=0o600)
    zmq.auth.create_certificates(str(arguments.folder), arguments.name)
    if arguments.json:
        show_json({"public": str(public), "secret": str(secret)})
    else:
        print(f"{public}\n{secret}")
    return 0


VERBS = {"keys": Verb(_configure, _keys)}
