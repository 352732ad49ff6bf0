"""The other commands: what they print for people and for programs, and how they exit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.daemon import Daemon, command
from tests.support.scene import Scene

SECONDS = 30
HEAVY = {"asyncio", "datetime", "difflib", "email", "importlib.metadata", "shutil", "sqlite3", "tempfile"}
"""Modules that take milliseconds to load, and that no usual command needs."""


class Cli:
    """The installed command, in a scene's namespace."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [command(), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**self._scene.daemon.environment(), "SHIMYARD_NAMESPACE": self._scene.token},
        )

    def json(self, *arguments: str) -> Any:
        """What it prints with ``--json``; it must succeed."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def detached(self, name: str, *words: str) -> str:
        """A task in the background; its id."""
        done = self("run", "-d", "--name", name, "--runtime", "process", "--label", "kind=test", "--", *words)
        assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr
        return name


@pytest.fixture
def cli(plain_scene: Scene) -> Cli:
    """On the module's daemon."""
    return Cli(plain_scene)


def test_ps_lists_what_runs_and_with_a_what_has_ended(cli: Cli) -> None:
    cli.detached("runs", "sleep", "1000")
    cli.detached("ended", "sh", "-c", "exit 4")
    assert cli("wait", "ended").stdout == "4\n"
    assert cli("ps", "-q").stdout == "runs\n"
    shown = cli("ps", "-a").stdout.splitlines()
    assert shown[0].split()[:3] == ["ID", "STATUS", "PID"]
    assert "stopped (4)" in next(line for line in shown if line.startswith("ended "))
    assert [task["id"] for task in cli.json("ps")] == ["runs"]
    assert cli("ps", "-q", "--filter", "status==stopped").stdout == "ended\n"
    assert cli("ps", "-q", "--filter", "labels.kind==other").stdout == ""


def test_stop_kill_and_rm_print_the_ids_they_were_given(cli: Cli) -> None:
    for name in ("one", "two", "three"):
        cli.detached(name, "sleep", "1000")
    assert cli("stop", "-t", "5", "one").stdout == "one\n"
    assert cli("kill", "-s", "KILL", "two").stdout == "two\n"
    assert cli("wait", "one", "two").stdout == "143\n137\n"
    assert cli("rm", "one").stdout == "one\n"
    assert cli("rm", "-f", "two", "three").stdout == "two\nthree\n"
    assert cli("ps", "-aq").stdout == ""


def test_rm_without_force_keeps_what_runs(cli: Cli) -> None:
    cli.detached("runs", "sleep", "1000")
    refused = cli("rm", "runs")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "runs" in refused.stderr
    assert cli("ps", "-q").stdout == "runs\n"


def test_one_that_fails_does_not_keep_the_others_from_being_done(cli: Cli) -> None:
    cli.detached("there", "sleep", "1000")
    done = cli("rm", "-f", "missing", "there")
    assert (done.returncode, done.stdout) == (1, "there\n")
    assert "missing" in done.stderr
    told = cli("rm", "-f", "missing", "--json")
    (outcome,) = json.loads(told.stdout)
    assert (told.returncode, outcome["id"], outcome["error"]["code"]) == (1, "missing", "not_found")


def test_start_runs_a_container_again(cli: Cli) -> None:
    made = cli("containers", "create", "--name", "again", "--runtime", "process", "--", "sh", "-c", "echo ran; exit 5")
    assert (made.returncode, made.stdout) == (0, "again\n"), made.stderr
    for _ in range(2):
        assert cli("start", "again").stdout == "again\n"
        assert cli("wait", "again").stdout == "5\n"
    assert cli("logs", "again").stdout == "ran\nran\n"


def test_logs_keep_the_streams_apart_and_take_a_tail(cli: Cli) -> None:
    cli.detached("told", "sh", "-c", "echo 1; echo 2; echo oops >&2")
    cli("wait", "told")
    shown = cli("logs", "told")
    assert (shown.stdout, shown.stderr) == ("1\n2\n", "oops\n")
    assert cli("logs", "--tail", "1", "told").stderr == "oops\n"
    assert cli("logs", "-f", "told").stdout == "1\n2\n"
    assert cli("logs", "-t", "told").stdout.splitlines()[0].endswith(" 1")
    lines = [json.loads(line) for line in cli("logs", "--json", "told").stdout.splitlines()]
    assert [line["data"] for line in lines] == ["1\n", "2\n", "oops\n"]


def test_inspect_shows_container_and_task_as_an_array(cli: Cli) -> None:
    cli.detached("shown", "sleep", "1000")
    (shown,) = json.loads(cli("inspect", "shown").stdout)
    assert shown["container"]["labels"] == {"kind": "test"}
    assert shown["task"]["status"] == "running"
    missing = cli("inspect", "nobody")
    assert (missing.returncode, json.loads(missing.stdout)) == (1, [])
    assert "nobody" in missing.stderr


def test_events_are_a_line_each_from_a_number_on(cli: Cli, plain_scene: Scene) -> None:
    since = str(plain_scene.daemon.last_seq())
    cli.detached("brief", "true")
    cli("wait", "brief")
    mine = f"namespace=={plain_scene.token}"
    shown = cli("events", "--since", since, "--filter", mine, "--no-stream").stdout.splitlines()
    assert [
        line.split()[3] for line in shown if "/namespaces/" not in line
    ] == ["/containers/create", "/tasks/create", "/tasks/start", "/tasks/exit"]
    told = cli("events", "--since", since, "--filter", f"{mine},topic==/tasks/exit", "--no-stream", "--json").stdout
    (event,) = [json.loads(line) for line in told.splitlines()]
    assert event["event"]["exit_status"] == 0
    assert cli("events", "--since", "1h", "--filter", mine, "--no-stream").stdout.splitlines() == shown


