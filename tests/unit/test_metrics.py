"""The metrics' parts: the ledger of events, the collection of single tasks' use, the text that comes of both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.measures import ApiLoad, Distribution, ExchangeLoad
from actors.metrics import uses as uses_module
from actors.metrics.actor import Snapshot
from actors.metrics.endpoint import Endpoint
from actors.metrics.exposition import Exposition
from actors.metrics.ledger import Key, Ledger
from actors.metrics.uses import AT_ONCE, Use, Uses
from actors.records import Envelope
from actors.store.tasks import TaskRow
from shimproc.errors import FailedPrecondition, InvalidArgument, NotFound
from shimproc.flow import Pending
from shimproc.loop import Loop
from tests.support.turns import until

SECOND = 10**9


def told(ledger: Ledger, kind: str, task: str = "a", at: int = 0, **more: Any) -> None:
    """One more event."""
    ledger.take(Envelope(1, at, "n", "/x", kind, {"container_id": task, **more}))


def row(task: str, phase: str, started_at: int | None = None) -> TaskRow:
    """Of a former daemon's task."""
    return TaskRow("n", task, "i", "/b", phase, {}, {}, 1, started_at=started_at)


def states(ledger: Ledger) -> dict[str, int]:
    """Those that any task is in."""
    return {state: count for state, count in ledger.account().states.items() if count}


def test_a_task_goes_through_its_states_by_its_events() -> None:
    ledger = Ledger([])
    seen = []
    for kind in ("TaskCreate", "TaskStart", "TaskPaused", "TaskResumed", "TaskExit", "TaskDelete"):
        told(ledger, kind, at=SECOND, id="a", exited_at=3 * SECOND)
        seen.append(states(ledger))
    assert seen == [{"created": 1}, {"running": 1}, {"paused": 1}, {"running": 1}, {"stopped": 1}, {}]
    account = ledger.account()
    assert account.exits == {"none": 1}
    assert (account.runs.total, account.runs.buckets[-1][1]) == (2.0, 1)
    assert account.events["TaskPaused"] == 1


def test_what_former_daemons_left_is_counted_and_goes_on() -> None:
    ledger = Ledger([row("a", "running", SECOND), row("b", "stopped"), row("c", "creating"), row("d", "deleted")])
    assert states(ledger) == {"running": 1, "stopped": 1}
    assert ledger.keys() == [("n", "a")]
    told(ledger, "TaskExit", id="a", exited_at=5 * SECOND, reason="oom")
    told(ledger, "TaskDelete", "b", id="b")
    assert states(ledger) == {"stopped": 1}
    assert ledger.account().exits == {"oom": 1}
    assert ledger.account().runs.total == 4.0


def test_an_exec_and_a_users_own_event_move_no_task() -> None:
    ledger = Ledger([row("a", "running")])
    told(ledger, "TaskExecStarted", exec_id="e")
    told(ledger, "TaskExit", id="e", exited_at=1)
    told(ledger, "TaskDelete", id="e")
    ledger.take(Envelope(1, 0, "n", "/x", "UserEvent", {"container_id": ["a"]}))
    ledger.take(Envelope(1, 0, "n", "/x", "ContainerDelete", {"id": "a"}))
    assert states(ledger) == {"running": 1}


