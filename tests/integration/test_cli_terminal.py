"""``run -it``, ``exec -it`` and ``attach`` at a real terminal: typing, sizes, signals, detaching and coming back."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess

import pytest

from tests.support.daemon import Daemon, command
from tests.support.scene import Scene
from tests.support.specs import Image
from tests.support.typist import SECONDS, Typist, children

SHELL = "stty -echo; PS1='$ '; echo ready; while read line; do eval \"$line\"; done"


class Desk:
    """``shimyard`` at a terminal, on the scene's daemon and in its namespace."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.environment = {**scene.daemon.environment(), "SHIMYARD_NAMESPACE": scene.token, "TERM": "vt100"}

    def sit_down(self, *words: str, size: tuple[int, int] = (80, 24)) -> Typist:
        """Type this command."""
        return Typist([command(), *words], self.environment, size)

    def run(self, *words: str) -> Typist:
        """A shell on a terminal, that is ready."""
        typist = self.sit_down("run", "-it", "--runtime", self.scene.runtime, *words, "--", "/bin/sh", "-c", SHELL)
        typist.until("ready\r\n")
        return typist

    def quietly(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Without a terminal."""
        return subprocess.run(
            [command(), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
            env=self.environment,
        )


@pytest.fixture
def desk(scene: Scene) -> Desk:
    """On each runtime."""
    return Desk(scene)


@pytest.fixture
def plain_desk(plain_scene: Scene) -> Desk:
    """On the runtime process."""
    return Desk(plain_scene)


def test_run_has_our_terminal_its_size_and_its_status(desk: Desk) -> None:
    with desk.run("--rm") as typist:
        typist.type("test -t 0 && test -t 1 && echo $TERM\r")
        assert typist.until("\r\n") == "vt100\r\n"
        typist.type("stty size\r")
        assert typist.until("\r\n") == "24 80\r\n"
        typist.type("trap 'stty size' WINCH; trap 'kill $!; exit 7' INT; echo trapped; while :; do sleep 1000 & wait; done\r")
        typist.until("trapped\r\n")
        typist.resize(120, 40)
        typist.until("40 120\r\n")
        assert not typist.is_cooked()
        typist.type("\x03")
        assert typist.status() == 7
        assert typist.is_cooked()
    assert desk.scene.api.call("tasks.list")["tasks"] == []


def test_keys_are_the_processes_own(plain_desk: Desk) -> None:
    with plain_desk.run("--rm") as typist:
        typist.type("trap 'echo interrupted' INT; echo trapped\r")
        typist.until("trapped\r\n")
        typist.type("\x03")
        typist.type("\r")
        typist.until("interrupted\r\n")
        typist.type("exit 0\r")
        assert typist.status() == 0


def test_detached_it_runs_on_and_can_be_attached_to_again(desk: Desk) -> None:
    with desk.run("--name", "shell") as typist:
        typist.type("x=kept\r\x10")
        typist.type("\x11")
        assert typist.status() == 0
        assert b"attach again with: shimyard attach shell" in typist.shown
        assert typist.is_cooked()
    for _ in range(2):
        with desk.sit_down("attach", "--detach-keys", "ctrl-x,y", "shell") as typist:
            typist.type("echo $x; stty size\r")
            assert "24 80" in typist.until("80\r\n")
            typist.type("echo a\x10b\r")
            typist.until("a\x10b\r\n")
            typist.type("\x18y")
            assert typist.status() == 0
            assert typist.is_cooked()
    with desk.sit_down("attach", "shell") as typist:
        typist.type("echo $x; exit 3\r")
        typist.until("kept\r\n")
        assert typist.status() == 3
    desk.scene.remove("shell")


def test_exec_has_a_terminal_of_its_own_and_leaves_nothing(desk: Desk) -> None:
    desk.scene.api.call("tasks.run", **desk.scene.sleeper() | {"id": "web"})
    with desk.sit_down("exec", "-it", "-e", "COLOUR=green", "web", "/bin/sh", "-c", SHELL, size=(100, 30)) as typist:
        typist.until("ready\r\n")
        typist.type("stty size; echo $COLOUR\r")
        assert typist.until("green\r\n") == "30 100\r\ngreen\r\n"
        typist.type("exit 9\r")
        assert typist.status() == 9
        assert typist.is_cooked()
    assert desk.scene.get("web")["execs"] == []
    desk.scene.remove("web", force=True)


def test_an_exec_is_detached_from_and_attached_to_again(plain_desk: Desk) -> None:
    plain_desk.scene.api.call("tasks.run", **plain_desk.scene.sleeper() | {"id": "web"})
    with plain_desk.sit_down("exec", "-it", "--name", "debug", "web", "/bin/sh", "-c", SHELL) as typist:
        typist.until("ready\r\n")
        typist.type("\x10\x11")
        assert typist.status() == 0
        assert b"shimyard attach --exec debug web" in typist.shown
    with plain_desk.sit_down("attach", "--exec", "debug", "web") as typist:
        typist.type("echo again; exit 6\r")
        typist.until("again\r\n")
        assert typist.status() == 6
    plain_desk.scene.remove("web", force=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal_and_leaves_the_task_running(plain_desk: Desk, number: signal.Signals) -> None:
    with plain_desk.run("--name", "shell") as typist:
        typist.signal(number)
        assert typist.status() == 128 + number
        assert typist.is_cooked()
    assert plain_desk.scene.get("shell")["status"] == "running"
    plain_desk.scene.remove("shell", force=True)


def test_a_terminal_that_is_gone_ends_an_exec(plain_desk: Desk) -> None:
    plain_desk.scene.api.call("tasks.run", **plain_desk.scene.sleeper() | {"id": "web"})
    ears = plain_desk.scene.daemon.subscribe()
    with plain_desk.sit_down("exec", "-it", "--name", "debug", "web", "/bin/sh", "-c", SHELL) as typist:
        typist.until("ready\r\n")
    assert ears.until("TaskExit", "web")["event"]["id"] == "debug"
    ears.until("TaskDelete", "web")
    ears.close()
    plain_desk.scene.remove("web", force=True)


def test_stopped_and_continued_from_outside_the_terminal_is_raw_only_in_between(plain_desk: Desk) -> None:
    script = shlex.join([command(), "run", "-it", "--rm", "--runtime", "process", "--", "/bin/sh", "-c", SHELL])
    with Typist(["bash", "--norc", "-i"], plain_desk.environment | {"PS1": "# "}) as typist:
        typist.until("# ")
        typist.type(script + "\r")
        typist.until("ready\r\n")
        (run,) = children(typist.process.pid)
        os.kill(run, signal.SIGTSTP)
        typist.until("Stopped")
        typist.until("# ")
        typist.type("stty -a\r")
        assert " icanon" in typist.until("# ")
        typist.type("fg\r")
        typist.type("echo still here\r")
        typist.until("still here\r\n")
        assert not typist.is_cooked()
        typist.type("exit 5\r")
        typist.until("# ")
        typist.type("echo over $?\r")
        typist.until("over 5")
        typist.type("exit\r")
        typist.status()


def test_a_failure_is_told_on_a_restored_terminal(desk: Desk) -> None:
    with desk.sit_down("run", "-it", "--rm", "--runtime", desk.scene.runtime, "--", "/no/such/program") as typist:
        assert typist.status() == 127
        assert b"/no/such/program" in typist.shown
        assert typist.is_cooked()


def test_without_a_terminal_it_says_so_and_t_alone_needs_none(plain_desk: Desk) -> None:
    refused = plain_desk.quietly("run", "-it", "--rm", "--runtime", "process", "--", "/bin/true")
    assert (refused.returncode, "terminal" in refused.stderr) == (125, True)
    shown = plain_desk.quietly("run", "-t", "--rm", "--runtime", "process", "--", "/bin/sh", "-c", "test -t 1 && echo yes")
    assert (shown.returncode, shown.stdout) == (0, "yes\n"), shown.stderr


def test_what_was_started_in_the_background_with_a_terminal_is_attached_to(plain_desk: Desk) -> None:
    made = plain_desk.quietly("run", "-dit", "--name", "shell", "--runtime", "process", "--", "/bin/sh", "-c", SHELL)
    assert made.stdout == "shell\n", made.stderr
    with plain_desk.sit_down("attach", "shell") as typist:
        typist.type("echo hello\r")
        typist.until("hello\r\n")
        typist.type("exit 4\r")
        assert typist.status() == 4
    assert "hello" in plain_desk.quietly("logs", "shell").stdout
    plain_desk.scene.remove("shell")


def test_typing_goes_on_while_the_daemon_is_away_and_the_status_is_true(own_daemon: Daemon, image: Image) -> None:
    """The terminal's bytes go from our named pipes to the shim and back, past the daemon."""
    desk = Desk(Scene(own_daemon, image, "process"))
    with desk.run("--rm") as typist:
        own_daemon.kill9()
        typist.type("echo without a daemon\r")
        typist.until("without a daemon\r\n")
        own_daemon.restart()
        typist.type("exit 6\r")
        assert typist.status() == 6
        assert typist.is_cooked()
    desk.scene.clear()


def test_a_terminal_that_is_attached_to_goes_on_over_a_restart_of_the_daemon(own_daemon: Daemon, image: Image) -> None:
    desk = Desk(Scene(own_daemon, image, "process"))
    desk.quietly("run", "-dit", "--name", "shell", "--runtime", "process", "--", "/bin/sh", "-c", SHELL)
    with desk.sit_down("attach", "shell") as typist:
        typist.type("echo be''fore\r")  # which its echo, of a terminal that is not raw yet, does not look like
        typist.until("before\r\n")
        own_daemon.kill9()
        own_daemon.restart()
        typist.type("exit 6\r")
        assert typist.status() == 6, typist.shown
    desk.scene.clear()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_in_tmux_detach_and_attach_again(plain_desk: Desk) -> None:
    server = plain_desk.scene.token

    def tmux(*words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", server, "-f", "/dev/null", *words],
            capture_output=True, text=True, timeout=SECONDS, check=True, env=plain_desk.environment,
        )
        return done.stdout

    run = shlex.join([command(), "run", "-it", "--name", "shell", "--runtime", "process", "--", "/bin/sh", "-c", SHELL])
    tmux("new-session", "-d", "-x", "90", "-y", "20", "bash", "--norc")
    try:
        tmux("send-keys", f"PS1='# '; {run}; tmux -L {server} wait-for -S detached", "Enter")
        tmux("send-keys", f"stty size; tmux -L {server} wait-for -S sized", "Enter")
        tmux("wait-for", "sized")
        assert "20 90" in tmux("capture-pane", "-p")
        tmux("send-keys", "C-p", "C-q")
        tmux("wait-for", "detached")
        assert "attach again with: shimyard attach shell" in " ".join(tmux("capture-pane", "-p", "-J").split())
        tmux("send-keys", f"clear; {command()} attach shell; echo status $?; tmux -L {server} wait-for -S ended", "Enter")
        tmux("send-keys", "echo once more; exit 8", "Enter")
        tmux("wait-for", "ended")
        shown = tmux("capture-pane", "-p")
        assert "once more" in shown
        assert "status 8" in shown
    finally:
        tmux("kill-server")
    plain_desk.scene.remove("shell")
