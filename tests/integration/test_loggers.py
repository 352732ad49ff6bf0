"""``binary://`` loggers: a program of the user's own gets a task's output."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.attached import Attached
from tests.support.daemon import MARK
from tests.support.events import Subscriber, of
from tests.support.files import until_holds
from tests.support.scene import Scene
from tests.support.wire import WireError

Make = Callable[[Scene, str], str]
LOGGER = """#!/bin/sh
export {mark}={folder}
exec 5>&-
cat <&3 > {out}.stdout & cat <&4 > {out}.stderr
wait
echo "$CONTAINER_NAMESPACE $CONTAINER_ID $*" > {out}.whose
"""


@pytest.fixture
def logger(tmp_path: Path) -> Make:
    """Makes a logger; its URI."""

    def make(scene: Scene, text: str = LOGGER) -> str:
        path = tmp_path / "logger"
        path.write_text(text.format(out=tmp_path / "out", mark=MARK, folder=scene.daemon.folder))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return f"binary://{path}?level=info&quiet"

    return make


def test_a_logger_gets_all_output_and_whose_it_is(scene: Scene, logger: Make, tmp_path: Path) -> None:
    uri = logger(scene, LOGGER)
    params = scene.shell("echo out; echo err >&2; printf end; exit 3", stdio={"stdout": uri, "stderr": uri})
    scene.run(params)
    assert scene.wait(params["id"])["exit_status"] == 3
    scene.remove(params["id"])
    assert (tmp_path / "out.stdout").read_text() == "out\nend"
    assert (tmp_path / "out.stderr").read_text() == "err\n"
    assert (tmp_path / "out.whose").read_text() == f"{scene.token} {params['id']} level info quiet\n"


def test_output_beyond_every_pipe_is_complete(scene: Scene, logger: Make, tmp_path: Path) -> None:
    uri = logger(scene, LOGGER)
    params = scene.shell("seq 200000", stdio={"stdout": uri})
    scene.run(params, rm=True, wait=True)
    assert (tmp_path / "out.stdout").read_text() == "".join(f"{n}\n" for n in range(1, 200001))


def test_an_exec_and_a_terminal_may_have_one_too(scene: Scene, logger: Make, tmp_path: Path) -> None:
    uri = logger(scene, LOGGER)
    params = scene.sleeper()
    scene.run(params)
    scene.exec(params["id"], "told", "echo from the exec", stdout=uri)
    scene.api.call("tasks.wait", id=params["id"], exec_id="told")
    scene.api.call("tasks.delete_process", id=params["id"], exec_id="told")
    assert (tmp_path / "out.stdout").read_text() == "from the exec\n"
    scene.remove(params["id"], force=True)
    done = scene.run(scene.terminal("echo from a terminal", stdout=uri), rm=True, wait=True)
    assert done["exit"]["exit_status"] == 0
    assert (tmp_path / "out.stdout").read_bytes() == b"from a terminal\r\n"


def test_a_logger_that_ends_costs_output_and_never_the_task(scene: Scene, logger: Make) -> None:
    uri = logger(scene, "#!/bin/sh\nexec 5>&-\nread line <&3\n")
    params = scene.shell("echo one; seq 200000; exit 5", stdio={"stdout": uri})
    scene.run(params)
    ended = scene.wait(params["id"])
    assert ended["exit_status"] == 5
    scene.remove(params["id"])
    told = next(one["event"] for one in of(scene.daemon.replay(), params["id"]) if one["type"] == "TaskExit")
    assert told["dropped"] > 0


def test_a_logger_that_cannot_be_started_fails_the_create(scene: Scene, logger: Make) -> None:
    params = scene.sleeper(stdio={"stdout": logger(scene, "#!/no/such/shell\n")})
    with pytest.raises(WireError, match="cannot be started") as caught:
        scene.run(params)
    assert caught.value.message.startswith("stdio.stdout: ")


def test_a_logger_goes_on_over_the_death_of_shim_and_daemon(own_scene: Scene, logger: Make, tmp_path: Path) -> None:
    uri = logger(own_scene, LOGGER)
    script = "while read line; do echo got $line; done; exit 6"
    params = own_scene.shell(script, stdio={"stdin": "attach:", "stdout": uri, "stderr": uri})
    task = own_scene.run(params)
    with Attached(own_scene.api, id=task["id"], stdin=True) as client:
        client.write(b"one\n")
        until_holds(tmp_path / "out.stdout", b"got one\n")
    ears = Subscriber(own_scene.daemon.events)
    with proc.pidfds_of([task["shim_pid"]]) as pidfds:
        os.kill(task["shim_pid"], signal.SIGKILL)
        assert proc.all_ended(pidfds)
    ears.until("TaskShimAdopted", task["id"])
    ears.close()
    own_scene.daemon.kill9()
    own_scene.daemon.restart()
    own_scene.api.call("tasks.close_io", id=task["id"], stdin=True)
    assert own_scene.wait(task["id"])["exit_status"] == 6
    own_scene.remove(task["id"])
    assert (tmp_path / "out.stdout").read_text() == "got one\n"
    assert (tmp_path / "out.whose").read_text().startswith(own_scene.token)
