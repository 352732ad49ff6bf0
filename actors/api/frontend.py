"""The ROUTER: receives, bounds, checks the peer, and hands each request to the actor that serves it.

A frame's peer is known by the ``Peer-Address`` that libzmq attaches to what came over ipc: ``…:UID:GID:PID``. That
suffix is undocumented, so it is tried at start, by connecting to ourselves; without it we do not serve. One that came over
tcp has passed the gate of ``actors.curve``.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pykka
import zmq

from actors.api.keys import Keys
from actors.api.metered import MeteredReply
from actors.api.outlet import Outlet
from actors.api.peers import Peer
from actors.api.replies import ClientReply, ClientStream, Streams, error_body
from actors.api.requests import BadRequest, Request, parse_request
from actors.dispatch import LoopActor, post
from actors.measures import ApiLoad, Meter
from actors.messages import Call, HowBusy, Reply
from actors.params import AttachWrite, StreamCredit, StreamRef
from actors.sockets import bind_ipc, source_fd
from shimproc.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ShimyardError,
)
from shimproc.loop import READ, LoopLike

log = logging.getLogger(__name__)
_MONITORED: Final = struct.Struct("=HI")
"""Event and value, here the descriptor (zmq_socket_monitor(3))."""
_DRAIN: Final = 64
_DRAIN_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask, and how much at once. ``uids``: beside root and our own."""

    uids: frozenset[int]
    requests_per_client: int
    streams_per_client: int


