"""What looks at tasks and changes them while they run: ``status is-active stats top pause update checkpoint completion``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import command
from tests.support.runtimes import need, need_criu
from tests.support.scene import Scene
from tests.support.typist import SECONDS, Typist


class Cli:
    """The installed command, in the scene's namespace."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.environment = {**scene.daemon.environment(), "SHIMYARD_NAMESPACE": scene.token, "TERM": "vt100"}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            [command(), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
            env=self.environment,
        )

    def json(self, *words: str) -> Any:
        """What it prints with ``--json``."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def task(self, name: str, script: str, **more: Any) -> str:
        """One that runs; its id."""
        return str(self.scene.run(self.scene.shell(script, **more) | {"id": name})["id"])


@pytest.fixture
def cli(scene: Scene) -> Cli:
    """On each runtime."""
    return Cli(scene)


@pytest.fixture
def plain_cli(plain_scene: Scene) -> Cli:
    """On the runtime process."""
    return Cli(plain_scene)


def test_status_is_systemctls_by_words_and_exit_status(cli: Cli) -> None:
    stdio = {"stdout": "log:", "stderr": "log:"}
    cli.task("web", "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $n; done; sleep 1000 & wait", stdio=stdio)
    cli.scene.exec("web", "debug", "exec sleep 2000")
    follower = cli.scene.api.send("tasks.logs", id="web", follow=True)
    seen = b""
    while b"line 12\n" not in seen:
        seen += (cli.scene.api.reply(follower).get("chunk") or {}).get("data", b"")
    shown = cli("status", "web")
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout
    assert text.startswith("● web - /bin/sh -c for n in")
    assert "Active: active (running) since 20" in text
    assert f"Main PID: {cli.scene.get('web')['pid']} ({cli.scene.runtime}; shim " in text
    assert "sleep 2000 (exec debug)" in text
    assert "└─" in text
    assert text.rstrip().splitlines()[-1].endswith(" line 12")
    assert len(re.findall(r"line \d+$", text, re.MULTILINE)) == 10
    assert "\x1b" not in text
    told = cli.json("status", "web")
    assert (told["active"], told["task"]["status"], len(told["log"])) == ("active", "running", 10)
    assert {"exec_id": "debug", "command": "sleep 2000"}.items() <= next(p for p in told["processes"] if "exec_id" in p).items()
    cli.scene.api.call("tasks.kill", id="web", signal="SIGKILL")
    cli.scene.wait("web")
    ended = cli("status", "web")
    assert (ended.returncode, "failed (exit status 137)" in ended.stdout) == (3, True)
    cli.scene.remove("web")
    assert cli("status", "web").returncode == 4


def test_is_active_is_for_scripts(plain_cli: Cli) -> None:
    plain_cli.task("up", "sleep 1000")
    plain_cli.task("down", "exit 0")
    plain_cli.task("broken", "exit 1")
    plain_cli.scene.wait("down")
    plain_cli.scene.wait("broken")
    for words, status, shown in (
        (["up"], 0, "active\n"),
        (["down"], 3, "inactive\n"),
        (["broken", "down"], 3, "failed\ninactive\n"),
        (["broken", "up"], 0, "failed\nactive\n"),
        (["nobody"], 4, "unknown\n"),
        (["-q", "up"], 0, ""),
    ):
        done = plain_cli("is-active", *words)
        assert (done.returncode, done.stdout) == (status, shown)
    assert plain_cli.json("is-active", "up", "down")[1] == {"id": "down", "active": "inactive"}


def test_stats_are_a_table_or_json(cli: Cli) -> None:
    cli.task("busy", "while :; do :; done")
    cli.task("idle", "sleep 1000")
    heading, *rows = cli("stats", "--no-stream").stdout.splitlines()
    assert heading.split()[:3] == ["ID", "CPU", "%"]
    assert [row.split()[0] for row in rows] == ["busy", "idle"]
    assert float(rows[0].split()[1]) > 5 > float(rows[1].split()[1])
    (told,) = cli.json("stats", "--no-stream", "busy")
    assert told["cpu_percent"] > 5
    assert told["metrics"]["cpu"]["usage_ns"] > 0
    missing = cli("stats", "--no-stream", "nobody")
    assert (missing.returncode, "nobody" in missing.stderr) == (1, True)


@pytest.mark.parametrize("runtime", ["crun"])
def test_tasks_are_paused_and_their_limits_updated(cli: Cli) -> None:
    need("crun")
    cli.task("web", "sleep 1000")
    assert cli("pause", "web").stdout == "web\n"
    assert cli.scene.get("web")["status"] == "paused"
    assert "active (paused)" in cli("status", "web").stdout
    assert cli("unpause", "web").stdout == "web\n"
    assert cli("resume", "web").returncode == 1  # it runs already
    done = cli("update", "--memory", "64m", "--pids", "50", "web")
    assert (done.returncode, done.stdout) == (0, "web\n"), done.stderr
    assert cli.json("status", "web")["metrics"]["memory"]["limit"] == 64 << 20
    assert cli("update", "--restart", "always", "web").stdout == "web\n"
    assert cli.json("status", "web")["container"]["restart"]["policy"] == "always"
    nothing = cli("update", "web")
    assert (nothing.returncode, "--memory" in nothing.stderr) == (1, True)


def test_top_sorts_shows_logs_pauses_and_kills(plain_cli: Cli) -> None:
    plain_cli.task("busy", "echo from the log; while :; do :; done", stdio={"stdout": "log:", "stderr": "log:"})
    plain_cli.task("idle", "sleep 1000")
    with Typist([command(), "top", "--interval", "100ms"], plain_cli.environment, (120, 24)) as typist:
        typist.until("2 tasks, 2 running")
        typist.type("n")
        typist.until("by name")
        typist.type("l")
        typist.until("from the log")
        typist.type("x")
        typist.until("2 tasks")
        typist.type("\x1bOB")
        typist.type("k")
        typist.until("kill idle")
        typist.type("k")
        typist.until("SIGKILL was sent to idle")
        typist.type("q")
        assert typist.status() == 0
        assert typist.is_cooked()
    assert plain_cli.scene.wait("idle")["exit_status"] == 137
    assert plain_cli.scene.get("busy")["status"] == "running"
    refused = plain_cli("top")
    assert (refused.returncode, "stats --no-stream --json" in refused.stderr) == (1, True)


def test_checkpoint_and_restore_ask_for_what_they_say(plain_cli: Cli, tmp_path: Path) -> None:
    """What CRIU does with it is tried in test_checkpoint; the runtime process has none, and says so."""
    plain_cli.task("web", "sleep 1000")
    refused = plain_cli("checkpoint", "--leave-running", "web", str(tmp_path / "images"))
    assert (refused.returncode, "CRIU" in refused.stderr) == (1, True)
    assert plain_cli.scene.get("web")["status"] == "running"
    plain_cli.scene.api.call("tasks.kill", id="web", signal="SIGKILL")
    plain_cli.scene.wait("web")
    refused = plain_cli("restore", "web", str(tmp_path / "images"))
    assert (refused.returncode, "checkpoint: " in refused.stderr) == (1, True)
    plain_cli.scene.api.call("containers.delete", id="web")


@pytest.mark.parametrize("runtime", ["runc"])
def test_a_task_is_checkpointed_and_restored(cli: Cli, tmp_path: Path) -> None:
    need_criu()
    cli.task("web", "exec sleep 1000")
    images = str(tmp_path / "images")
    done = cli("checkpoint", "web", images)
    assert (done.returncode, done.stdout) == (0, f"{images}\n"), done.stderr
    assert cli("is-active", "web").returncode == 3
    done = cli("restore", "web", images)
    assert (done.returncode, done.stdout) == (0, "web\n"), done.stderr
    assert cli("is-active", "web").returncode == 0


def test_completion_knows_commands_options_and_ids(plain_cli: Cli) -> None:
    plain_cli.task("web-1", "sleep 1000")
    plain_cli.task("web-2", "sleep 1000")

    def candidates(*words: str) -> list[str]:
        done = plain_cli("__complete", "--", *words)
        assert done.returncode == 0, done.stderr
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert candidates("sta") == ["start", "status", "stats"]
    assert "--detach-keys" in candidates("run", "-it", "--det")
    assert sorted(candidates("exec", "-it", "web")) == ["web-1", "web-2"]
    assert candidates("-n", "elsewhere", "logs", "") == []
    assert candidates("logs", "-n", "elsewhere", "") == []
    assert candidates("containers", "l") == ["list", "label"]
    assert sorted(candidates("containers", "rm", "web-")) == ["web-1", "web-2"]
    assert candidates("run", "--rootfs", "") == [":files"]
    assert candidates("--state", "/nowhere", "logs", "") == []
    assert candidates("nonsense", "") == []


def test_the_script_for_bash_completes(plain_cli: Cli) -> None:
    plain_cli.task("web-1", "sleep 1000")
    script = (
        'eval "$(shimyard completion bash)"; COMP_WORDS=(shimyard stop we); COMP_CWORD=2; _shimyard; echo "${COMPREPLY[@]}"'
    )
    path = f"{Path(command()).parent}:{plain_cli.environment['PATH']}"
    environment = plain_cli.environment | {"PATH": path}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stdout == "web-1\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_of_their_shell(plain_cli: Cli, shell: str) -> None:
    script = plain_cli("completion", shell).stdout
    assert "shimyard __complete --" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=SECONDS)