class Tasks:
    """Tasks that are asked."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.asked: dict[Key, Pending[Use]] = {}
        self.uses = Uses(self.loop, self.ask)

    def ask(self, key: Key) -> Pending[Use]:
        """Answered when the test says so."""
        assert key not in self.asked
        self.asked[key] = Pending()
        return self.asked[key]

    def answer(self) -> None:
        """All that were asked so far."""
        asked, self.asked = self.asked, {}
        for key, pending in asked.items():
            pending.set({"of": key})


@pytest.fixture
def tasks() -> Iterator[Tasks]:
    """None asked yet."""
    made = Tasks()
    yield made
    made.loop.close()


def test_a_few_are_asked_at_once_until_all_have_answered(tasks: Tasks) -> None:
    keys = [("n", str(number)) for number in range(2 * AT_ONCE + 1)]
    over = tasks.uses.collect(keys)
    for count in (AT_ONCE, AT_ONCE, 1):
        assert len(tasks.asked) == count
        assert not over.done
        tasks.answer()
    assert over.result() == {key: {"of": key} for key in keys}
    assert tasks.uses.collect([]).result() == {}


def test_who_refuses_or_does_not_answer_is_left_out_and_not_asked_again_meanwhile(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses_module, "SECONDS", 0.01)
    over = tasks.uses.collect([("n", "gone"), ("n", "stuck"), ("n", "well")])
    stuck = tasks.asked.pop(("n", "stuck"))
    tasks.asked.pop(("n", "gone")).fail(NotFound("gone"))
    tasks.answer()
    until(tasks.loop, lambda: over.done)
    assert over.result().keys() == {("n", "well")}
    again = tasks.uses.collect([("n", "stuck"), ("n", "well")])
    assert tasks.asked.keys() == {("n", "well")}
    tasks.answer()
    assert again.result().keys() == {("n", "well")}
    stuck.set({})
    assert over.result().keys() == {("n", "well")}
    tasks.uses.collect([("n", "stuck")])
    assert tasks.asked.keys() == {("n", "stuck")}


USE = {
    "cpu": {"usage_ns": 1_500_000_000, "user_ns": None, "system_ns": 5},
    "memory": {"usage": 4096, "peak": None, "limit": None, "oom_kills": 2},
    "pids": {"current": 3, "limit": 9},
    "io": {"read_bytes": 0, "write_bytes": 1},
}


def snapshot() -> Snapshot:
    """With something of everything."""
    ledger = Ledger([row("a", "running")])
    told(ledger, "TaskExit", id="a", exited_at=1, reason="oom")
    durations = {"tasks.start": Distribution(((0.5, 1), (float("inf"), 2)), 3.5)}
    api = ApiLoad(1, 2, 3, 4, {("tasks.start", "ok"): 2, ("tasks.start", "not_found"): 1}, durations)
    return Snapshot(ledger.account(), api, ExchangeLoad(9, 2, 1, 4, 5), {("n", 'we"ird'): USE}, 6)


def test_the_text_follows_the_conventions_and_tells_all(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(bytes(10))
    text = Exposition(tmp_path / "db").text(snapshot(), "")
    assert text.type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text.body.decode())}
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert values["shimyard_tasks", "stopped"] == 1
    assert values["shimyard_task_exits_total", "oom"] == 1
    assert values["shimyard_requests_total", "not_found", "tasks.start"] == 1
    assert values["shimyard_request_duration_seconds_bucket", "0.5", "tasks.start"] == 1
    assert values["shimyard_request_duration_seconds_count", "tasks.start"] == 2
    assert values["shimyard_request_duration_seconds_sum", "tasks.start"] == 3.5
    assert values["shimyard_event_last_seq",] == 9
    assert values["shimyard_database_size_bytes", "main"] == 10
    assert values["shimyard_tasks_left_out",] == 6
    assert values["shimyard_task_cpu_usage_seconds_total", "n", 'we"ird'] == 1.5
    assert values["shimyard_task_io_written_bytes_total", "n", 'we"ird'] == 1
    assert ("shimyard_task_memory_peak_bytes", "n", 'we"ird') not in values
    assert values["process_open_fds",] > 0
    assert all(family.documentation for family in families.values())
    assert all(name.startswith(("shimyard_", "process_")) for name in families)
    counters = {name for name, family in families.items() if family.type == "counter" and family.samples}
    assert {name.removesuffix("_total") for name, *_ in values if name.endswith("_total")} == counters


def test_of_single_tasks_nothing_is_told_where_nobody_wants_it(tmp_path: Path) -> None:
    whole = snapshot()
    quiet = Snapshot(whole.account, whole.api, whole.exchange, {}, None)
    body = Exposition(tmp_path / "none").text(quiet, "").body
    assert b"shimyard_task_cpu" not in body
    assert b"left_out" not in body


def test_openmetrics_is_given_to_who_asks_for_it(tmp_path: Path) -> None:
    text = Exposition(tmp_path / "none").text(snapshot(), "application/openmetrics-text; version=1.0.0")
    assert text.type.startswith("application/openmetrics-text")
    assert text.body.endswith(b"# EOF\n")


def test_without_the_library_it_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(FailedPrecondition, match=r"metrics\.address: .*prometheus-client.*pip install 'shimyard\[metrics\]'"):
        Exposition(tmp_path / "none")


@pytest.mark.parametrize("address", ["9187", ":9187", "localhost", "localhost:x", "::1:9187", "[::1]:99999", "relative/path"])
def test_what_is_no_address_is_refused_by_its_key(address: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"metrics\.address: .*expected HOST:PORT"):
        Endpoint.open(address, "", tmp_path / "none")


def test_what_cannot_be_bound_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"metrics\.address: 192\.0\.2\.1:9187 cannot be served"):
        Endpoint.open("192.0.2.1:9187", "", tmp_path / "none")  # of no host (RFC 5737)


def test_no_address_is_no_endpoint(tmp_path: Path) -> None:
    assert Endpoint.open("", "", tmp_path / "none") is None


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FailedPrecondition, match="is no socket"):
        Endpoint.open(str(tmp_path / "file"), "", tmp_path / "none")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_where_another_listens_it_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "metrics.sock"
    first = Endpoint.open(str(path) if kind == "unix" else "127.0.0.1:0", "", tmp_path / "none")
    assert first is not None
    address = str(path) if kind == "unix" else f"127.0.0.1:{first._listener.getsockname()[1]}"
    try:
        with pytest.raises(FailedPrecondition, match="another program listens"):
            Endpoint.open(address, "", tmp_path / "none")
    finally:
        first.close()
    second = Endpoint.open(address, "", tmp_path / "none")
    assert second is not None
    second.close()
    assert not path.exists()
