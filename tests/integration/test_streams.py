"""Streaming answers: without a hole, within their credit, ended by ``stream.cancel`` (API.md, section 2)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.support.scene import Scene
from tests.support.wire import RawClient


def publish(client: RawClient, count: int, topic: str = "/tests/tick") -> list[int]:
    """Publish numbered events, many in flight; their numbers in the log."""
    sent = [client.send("events.publish", topic=topic, event={"n": n}) for n in range(count)]
    return [client.result(request)["seq"] for request in sent]


def envelopes(answers: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events of a watch, without its opening reply and its bookmarks."""
    for answer in answers:
        chunk = answer.get("chunk")
        if chunk is not None and "seq" in chunk:
            yield chunk


def take(source: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The next few."""
    return [next(source) for _ in range(count)]


def opened(client: RawClient, **params: Any) -> tuple[int, int]:
    """A watch that is known to have begun: its request's id and its stream's number."""
    request = client.send("events.watch", **params)
    answer = client.reply(request)
    assert answer["ok"]
    assert answer["more"]
    return request, int(answer["stream"])


def test_a_watch_gives_the_past_and_then_what_comes(plain_scene: Scene) -> None:
    api, since = plain_scene.api, plain_scene.daemon.last_seq()
    past = publish(api, 50)
    watcher = plain_scene.daemon.connect()
    heard = envelopes(watcher.stream("events.watch", since=since))
    assert [one["seq"] for one in take(heard, 50)] == past
    coming = publish(api, 50)
    assert [one["seq"] for one in take(heard, 50)] == coming
    watcher.close()


def test_a_watch_without_since_begins_now(plain_scene: Scene) -> None:
    publish(plain_scene.api, 5)
    watcher = plain_scene.daemon.connect()
    request, _ = opened(watcher)
    coming = publish(plain_scene.api, 3)
    assert [one["seq"] for one in take(envelopes(watcher.replies(request)), 3)] == coming
    watcher.close()


def test_a_watch_filters_and_tells_where_it_stands_when_nothing_matches(plain_scene: Scene) -> None:
    api, since = plain_scene.api, plain_scene.daemon.last_seq()
    watcher = plain_scene.daemon.connect()
    answers = watcher.stream("events.watch", since=since, filters=[f"topic==/tests/mine,namespace=={api.namespace}"])
    other = publish(api, 5, "/tests/other")
    mark = next(answer["chunk"] for answer in answers if "last_seq" in (answer.get("chunk") or {}))
    assert mark["last_seq"] >= other[-1]
    mine = publish(api, 2, "/tests/mine")
    assert [one["seq"] for one in take(envelopes(answers), 2)] == mine
    watcher.close()


def test_a_watch_with_credit_sends_no_more_than_that(plain_scene: Scene) -> None:
    api, since = plain_scene.api, plain_scene.daemon.last_seq()
    numbers = publish(api, 30)
    request = api.send("events.watch", since=since, credit=10)
    answers = api.replies(request)
    opening = next(answers)
    heard = envelopes(itertools.chain([opening], answers))
    first = take(heard, 10)
    assert api.chunks_arrived(request) == []
    api.call("stream.credit", stream=opening["stream"], n=20)
    assert [one["seq"] for one in first + take(heard, 20)] == numbers
    api.call("stream.cancel", stream=opening["stream"])


def test_cancel_ends_a_stream_and_another_cancel_finds_nothing(plain_scene: Scene) -> None:
    watcher = plain_scene.daemon.connect()
    request, stream = opened(watcher)
    watcher.call("stream.cancel", stream=stream)
    last = list(watcher.replies(request))[-1]
    assert last["more"] is False
    watcher.refused("not_found", "stream.cancel", stream=stream)
    watcher.close()


def test_nobody_elses_stream_can_be_cancelled(plain_scene: Scene) -> None:
    watcher, stranger = plain_scene.daemon.connect(), plain_scene.daemon.connect()
    request, stream = opened(watcher)
    stranger.refused("not_found", "stream.cancel", stream=stream)
    coming = publish(plain_scene.api, 1)
    assert [one["seq"] for one in take(envelopes(watcher.replies(request)), 1)] == coming
    watcher.close()
    stranger.close()


def test_watchers_on_one_socket_are_told_apart(plain_scene: Scene) -> None:
    watcher = plain_scene.daemon.connect()
    requests = [opened(watcher, filters=[f"topic==/tests/{name}"])[0] for name in ("a", "b")]
    a, b = publish(plain_scene.api, 3, "/tests/a"), publish(plain_scene.api, 3, "/tests/b")
    heard = [[one["seq"] for one in take(envelopes(watcher.replies(request)), 3)] for request in requests]
    assert heard == [a, b]
    watcher.close()


def test_a_vanished_watcher_disturbs_nobody(plain_scene: Scene) -> None:
    for _ in range(10):
        watcher = plain_scene.daemon.connect()
        opened(watcher)
        watcher.close()
    assert len(publish(plain_scene.api, 100)) == 100
    assert plain_scene.daemon.health()["status"] == "ok"
