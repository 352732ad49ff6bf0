"""The sending side of the ROUTER. Never blocks, never loses in silence.

libzmq takes frames up to its high-water mark for each client; what is over that waits here, bounded, and is tried again
by one timer, which runs only while somebody is slow. A client that is gone (EHOSTUNREACH) is told to its streams.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import zmq

from actors.api.peers import Peer
from shimproc.loop import LoopLike

log = logging.getLogger(__name__)
RETRY_SECONDS: Final = 0.01


class Outlet:
    """Sends to peers.

    Parameters
    ----------
    after : called after each send: an edge-triggered descriptor must be asked again.
    """

    def __init__(self, loop: LoopLike, socket: zmq.Socket[bytes], after: Callable[[], None]) -> None:
        self._loop = loop
        self._socket = socket
        self._after = after
        self._slow: set[bytes] = set()
        self._peers: dict[bytes, Peer] = {}
        self._by_fd: dict[int, Peer] = {}
        self._retrying = False

    def peer(self, identity: bytes, fd: int | None = None) -> Peer:
        """What is remembered of a client. ``fd``: where this came from, if it came just now."""
        known = self._peers.get(identity)
        if known is not None and fd is not None and known.fd != fd:  # the same name on another connection
            self.drop(known)
            known = None
        if known is None:
            known = self._peers[identity] = Peer(identity, fd)
            if fd is not None:
                self._by_fd[fd] = known
        return known

    def hung_up(self, fd: int) -> None:
        """The connection is closed: nobody will read what its client was to get."""
        peer = self._by_fd.get(fd)
        if peer is not None:
            self.drop(peer)

    def peers(self) -> list[Peer]:
        """All clients with something in flight."""
        return list(self._peers.values())

    def forget_if_idle(self, peer: Peer) -> None:
        """Nothing is remembered of a client that waits for nothing."""
        if peer.idle and not peer.gone:
            self._forget(peer)

    def send(self, peer: Peer, body: bytes) -> None:
        """Send one body, in order."""
        if peer.backlog or not self._try(peer, body):
            self._keep(peer, body)
        self._after()  # in any case: a send that fails may have taken in the descriptor's signal, too

    def _keep(self, peer: Peer, body: bytes) -> None:
        if peer.gone:
            return
        if not peer.queue(body):
            log.warning("a client does not read: what waited for it is dropped, its streams end")
            self.drop(peer)
            return
        self._slow.add(peer.identity)
        self._retry_later()

    def drop(self, peer: Peer) -> None:
        """The client is gone: its streams end, what waits for it is of no use."""
        if peer.gone:
            return
        peer.gone = True
        self._forget(peer)
        self._slow.discard(peer.identity)
        peer.backlog.clear()
        gone, peer.streams = list(peer.streams.values()), {}
        peer.room.clear()
        for on_gone in gone:
            on_gone()

    def _forget(self, peer: Peer) -> None:
        self._peers.pop(peer.identity, None)
        if peer.fd is not None and self._by_fd.get(peer.fd) is peer:
            del self._by_fd[peer.fd]

    def _try(self, peer: Peer, body: bytes) -> bool:
        try:
            self._socket.send_multipart((peer.identity, b"", body), zmq.DONTWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.drop(peer)
            return False
        return True

    def _retry_later(self) -> None:
        if not self._retrying:
            self._retrying = True
            self._loop.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        for identity in list(self._slow):
            peer = self._peers.get(identity)
            if peer is None:
                self._slow.discard(identity)
                continue
            while peer.backlog and self._try(peer, peer.backlog[0]):
                peer.sent()
            if not peer.backlog:
                self._slow.discard(identity)
                for on_room in list(peer.room.values()):
                    on_room()
        if self._slow:
            self._retry_later()
        self._after()