def test_containers_are_listed_labelled_and_removed(cli: Cli) -> None:
    cli("containers", "create", "--name", "kept", "--runtime", "process", "--", "true")
    assert cli("containers", "list", "-q").stdout == "kept\n"
    assert cli("containers", "label", "kept", "a=1").stdout == "kept\n"
    (shown,) = cli.json("containers", "inspect", "kept")
    assert shown["labels"] == {"a": "1"}
    assert "a=1" in cli("containers", "list").stdout
    assert cli("containers", "rm", "kept").stdout == "kept\n"
    assert cli.json("containers", "list") == []


def test_namespaces_are_made_listed_and_removed(cli: Cli, plain_scene: Scene) -> None:
    name = f"{plain_scene.token}-more"
    assert cli("namespaces", "create", name, "team=a").stdout == f"{name}\n"
    assert {"name": name, "labels": {"team": "a"}} in cli.json("namespaces", "list")
    assert cli("namespaces", "rm", name).returncode == 0
    assert cli("namespaces", "rm", name).returncode == 1


def test_doctor_tells_of_each_runtime_and_of_the_daemon(cli: Cli) -> None:
    found = {one["subject"]: one for one in cli.json("doctor")}
    assert found["runtime process"]["ok"] is True
    assert {"runtime crun", "runtime runc", "cgroups", "kernel", "state folder"} <= found.keys()
    assert found["daemon"]["ok"] is True
    assert "runtime process" in cli("doctor").stdout


def test_version_tells_of_both_sides(cli: Cli, plain_scene: Scene) -> None:
    told = cli.json("version")
    assert told["version"] == told["daemon"]["version"]
    assert told["daemon"]["pid"] == plain_scene.daemon.pid


def test_the_version_of_the_command_alone_needs_no_daemon(cli: Cli, plain_scene: Scene) -> None:
    told = cli("--version", "--state", "/nowhere")
    assert (told.returncode, told.stdout, told.stderr) == (0, f"shimyard {cli.json('version')['version']}\n", "")


@pytest.mark.parametrize("arguments", [["ps"], ["version"], ["run", "--rm", "--runtime", "process", "--", "true"]])
def test_a_command_starts_quickly_since_it_loads_only_what_it_needs(cli: Cli, plain_scene: Scene, arguments: list[str]) -> None:
    script = f"import sys; from actors.cli import main; main({arguments}); print(*sys.modules, file=sys.stderr)"
    environment = {**plain_scene.daemon.environment(), "SHIMYARD_NAMESPACE": plain_scene.token}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["ps"], ["run"], ["containers", "list"]])
def test_its_own_options_come_first_in_a_commands_help(cli: Cli, arguments: list[str]) -> None:
    shown = cli(*arguments, "--help").stdout
    assert shown.index("options:") < shown.index("everywhere:") > max(shown.find("its limits:"), shown.find("--filter"))


def test_daemon_config_is_a_config_file_that_the_daemon_takes(cli: Cli) -> None:
    sample = cli("daemon", "config").stdout
    daemon = Daemon().configured(sample)
    try:
        daemon.start()
        assert daemon.stop() == 0
    finally:
        daemon.destroy()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "frobnicate"),
        (["pss"], "did you mean ps"),
        (["ps", "--nosuch"], "--nosuch"),
        (["logs"], "ID"),
        (["logs", "--tail", "x", "a"], "--tail"),
        (["events", "--since", "yesterday-ish"], "--since"),
        (["stop", "-t", "soon", "a"], "--time"),
    ],
)
def test_wrong_usage_is_told_with_the_way_to_the_help(cli: Cli, arguments: list[str], named: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "--help" in done.stderr


def test_an_error_is_json_where_json_is_asked_for(cli: Cli) -> None:
    done = cli("logs", "nobody", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["code"] == "not_found"


def test_a_detached_task_is_started_again_and_probed_as_its_options_say(cli: Cli) -> None:
    cli.detached("plain", "true")
    options = ["--restart", "on-failure:2", "--stop-signal", "SIGINT", "--stop-timeout", "3s"]
    probe = ["--health-cmd", "exit 0", "--health-interval", "1h", "--health-retries", "2", "--health-start-period", "1s"]
    done = cli("run", "-d", "--name", "web", "--runtime", "process", *options, *probe, "--", "sleep", "1000")
    assert done.returncode == 0, done.stderr
    (shown,) = cli.json("inspect", "web")
    container = shown.get("container", shown)
    assert container["restart"] == {"policy": "on-failure", "max_retries": 2, "backoff": None}
    assert container["stop"] == {"signal": "SIGINT", "grace": 3.0}
    assert container["health"]["args"] == ["/bin/sh", "-c", "exit 0"]
    assert (container["health"]["interval"], container["health"]["retries"]) == (3600.0, 2)
    assert cli("stop", "web").returncode == 0
    assert cli("rm", "web", "plain").returncode == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--restart", "sometimes"], "is none of no, on-failure"),
        (["--restart", "always"], "add --detach"),
        (["--restart", "always", "-d", "--rm"], "leave out one of them"),
        (["--health-retries", "2"], "--health-retries: it needs --health-cmd"),
    ],
)
def test_a_supervision_that_makes_no_sense_is_refused_by_its_option(cli: Cli, options: list[str], why: str) -> None:
    done = cli("run", "--runtime", "process", *options, "--", "true")
    assert done.returncode == 125
    assert why in done.stderr
