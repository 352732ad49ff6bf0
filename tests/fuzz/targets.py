"""What is fuzzed: each target takes any bytes and returns; whatever it raises is a bug.

A target says what must hold, whatever comes: the right answer or one of our own errors, small enough to be sent, and
nothing left half-done. ``TARGETS`` names them all; ``python -m tests.fuzz`` and ``test_corpus.py`` run them.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cbor2

from actors import identifiers
from actors.api.replies import error_body
from actors.api.requests import BadRequest, Request, parse_request
from actors.filters import compile_filters
from actors.methods import METHODS
from actors.params import PARAMS, ContainerCreate, TaskRun
from actors.patterns import MAX_TEXT, compile_pattern
from actors.spec import check_container, check_labels, check_plain, check_spec, parse_signal
from shimproc import journal
from shimproc.errors import InvalidArgument, ShimyardError, Unimplemented
from shimproc.io.keepsakes import Nobody
from shimproc.io.logfile import LogFile, parse_lines
from shimproc.io.uri import parse_uri
from shimproc.loop import Loop
from shimproc.messages import EVENTS, REQUESTS, event_map, event_of, request_of
from shimproc.reaper import Reaper
from shimproc.service import Service
from shimproc.wire import FrameReader, encode
from tests.fuzz.draw import Draw, fitting, record
from tests.support.specs import spec

CORPUS = Path(__file__).with_name("corpus")
MAX_MESSAGE = 1000
"""An error is a sentence: it never carries back all that it is about."""
NOWHERE = "/nonexistent/bundle"
THING = {"id": "web", "namespace": "default", "topic": "/tasks/exit", "labels": {"app": "web", "a.b": "c"}, "event": {"n": 1}}
_NAMES = sorted(METHODS)


def request(data: bytes) -> None:
    """Any frame is a request, or is refused."""
    bad: BadRequest | None = None
    try:
        _follow(parse_request(data))
    except BadRequest as error:
        bad = error
    assert bad is None or (error_body(bad.id, bad.error) and len(bad.error.message) <= MAX_MESSAGE)


def call(data: bytes) -> None:
    """A request of each method, with params that are nearly right."""
    draw = Draw(data)
    method = draw.choice(_NAMES)
    message: dict[str, Any] = {"v": 1, "id": 1, "method": method, "namespace": "default"}
    message["params"] = draw.mutated(record(draw, PARAMS[method]))
    if draw.byte() % 4 == 1:
        message |= {"timeout": draw.value(), "key": fitting(draw, str)}
    request(cbor2.dumps(draw.mutated(message, 64)))


def container(data: bytes) -> None:
    """A spec that works, mutated: it is refused by name, or is what a runtime can be given as JSON."""
    draw = Draw(data)
    sound = spec(["/bin/true"], plain=bool(draw.byte() & 1))
    plain = {key: draw.mutated(value) for key, value in {**sound, **draw.map()}.items()}
    with contextlib.suppress(InvalidArgument):
        check_plain(plain, "spec")
        assert json.loads(json.dumps(plain, allow_nan=False)) == _listed(plain)
        check_spec(plain)
        assert plain["process"]["args"][0]
        assert plain["process"]["cwd"].startswith("/")


def frames(data: bytes) -> None:
    """Bytes on a shim's socket, in any pieces: the same messages as at once, or refused."""
    draw = Draw(data)
    sent = draw.some() if draw.byte() % 2 else b"".join(encode(draw.map()) for _ in range(draw.byte() % 4)) + draw.some()
    whole = _read(sent, len(sent) or 1)
    assert _read(sent, draw.byte() % 16 + 1) == whole


def messages(data: bytes) -> None:
    """Requests to a shim and its events: one of ours, or ``InvalidArgument``; and the same again from its own map."""
    draw = Draw(data)
    with contextlib.suppress(InvalidArgument):
        request_of({"verb": draw.choice([*REQUESTS, draw.text()])} | draw.map())
    with contextlib.suppress(InvalidArgument):
        event = event_of({"kind": draw.choice([*EVENTS, draw.text()])} | draw.map())
        assert event_of(event_map(event)) == event


