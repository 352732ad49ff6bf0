"""CURVE for ``tcp://`` addresses (rfc.zeromq.org/26): our keys, and who may come in, asked at each handshake by ZAP (rfc/27).

Options of a libzmq socket hold for the binds that follow, so one socket serves ipc peers, known by their uid, and tcp peers,
known by their key. The folder of clients' keys is read anew at each handshake: who is added or removed there needs no restart.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.auth
from zmq.auth.base import Authenticator

from actors.config import Config
from actors.sockets import bind_ipc
from shimproc.errors import FailedPrecondition, InvalidArgument
from shimproc.flow import spawn
from shimproc.loop import READ, LoopLike

log = logging.getLogger(__name__)
_DOMAIN: Final = "shimyard"
_IPC, _TCP = "ipc://", "tcp://"


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The daemon's key pair, and the folder with the public keys (``*.key``) of those who may connect."""

    public: bytes
    secret: bytes
    clients: Path

    @classmethod
    def load(cls, config: Config) -> ServerKeys | None:
        """From the files that the config names; None where it names none. ``InvalidArgument`` names the key of the config."""
        file, folder = config["api.curve_server_key"], config["api.curve_client_keys"]
        if not file and not folder:
            return None
        if not file or not folder:
            missing = "api.curve_client_keys" if file else "api.curve_server_key"
            raise InvalidArgument(f"{missing}: it is missing; CURVE needs the server's key and the folder of clients' keys")
        try:
            public, secret = zmq.auth.load_certificate(file)
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"api.curve_server_key: {error}") from error
        if secret is None:
            raise InvalidArgument(f"api.curve_server_key: {file} has no secret key; name the file that ends in .key_secret")
        if not Path(folder).is_dir():
            raise InvalidArgument(f"api.curve_client_keys: {folder} is no folder")
        return cls(public, secret, Path(folder))


class Gate:
    """Answers libzmq's question whether a key may come in. Made before anything is bound that asks."""

    def __init__(self, loop: LoopLike, context: zmq.Context[Any], keys: ServerKeys) -> None:
        self._keys = keys
        self._loop = loop
        self._zap = Authenticator(context)
        self._zap.start()
        self._fd = int(self._zap.zap_socket.getsockopt(zmq.FD))
        loop.watch(self._fd, READ, lambda _: self._serve())
        self._serve()

    def close(self) -> None:
        """Nobody comes in any more."""
        self._loop.unwatch(self._fd)
        self._zap.stop()

    def _serve(self) -> None:
        while int(self._zap.zap_socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            frames = self._zap.zap_socket.recv_multipart(zmq.DONTWAIT)
            try:
                self._zap.configure_curve(_DOMAIN, str(self._keys.clients))
            except (OSError, ValueError) as error:  # a folder that cannot be read lets nobody in but those known before
                log.error("api.curve_client_keys: %s", error)
            spawn(self._zap.handle_zap_message(frames), "a handshake")


def bind_more(made: zmq.Socket[Any], addresses: Sequence[str], field: str, group: str, keys: ServerKeys | None) -> None:
    """Bind further addresses: ``ipc://PATH`` at once, ``tcp://HOST:PORT`` only with keys. The errors name ``field[i]``."""
    wanted = list(enumerate(addresses))
    for index, address in wanted:
        if not isinstance(address, str) or not address.startswith((_IPC, _TCP)):
            raise InvalidArgument(f"{field}[{index}]: {address!r} is neither ipc://PATH nor tcp://HOST:PORT")
        if address.startswith(_IPC):
            bind_ipc(made, Path(address.removeprefix(_IPC)), group)
    remote = [(index, address) for index, address in wanted if address.startswith(_TCP)]
    if not remote:
        return
    if keys is None:
        index, address = remote[0]
        raise FailedPrecondition(
            f"{field}[{index}]: {address} is served only with CURVE; make keys (shimyard keys), "
            "and name them: api.curve_server_key and api.curve_client_keys"
        )
    made.curve_server = True
    made.curve_publickey, made.curve_secretkey = keys.public, keys.secret
    made.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
    for index, address in remote:
        try:
            made.bind(address)
        except zmq.ZMQError as error:
            raise InvalidArgument(f"{field}[{index}]: {address} cannot be served: {error.strerror}") from error
