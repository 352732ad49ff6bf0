"""Unix stream sockets of the simulated host, with descriptors that ride along, and those who listen in a folder."""

from __future__ import annotations

import array
import os
import socket as real
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

from tests.simulation.kernel import File, Kernel, Process
from tests.simulation.stage import STAGE

_READ, _WRITE, _HUP = 1, 4, 16
_UCRED = struct.Struct("iii")
_MOST = 1 << 18
"""Bytes that wait for a slow reader before a sender is told to wait."""


class Stream(File):
    """One end of a connection."""

    def __init__(self, kernel: Kernel, owner: Process) -> None:
        super().__init__(kernel)
        self.owner = owner
        self.peer: Stream | None = None
        self.inbox: deque[tuple[bytes, list[File]]] = deque()
        self.size = 0
        self.ended = False
        self.broken = False
        self.credentials = owner

    def events(self) -> int:
        ready = _READ if self.inbox or self.ended else 0
        ready |= _HUP if self.ended else 0
        return ready | (_WRITE if self.peer is None or self.peer.size < _MOST else 0)

    def closed(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.peer = None
            peer.ended = True
            peer.broken = bool(self.inbox)
            peer.poke()
        for _, files in self.inbox:
            for file in files:
                file.drop()
        self.inbox.clear()

    def cut(self) -> None:
        """Nothing comes any more, nothing goes."""
        self.peer, self.ended = None, True
        self.inbox.clear()
        self.poke()

    def put(self, data: bytes, files: list[File]) -> int:
        """From the other end."""
        peer = self.peer
        if peer is None:
            raise BrokenPipeError(32, "Broken pipe")
        if peer.size >= _MOST:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        for file in files:
            file.refs += 1
        peer.inbox.append((data, files))
        peer.size += len(data)
        peer.poke()
        return len(data)

    def take(self) -> tuple[bytes, list[File]]:
        """What has come: a piece or several, up to one with descriptors."""
        if not self.inbox:
            if self.broken:
                raise ConnectionResetError(104, "Connection reset by peer")
            if self.ended:
                return b"", []
            raise BlockingIOError(11, "Resource temporarily unavailable")
        data, files = self.inbox.popleft()
        while self.inbox and not files and self.kernel.random.random() < 0.5:
            more, files = self.inbox.popleft()
            data += more
        was_full = self.size >= _MOST
        self.size -= len(data)
        if was_full and self.peer is not None:
            self.peer.poke()
        return data, files


class Listener(File):
    """At a name in a folder."""

    def __init__(self, kernel: Kernel, owner: Process) -> None:
        super().__init__(kernel)
        self.owner = owner
        self.place: tuple[int, str] | None = None
        self.backlog: deque[Stream] = deque()

    def events(self) -> int:
        return _READ if self.backlog else 0

    def closed(self) -> None:
        if self.place is not None and STAGE.world.listeners.get(self.place) is self:
            del STAGE.world.listeners[self.place]
        for stream in self.backlog:
            stream.refs += 1
            stream.drop()
        self.backlog.clear()


def folder_of(path: str) -> int:
    """A folder's inode: it keeps its sockets when it is renamed, and they go with it."""
    return os.stat(path).st_ino  # noqa: PTH116


class SimSocket:
    """What the product takes for a ``socket.socket``."""

    def __init__(self, family: int = 1, kind: int = 1, proto: int = 0, fileno: int | None = None) -> None:
        self._kernel = STAGE.kernel
        self._fd = -1
        self._listener = False
        process = self._kernel.enter()
        if fileno is not None:
            self._kernel.file(fileno)
            self._fd = fileno
        else:
            self._fd = self._kernel.open(Stream(self._kernel, process))

    @property
    def stream(self) -> Stream:
        """The end that this is."""
        found = self._kernel.file(self._fd)
        assert isinstance(found, Stream)
        return found

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, _flag: bool) -> None:
        """Nothing here blocks."""

    def detach(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._kernel.enter()
            self._kernel.close(fd)

    def send(self, data: Any) -> int:
        self._kernel.enter()
        return self.stream.put(bytes(data), [])

    def recv(self, count: int, flags: int) -> bytes:
        """Only a look at what is there is ever asked for so."""
        self._kernel.enter()
        assert flags & real.MSG_PEEK
        stream = self.stream
        return stream.inbox[0][0][:count] if stream.inbox else stream.take()[0]

    def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        self._kernel.enter()
        data, files = self.stream.take()
        if not files:
            return data, [], 0, None
        numbers = array.array("i", [self._kernel.open(file) for file in files])
        for file in files:
            file.drop()
        return data, [(real.SOL_SOCKET, real.SCM_RIGHTS, numbers.tobytes())], 0, None

    def getsockopt(self, *_: int) -> bytes:
        """SO_PEERCRED, the only one that is asked."""
        return _UCRED.pack(self.stream.credentials.pid, os.getuid(), os.getgid())

    def connect(self, path: str) -> None:
        process = self._kernel.enter()
        folder, name = os.path.split(str(path))
        place = (folder_of(folder) if folder else folder_of(process.cwd), name)
        listener = STAGE.world.listeners.get(place)
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = self.stream, Stream(self._kernel, listener.owner)
        ours.peer, theirs.peer = theirs, ours
        ours.credentials, theirs.credentials = listener.owner, process
        listener.backlog.append(theirs)
        listener.poke()

    def connect_ex(self, path: str) -> int:
        try:
            self.connect(path)
        except OSError as error:
            return error.errno or 111
        return 0

    def bind(self, name: str) -> None:
        process = self._kernel.enter()
        listener = Listener(self._kernel, process)
        listener.place = (folder_of(process.cwd), name)
        STAGE.world.listeners[listener.place] = listener
        self._kernel.close(self._fd)
        self._fd = self._kernel.open(listener)

    def listen(self, _backlog: int = 0) -> None:
        """It does already."""

    def accept(self) -> tuple[SimSocket, str]:
        self._kernel.enter()
        listener = self._kernel.file(self._fd)
        assert isinstance(listener, Listener)
        if not listener.backlog:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return SimSocket(fileno=self._kernel.open(listener.backlog.popleft())), ""


class SocketModule:
    """In place of the module ``socket``."""

    socket = SimSocket

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    @staticmethod
    def socketpair(*_: Any) -> tuple[SimSocket, SimSocket]:
        ours, theirs = SimSocket(), SimSocket()
        ours.stream.peer, theirs.stream.peer = theirs.stream, ours.stream
        return ours, theirs

    @staticmethod
    def send_fds(sock: SimSocket, buffers: Sequence[Any], fds: Sequence[int]) -> int:
        kernel = STAGE.kernel
        kernel.enter()
        return sock.stream.put(b"".join(bytes(one) for one in buffers), [kernel.file(fd) for fd in fds])