def service(data: bytes) -> None:
    """A shim answers every numbered request, once, whatever the map; nothing is made of a bundle that is not there."""
    draw = Draw(data)
    with tempfile.TemporaryDirectory(prefix="shimyard-fuzz-") as folder, contextlib.closing(Loop()) as loop:
        kept = journal.Journal(f"{folder}/journal")
        told: list[Mapping[str, Any]] = []
        served = Service(loop, Reaper(loop, alone=False), kept, Nobody(), lambda: None)
        served.attach(told.append)
        numbers = []
        for number in range(draw.byte() % 8):
            frame = {"verb": draw.choice([*REQUESTS, "x"])} | draw.map()
            frame |= {"bundle": NOWHERE} if isinstance(frame.get("bundle"), str) else {}
            if "ack" not in frame:
                frame["q"] = number
                numbers.append(number)
            served.receive(frame)
        loop.round(0)
        kept.close()
        assert [answer["a"] for answer in told if "a" in answer] == numbers


def journals(data: bytes) -> None:
    """A journal's file, with whatever in it: its valid prefix is read, and appended to."""
    draw = Draw(data)
    records = [draw.some() if draw.byte() % 2 else cbor2.dumps(draw.value()) for _ in range(draw.byte() % 5)]
    content = b"".join(len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body for body in records)
    with tempfile.TemporaryDirectory(prefix="shimyard-fuzz-") as folder:
        path = f"{folder}/journal"
        with open(path, "wb") as file:  # noqa: PTH123 - a path as the journal takes it
            file.write(content + draw.some())
        before = journal.read_journal(path)
        opened = journal.Journal(path)
        last = opened.append({"kind": "x"})
        opened.close()
        after = journal.read_journal(path)
        assert after.records == [*before.records, (last, {"kind": "x"})]
        assert after.acked == before.acked


def filters(data: bytes) -> None:
    """A filter: a predicate, or ``InvalidArgument``."""
    texts = data.decode("utf-8", "replace").split("\0")
    with contextlib.suppress(InvalidArgument):
        assert compile_filters(texts)(THING) in (True, False)


def patterns(data: bytes) -> None:
    """A regular expression and a text: linear time, whatever they are."""
    pattern, _, text = data.decode("utf-8", "replace").partition("\0")
    with contextlib.suppress(InvalidArgument):
        found = compile_pattern(pattern, "filters")
        assert found.search(text) in (True, False)
        assert found.search((text * 200)[: MAX_TEXT + 1]) in (True, False)


def lines(data: bytes) -> None:
    """A log's lines, whatever the file has; and what is written is read again, to the byte."""
    for stream, timestamp, _ in parse_lines(data):
        assert stream in ("stdout", "stderr")
        assert isinstance(timestamp, int)
    with tempfile.TemporaryDirectory(prefix="shimyard-fuzz-") as folder:
        written = LogFile(f"{folder}/log")
        assert written.write("stdout", data) == 0
        written.close()
        with open(f"{folder}/log", "rb") as file:  # noqa: PTH123 - a path as LogFile takes it
            assert b"".join(chunk for _, _, chunk in parse_lines(file.read())) == data


def words(data: bytes) -> None:
    """Ids, namespaces, topics, stdio and signals: taken only as what is safe."""
    text = data.decode("utf-8", "replace")
    for check in (identifiers.check_id, identifiers.check_namespace):
        with contextlib.suppress(InvalidArgument):
            taken = check(text)
            assert os.path.basename(taken) == taken not in ("", ".", "..")  # noqa: PTH119 - a name as it is
    with contextlib.suppress(InvalidArgument):
        assert identifiers.check_topic(text).startswith("/")
    with contextlib.suppress(InvalidArgument):
        assert 1 <= parse_signal(text, "signal") <= 64
    with contextlib.suppress(InvalidArgument, Unimplemented):
        kind, path = parse_uri(text, "stdio.stdout")
        assert kind in ("null", "log") or path.startswith("/")
    with contextlib.suppress(InvalidArgument):
        check_labels({text: text})


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(request, call, container, frames, messages, service),
        *(journals, filters, patterns, lines, words),
    )
}


def _follow(found: Request) -> None:
    """What the daemon does next with a request that was taken; an error of ours is an answer."""
    assert found.method in METHODS
    cbor2.dumps(found.raw, canonical=True)
    with contextlib.suppress(ShimyardError):
        if isinstance(found.params, (ContainerCreate, TaskRun)):
            check_container(found.params)
        compile_filters(getattr(found.params, "filters", None) or ())
        signal = getattr(found.params, "signal", None)
        if signal is not None:
            parse_signal(signal, "signal")


def _read(sent: bytes, piece: int) -> list[Any] | None:
    """The messages, as text since NaN is not itself; None if it was refused."""
    reader = FrameReader()
    found: list[Any] = []
    try:
        for start in range(0, len(sent), piece):
            found += reader.feed(sent[start : start + piece])
    except InvalidArgument:
        return None
    assert all(isinstance(message, dict) for message in found)
    return [repr(message) for message in found]


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value

