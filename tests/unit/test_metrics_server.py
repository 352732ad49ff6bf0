"""HTTP for scrapes: one page, and whoever is silent, slow or rude holds up nobody."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator

import pytest

from actors.metrics import server as server_module
from actors.metrics.exposition import Text
from actors.metrics.server import CONNECTIONS, MAX_HEAD, Connection, Done, Server
from tests.support.turns import descriptors

SECONDS = 20.0
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\nAccept: kind/of\r\n\r\n"


class Site:
    """A server and its clients."""

    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        self.address = listener.getsockname()
        self.page = Text("kind/of", b"page\n")
        self.held: list[Done] | None = None
        self.asked = threading.Semaphore(0)
        self.clients: list[socket.socket] = []
        self.server = Server(listener, self.ask)

    def ask(self, accept: str, done: Done) -> None:
        """Who is held gets no answer."""
        if accept == "fail":
            done(None)
        elif accept == "break":
            done(lambda: Text("", b"" + str(1 // 0).encode()))
        elif self.held is not None:
            self.held.append(done)
            self.asked.release()
        else:
            done(lambda: Text(accept, self.page.body))

    def connect(self, data: bytes = b"") -> socket.socket:
        """A client that says this."""
        client = socket.create_connection(self.address, timeout=SECONDS)
        self.clients.append(client)
        client.sendall(data)
        return client

    def answer(self, data: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer to this."""
        head, _, body = read_all(self.connect(data)).partition(b"\r\n\r\n")
        return head, body


@pytest.fixture
def site() -> Iterator[Site]:
    """A running one; its thread and descriptors go with it."""
    before = descriptors()
    made = Site()
    yield made
    made.server.stop()
    assert not made.server._thread.is_alive()
    for client in made.clients:
        client.close()
    assert descriptors() == before


def read_all(client: socket.socket) -> bytes:
    """Until the server hangs up."""
    found = bytearray()
    while piece := client.recv(1 << 16):
        found += piece
    return bytes(found)


def test_a_scrape_gets_the_page_in_the_format_it_asks_for(site: Site) -> None:
    head, body = site.answer(GET)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: kind/of\r\nContent-Length: 5\r\nConnection: close" in head
    assert body == b"page\n"


def test_a_head_gets_the_head_alone(site: Site) -> None:
    head, body = site.answer(GET.replace(b"GET", b"HEAD"))
    assert b"Content-Length: 5" in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"/metrics", b"/metrics?name=x"), 200),
        (GET.replace(b"/metrics", b"/"), 404),
        (GET.replace(b"GET", b"POST"), 405),
        (b"\x00\xff\xfe\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 5000), 431),
        (GET.replace(b"kind/of", b"fail"), 503),
        (GET.replace(b"kind/of", b"break"), 503),
    ],
)
def test_each_request_has_its_status(site: Site, request_: bytes, status: int) -> None:
    client = site.connect()
    client.sendall(request_)
    try:
        answer = read_all(client)
    except ConnectionResetError:  # it had not read all of it
        assert status == 431
        return
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_request_may_come_in_pieces(site: Site) -> None:
    client = site.connect()
    for byte in GET:
        client.sendall(bytes([byte]))
    assert b"page\n" in read_all(client)


def test_silent_clients_make_room_for_who_asks(site: Site) -> None:
    silent = [site.connect(b"GET /met") for _ in range(2 * CONNECTIONS)]
    assert site.answer(GET)[1] == b"page\n"
    gone = select.select(silent, [], [], SECONDS)[0]
    assert set(gone) <= set(silent[: CONNECTIONS + 1])
    assert silent[0] in gone


def test_while_as_many_as_may_be_are_answered_another_is_turned_away(site: Site) -> None:
    site.held = []
    for _ in range(CONNECTIONS):
        site.connect(GET)
    for _ in range(CONNECTIONS):
        assert site.asked.acquire(timeout=SECONDS)
    assert site.connect().recv(1) == b""
    for done in site.held:
        done(lambda: site.page)
    for client in site.clients[:CONNECTIONS]:
        assert b"page\n" in read_all(client)
    site.held = None
    assert site.answer(GET)[1] == b"page\n"


def test_who_does_not_read_delays_nobody_and_goes_in_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, close = threading.Semaphore(0), Connection.close

    def close_and_tell(one: Connection) -> None:
        close(one)
        closed.release()

    monkeypatch.setattr(Connection, "close", close_and_tell)
    monkeypatch.setattr(server_module, "SECONDS", 0.5)
    site.page = Text("", bytes(32 << 20))
    slow = site.connect(GET)
    assert select.select([slow], [], [], SECONDS)[0]
    site.page = Text("", b"page\n")
    assert site.answer(GET)[1] == b"page\n"
    for _ in range(2):
        assert closed.acquire(timeout=SECONDS)
    assert 0 < len(read_all(slow)) < 32 << 20


def test_a_client_that_hangs_up_while_its_page_is_made_is_forgotten(site: Site) -> None:
    site.held = []
    client = site.connect(GET)
    assert site.asked.acquire(timeout=SECONDS)
    client.close()
    site.held[0](lambda: site.page)
    site.held = None
    assert site.answer(GET)[1] == b"page\n"