class FrontEnd(LoopActor):
    """The API socket.

    Parameters
    ----------
    socket : a bound ROUTER; this actor's from now on. Its monitor tells when a client disconnects.
    routes : a method's name, or its part before the dot -> the actor that gets its ``Call``.
    meter : measures the answers, if anybody wants to know.
    """

    def __init__(
        self,
        loop: LoopLike,
        socket: zmq.Socket[bytes],
        access: Access,
        routes: Mapping[str, pykka.ActorRef[Any]],
        keys: Keys,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(loop)
        self._socket = socket
        self._access = access
        self._routes = routes
        self._keys = keys
        self._meter = meter
        self._streams = Streams(access.streams_per_client)
        self._outlet = Outlet(loop, socket, self._drain_soon)
        self._allowed = access.uids | {0, os.getuid()}
        self._draining = False

    def on_start(self) -> None:
        """Begin to serve."""
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._fds = (int(self._socket.getsockopt(zmq.FD)), int(self._monitor.getsockopt(zmq.FD)))
        self.loop.watch(self._fds[0], READ, lambda _: self._drain())
        self.loop.watch(self._fds[1], READ, lambda _: self._on_disconnect())
        self._drain_soon()
        self._on_disconnect()  # a descriptor of libzmq tells nothing until EVENTS has been asked (zmq_getsockopt(3))

    def on_stop(self) -> None:
        """Let go of the socket; what was answered is still sent."""
        for fd in self._fds:
            self.loop.unwatch(fd)
        self._socket.disable_monitor()
        self._socket.close(linger=500)

    def on_how_busy(self, message: HowBusy) -> None:
        """For the metrics."""
        peers, meter = self._outlet.peers(), self._meter or Meter()
        in_flight = sum(peer.in_flight for peer in peers)
        backlog = sum(peer.backlog_bytes for peer in peers)
        message.receipt.set(
            ApiLoad(len(peers), in_flight, len(self._streams), backlog, meter.answers(), meter.durations())
        )

    def _drain_soon(self) -> None:
        if not self._draining:
            self._draining = True
            self.loop.call_soon(self._drain)

    def _drain(self) -> None:
        """A bounded piece of work a turn; the descriptor is edge-triggered, so EVENTS is asked until it is dry."""
        self._draining = False
        enough = time.monotonic() + _DRAIN_SECONDS
        for _ in range(_DRAIN):
            if not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            self._receive(frames)
            if time.monotonic() > enough:
                break
        self._drain_soon()

    def _receive(self, frames: list[zmq.Frame]) -> None:
        self._on_disconnect()  # before a descriptor is taken for this client's: it may have been another's
        peer = self._outlet.peer(frames[0].bytes, source_fd(frames[-1]))
        try:
            if len(frames) != 3 or len(frames[1].buffer):
                raise BadRequest(None, InvalidArgument("expected two frames: an empty delimiter, then one CBOR map"))
            request = parse_request(frames[2].bytes)
            self._check_peer(frames[2], request)
            self._take(peer, request)
        except BadRequest as bad:
            self._outlet.send(peer, error_body(bad.id, bad.error))
        except Exception as error:  # a fault with one request must not keep those behind it waiting
            log.exception("a request failed")
            self._outlet.send(peer, error_body(None, error))
        self._outlet.forget_if_idle(peer)

    def _check_peer(self, frame: zmq.Frame, request: Request) -> None:
        if is_let_in(frame):
            return
        uid = peer_uid(frame)
        if uid not in self._allowed:
            raise BadRequest(
                request.id, PermissionDenied(f"uid {uid} may not use this daemon; add it to api.allowed_uids in its config")
            )

    def _take(self, peer: Peer, request: Request) -> None:
        if peer.in_flight >= self._access.requests_per_client:
            raise BadRequest(
                request.id,
                ResourceExhausted(
                    f"this client has {self._access.requests_per_client} requests in flight; wait for some answers, "
                    "or raise api.requests_per_client"
                ),
            )
        if isinstance(request.params, (StreamCredit, StreamRef, AttachWrite)):
            self._steer(peer, request)
            return
        reply = ClientReply(self._outlet, peer, request.id, self._streams)
        if request.timeout is not None:
            late = DeadlineExceeded(f"{request.method} took longer than {request.timeout} s; what it began goes on")
            reply.timer = self.loop.call_later(request.timeout, lambda: reply.expire(late))
        since = time.monotonic()
        if request.key is None or not request.row.changes:
            self._pass_on(request, reply, since)
        else:
            self._keys.serve(request, reply, lambda keyed: self._pass_on(request, keyed, since))

    def _pass_on(self, request: Request, reply: Reply, since: float) -> None:
        if self._meter is not None:
            reply = MeteredReply(reply, self._meter, request, since)
        room = request.method.partition(".")[0]
        target = self._routes.get(request.method) or self._routes[room]
        post(target, Call(request.method, request.namespace, request.params, reply))

    def _steer(self, peer: Peer, request: Request) -> None:
        """stream.credit, stream.cancel and tasks.attach.write."""
        reply = ClientReply(self._outlet, peer, request.id, self._streams)
        stream = self._streams.find(peer, request.params.stream)
        try:
            _steer(stream, request.params, reply)
        except ShimyardError as error:
            reply.fail(error)

    def _on_disconnect(self) -> None:
        """Connections that are closed: their clients' streams end, and nobody waits for their answers."""
        while int(self._monitor.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            _event, fd = _MONITORED.unpack(self._monitor.recv_multipart(zmq.DONTWAIT)[0])
            self._outlet.hung_up(fd)


def _steer(stream: ClientStream | None, params: StreamCredit | StreamRef | AttachWrite, reply: ClientReply) -> None:
    if stream is None:
        raise NotFound(f"stream: {params.stream} is no open stream of this client")
    match params:
        case AttachWrite():
            stream.write(params.data, reply)  # answered when the process's stdin has taken it
            return
        case StreamRef():
            stream.close()
        case StreamCredit():
            stream.add_credit(params.n)
    reply.ok({})


def is_let_in(frame: zmq.Frame) -> bool:
    """Did it come over CURVE? Then ZAP has let its key in (``actors.curve``), and libzmq says whose it is."""
    try:
        return bool(frame.get("User-Id"))
    except zmq.ZMQError:
        return False


def peer_uid(frame: zmq.Frame) -> int | None:
    """The uid at the other end of an ipc connection; None for one that is not ipc."""
    try:
        address = frame.get("Peer-Address")
    except zmq.ZMQError:
        return None
    fields = str(address).rsplit(":", 3)
    return int(fields[1]) if len(fields) == 4 and fields[1].isdecimal() else None


def check_peer_address(context: zmq.Context[Any], path: Path) -> bool:
    """Does a frame that we send to ourselves over ipc tell our uid? Waits up to 2 s.

    On a socket of its own at ``path``, which is gone then: on one that clients know, the first frame may be a client's.
    """
    asked, own = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    asked.linger = own.linger = 0
    try:
        bind_ipc(asked, path, "")
        own.connect(f"ipc://{path}")
        own.send(b"")
        return bool(asked.poll(2000)) and peer_uid(asked.recv_multipart(copy=False)[-1]) == os.getuid()
    finally:
        own.close()
        asked.close()
        path.unlink(missing_ok=True)
