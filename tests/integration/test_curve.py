"""``tcp://`` addresses: served only with CURVE, and only to keys that are known."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
import zmq.auth

from actors.client import Client, Curve
from shimproc.errors import InvalidArgument, Unavailable
from tests.support.daemon import Daemon, DaemonError, command
from tests.support.typist import Typist

SECONDS = 30


def free_address() -> str:
    """An address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


class Remote:
    """A daemon that serves tcp, and the keys of both sides."""

    def __init__(self, folder: Path) -> None:
        self.api, self.events = free_address(), free_address()
        self.clients = folder / "clients"
        self.clients.mkdir()
        self.server, self.server_secret = map(Path, zmq.auth.create_certificates(folder, "server"))
        self._folder = folder
        self.daemon = Daemon().configured(
            f"""
            [api]
            addresses = ["{self.api}"]
            curve_server_key = "{self.server_secret}"
            curve_client_keys = "{self.clients}"
            [events]
            addresses = ["{self.events}"]
            """
        )

    def pair(self, name: str, *, known: bool) -> Path:
        """A client's secret key."""
        public, secret = map(Path, zmq.auth.create_certificates(self._folder, name))
        if known:
            (self.clients / public.name).write_bytes(public.read_bytes())
        return secret


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    """A running one."""
    found = Remote(tmp_path)
    try:
        found.daemon.start()
        yield found
    finally:
        found.daemon.destroy()


def test_a_known_key_may_do_everything(remote: Remote) -> None:
    curve = Curve.load(remote.server, remote.pair("friend", known=True))
    with Client(remote.api, curve=curve) as client:
        assert client.version()["pid"] == remote.daemon.pid
        assert client.run(["echo", "from afar"], runtime="process").stdout == b"from afar\n"
    with Client(remote.daemon.api) as local:
        assert local.version()["pid"] == remote.daemon.pid


def test_a_key_that_becomes_known_is_let_in_without_a_restart(remote: Remote) -> None:
    secret = remote.pair("late", known=False)
    curve = Curve.load(remote.server, secret)
    with Client(remote.api, curve=curve, patience=0.5) as client, pytest.raises(Unavailable, match="key"):
        client.health()
    public = secret.with_suffix(".key")
    (remote.clients / public.name).write_bytes(public.read_bytes())
    with Client(remote.api, curve=curve) as client:
        assert client.health()["status"] == "ok"


def test_without_a_key_nobody_is_heard(remote: Remote) -> None:
    with Client(remote.api, patience=0.5) as client, pytest.raises(Unavailable):
        client.health()


def test_events_come_over_tcp_to_known_keys_alone(remote: Remote) -> None:
    curve = Curve.load(remote.server, remote.pair("friend", known=True))
    with zmq.Context() as context:
        ears = context.socket(zmq.SUB)
        ears.linger = 0
        ears.curve_serverkey, ears.curve_publickey, ears.curve_secretkey = curve.server, curve.public, curve.secret
        ears.connect(remote.events)
        ears.subscribe(b"_/hello")
        assert ears.poll(SECONDS * 1000), "no hello"
        ears.close()


def test_the_command_line_takes_keys_and_makes_them(remote: Remote, tmp_path: Path) -> None:
    made = subprocess.run(
        [command(), "keys", "--json", "--folder", str(tmp_path), "mine"], capture_output=True, check=True, timeout=SECONDS
    )
    secret = Path(json.loads(made.stdout)["secret"])
    assert secret.stat().st_mode & 0o777 == 0o600
    (remote.clients / "mine.key").write_bytes(Path(json.loads(made.stdout)["public"]).read_bytes())
    asked = [command(), "--address", remote.api, "--key", str(secret), "--server-key", str(remote.server), "version"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert str(remote.daemon.pid) in done.stdout
    again = subprocess.run(
        [command(), "keys", "--folder", str(tmp_path), "mine"], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert again.returncode == 1
    assert "exists" in again.stderr


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('[api]\naddresses = ["tcp://127.0.0.1:1"]', "api.addresses[0]"),
        ('[events]\naddresses = ["tcp://127.0.0.1:1"]', "events.addresses[0]"),
        ('[api]\naddresses = ["udp://127.0.0.1:1"]', "api.addresses[0]"),
        ('[api]\ncurve_client_keys = "/tmp"', "api.curve_server_key"),
        ('[api]\ncurve_client_keys = "/tmp"\ncurve_server_key = "/nowhere"', "api.curve_server_key"),
    ],
)
def test_an_address_that_would_not_be_safe_is_refused_at_the_start(config: str, named: str) -> None:
    daemon = Daemon().configured(config)
    try:
        with pytest.raises(DaemonError) as caught:
            daemon.start()
        assert named in str(caught.value)
    finally:
        daemon.destroy()


def test_a_public_key_where_a_secret_one_belongs_is_refused(tmp_path: Path) -> None:
    public, _ = zmq.auth.create_certificates(tmp_path, "one")
    with pytest.raises(InvalidArgument, match="key_secret"):
        Curve.load(public, public)


def test_run_exec_and_attach_work_from_afar_where_no_named_pipe_is_shared(remote: Remote) -> None:
    key = remote.pair("friend", known=True)
    flags = ["--address", remote.api, "--key", str(key), "--server-key", str(remote.server)]

    def shimyard(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([command(), *flags, *words], input=stdin, capture_output=True, timeout=SECONDS, check=False)

    script = "cat; echo err >&2; exit 4"
    done = shimyard("run", "--rm", "--runtime", "process", "--", "/bin/sh", "-c", script, stdin=b"through")
    assert (done.returncode, done.stdout, done.stderr) == (4, b"through", b"err\n")
    assert shimyard("run", "--rm", "--runtime", "process", "--", "/no/such").returncode == 127
    assert shimyard("ps", "-aq").stdout == b""
    assert shimyard("run", "-d", "--name", "web", "--runtime", "process", "--", "sleep", "1000").stdout == b"web\n"
    done = shimyard("exec", "-i", "web", "/bin/sh", "-c", script, stdin=b"through")
    assert (done.returncode, done.stdout, done.stderr) == (4, b"through", b"err\n")
    with Typist([command(), *flags, "exec", "-it", "web", "/bin/sh"], dict(os.environ)) as typist:
        typist.type("stty size; echo d''one\r")
        assert "24 80" in typist.until("done\r\n")
        typist.type("exit 3\r")
        assert typist.status() == 3
        assert typist.is_cooked()
    assert shimyard("rm", "-f", "web").stdout == b"web\n"
