"""An ordinary user: containers in a user namespace, plain processes, and what cannot be had without root says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.client import Client
from tests.support import proc
from tests.support.daemon import MARK
from tests.support.ordinary import UID, Ordinary
from tests.support.runtimes import need


@pytest.fixture(scope="module")
def home() -> Iterator[Ordinary]:
    """The user's, with a daemon of his own once he has run something; nothing runs on there."""
    user = Ordinary()
    try:
        yield user
        user.sh("shimyard daemon stop")
        left = [one for one in proc.belonging_to(user.folder, MARK) if one.name != "shim-forkserver"]
        with proc.pidfds_of([one.pid for one in left]) as pidfds:
            assert proc.all_ended(pidfds), f"still there: {', '.join(map(str, left))}"
    finally:
        user.destroy()


@pytest.fixture(autouse=True)
def usable(home: Ordinary, oci: str) -> None:
    """A host may forbid ordinary users their user namespaces: doctor says so, and there is nothing to test."""
    told = home.sh(f"shimyard doctor --json | grep -A2 'runtime {oci}'").stdout
    if "not usable" in told:
        pytest.skip(f"no user namespaces for ordinary users here: {told}")


def test_a_container_runs_as_root_within_and_as_the_user_without(home: Ordinary, oci: str) -> None:
    done = home.sh(f"shimyard run --rm --runtime {oci} -- sh -c 'id -u; cat /proc/self/uid_map; touch /etc/x; exit 4'")
    assert done.returncode == 4, done.stderr
    first, mapping = done.stdout.splitlines()
    assert (first, mapping.split()) == ("0", ["0", str(UID), "1"])
    assert "/etc/x" in done.stderr


def test_its_files_are_those_of_the_host_and_none_of_them_can_be_written(home: Ordinary, oci: str) -> None:
    done = home.sh(f"shimyard run --rm --runtime {oci} -- sh -c 'cat /etc/passwd; touch /tmp/own && touch /var/tmp/not'")
    assert done.stdout == Path("/etc/passwd").read_text()
    assert "Read-only file system" in done.stderr
    assert not Path("/var/tmp/not").exists()


def test_it_is_listed_entered_followed_over_its_shims_death_and_removed(home: Ordinary, oci: str) -> None:
    started = home.sh(f"shimyard run -d --name web --runtime {oci} -- sh -c 'sleep 10000; exit 1' && shimyard ps -q")
    assert started.stdout.split() == ["web", "web"], started.stderr
    with Client(f"ipc://{home.home}/state/api.sock") as client:  # root is let in everywhere
        since, shim = client.health()["events"]["last_seq"], client.tasks.get("web").shim_pid
        os.kill(shim, signal.SIGKILL)
        adopted = next(iter(client.events(since=since, filters=["topic==/tasks/shim-adopted"])))
        assert adopted.event["shim_pid"] == shim
    done = home.sh("shimyard exec web -- sh -c 'id -u; exit 3'; echo $?; shimyard kill web; shimyard wait web; shimyard rm web")
    assert done.stdout.split() == ["0", "3", "web", "137", "web"], done.stderr


def test_what_needs_a_cgroup_is_refused_and_says_so(home: Ordinary, oci: str) -> None:
    done = home.sh(f"shimyard run --rm --runtime {oci} --memory 64m -- true")
    assert done.returncode == 125
    assert "spec.linux.resources.memory" in done.stderr
    done = home.sh(
        f"""shimyard run -d --name still --runtime {oci} -- sleep 1000
        shimyard pause still
        shimyard update --pids 5 still
        shimyard rm -f still
        """
    )
    assert "cgroup" in done.stderr
    assert "spec.linux.resources.pids" in done.stderr
    assert home.sh("shimyard ps -aq").stdout == ""


def test_a_plain_process_runs_as_the_user(home: Ordinary) -> None:
    need("process")
    done = home.sh("shimyard run --rm --runtime process -- sh -c 'id -u; exit 6'")
    assert (done.returncode, done.stdout) == (6, f"{UID}\n")


def test_doctor_tells_what_a_user_has(home: Ordinary, oci: str) -> None:
    done = home.sh("shimyard doctor")
    assert f"uid {UID}" in done.stdout
    assert "without limits" in done.stdout
    assert f"runtime {oci}" in done.stdout
