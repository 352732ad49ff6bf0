"""Containers of crun and runc as this machine has them; tests/unit/test_oci_script.py has a script play a broken one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shimproc.cgroups import Cgroup
from shimproc.errors import FailedPrecondition, InvalidArgument, NotFound, ShimyardError
from shimproc.reaper import children
from shimproc.runtimes.container import OciBackend
from shimproc.runtimes.oci import OciOptions, OciRuntime
from tests.support import cgroups
from tests.support.backends import created, ran
from tests.support.runtimes import need
from tests.support.shims import Surroundings, bundle_of, in_shim, spawned
from tests.support.specs import Image, Map, spec
from tests.support.turns import until

SH = "/bin/sh"
ID = f"test-oci-{os.getpid()}"
Deed = Callable[[Surroundings, OciBackend, OciRuntime], Any]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image.make(tmp_path_factory.mktemp("image"))


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest) -> Iterator[str]:
    """One that works here; of its containers no cgroup is left."""
    yield need(request.param)
    left = cgroups.naming([ID])
    cgroups.remove([ID])
    assert not left


@pytest.fixture
def on_stage(runtime: str, image: Image, tmp_path: Path) -> Callable[..., Any]:
    """Do a deed with a container of ``runtime``, whose rootfs is the image, in a shim."""

    def stage(deed: Deed, config: Map, files: Image | None = image) -> Any:
        def in_the_shim(shim: Surroundings) -> Any:
            bundle = bundle_of(tmp_path / "bundle", config, files)
            found = OciRuntime(OciOptions(runtime, str(tmp_path / "root"), str(bundle), ID), shim.reaper)
            backend = OciBackend(found, shim.reaper)
            try:
                return deed(shim, backend, found)
            finally:
                shim.run(backend.delete(force=True))

        return in_shim(in_the_shim)

    return stage


def test_a_container_is_created_started_stopped_and_deleted(on_stage: Callable[..., Any], tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> None:
        init = created(shim, backend, tmp_path / "io")
        assert (shim.run(runtime.status()), shim.run(backend.is_started())) == ("created", False)
        assert backend.pids() == [init.pid]
        shim.run(backend.start())
        assert shim.run(backend.is_started())
        assert shim.wait(init.ended).status == 7
        assert shim.run(runtime.status()) == "stopped"
        with pytest.raises(FailedPrecondition):
            shim.run(backend.start())
        shim.run(backend.delete(force=False))
        with pytest.raises(NotFound):
            shim.run(runtime.status())
        assert shim.run(backend.is_started())

    on_stage(deed, spec([SH, "-c", "echo out; echo err >&2; exit 7"]))
    assert [(tmp_path / "io" / name).read_text() for name in ("out", "err")] == ["out\n", "err\n"]


def test_a_second_container_of_the_same_id_is_refused_and_the_first_goes_on(
    on_stage: Callable[..., Any], tmp_path: Path
) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> None:
        init = created(shim, backend, tmp_path / "io")
        with pytest.raises(FailedPrecondition, match="already exists"):
            created(shim, OciBackend(runtime, shim.reaper), tmp_path / "io")
        shim.run(backend.start())
        assert shim.wait(init.ended).status == 0

    on_stage(deed, spec(["true"]))


def test_a_running_container_is_removed_by_a_delete(on_stage: Callable[..., Any], tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> None:
        init = created(shim, backend, tmp_path / "io")
        shim.run(backend.start())
        shim.run(backend.delete(force=True))
        assert shim.wait(init.ended).status == 137
        with pytest.raises(NotFound):
            shim.run(runtime.start())

    on_stage(deed, spec(["sleep", "100"]))


def test_every_process_is_told_and_signalled_also_by_the_next_shim(
    on_stage: Callable[..., Any], tmp_path: Path
) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> None:
        init = created(shim, backend, tmp_path / "io")
        shim.run(backend.start())
        until(shim.loop, lambda: "ready" in (tmp_path / "io/out").read_text())
        heir = OciBackend(runtime, shim.reaper)
        heir.adopt(init.pid, {})
        assert init.pid in heir.pids()
        assert len(heir.pids()) == 3
        assert heir.pids() == backend.pids()
        heir.signal_all(signal.SIGKILL)
        assert shim.wait(init.ended).status == 137
        until(shim.loop, lambda: heir.pids() == [])

    on_stage(deed, spec([SH, "-c", "sleep 100 & sleep 100 & echo ready; wait"]))


def test_the_next_shim_can_let_a_held_container_go(on_stage: Callable[..., Any], tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> int:
        init = created(shim, backend, tmp_path / "io")
        heir = OciBackend(runtime, shim.reaper)
        shim.run(heir.settle())
        kept = {"another's": 99}
        heir.adopt(init.pid, kept)
        assert (kept, heir.keepsakes) == ({"another's": 99}, {})
        assert not shim.run(heir.is_started())
        shim.run(heir.start())
        assert shim.run(heir.is_started())
        return shim.wait(init.ended).status

    assert on_stage(deed, spec([SH, "-c", "exit 7"])) == 7


def test_a_container_that_has_ended_has_nobody_for_the_next_shim_to_signal(
    on_stage: Callable[..., Any], tmp_path: Path
) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> None:
        assert backend.pids() == []
        init = created(shim, backend, tmp_path / "io")
        shim.run(backend.start())
        assert shim.wait(init.ended).status == 0
        heir = OciBackend(runtime, shim.reaper)
        heir.adopt(init.pid, {})
        assert heir.pids() == []
        heir.signal_all(signal.SIGKILL)
        heir.kill_leftovers()

    on_stage(deed, spec(["true"]))


def test_without_a_pid_namespace_what_init_has_left_is_killed(on_stage: Callable[..., Any], tmp_path: Path) -> None:
    def deed(shim: Surroundings, backend: OciBackend, _: OciRuntime) -> None:
        init = created(shim, backend, tmp_path / "io")
        shim.run(backend.start())
        assert shim.wait(init.ended).status == 0
        assert len(children(os.getpid())) == 1
        backend.kill_leftovers()
        until(shim.loop, lambda: not children(os.getpid()))

    on_stage(deed, spec([SH, "-c", "sleep 100 &"], host_pids=True))


Refusal = tuple[str, Any, type[ShimyardError], str]
NET = [{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/no/where"}]
REFUSED: dict[str, Refusal] = {
    "a program that is missing": ("process", {"args": ["/bin/missing"]}, InvalidArgument, "/bin/missing"),
    "a program that path has not": ("process", {"args": ["missing"]}, InvalidArgument, "missing"),
    "a program that is a folder": ("process", {"args": ["/etc"]}, InvalidArgument, ""),
    "a cwd that is a file": ("process", {"cwd": "/bin/busybox"}, InvalidArgument, "/bin/busybox"),
    "a limit above itself": (
        "process",
        {"rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]},
        InvalidArgument,
        "rlimit",
    ),
    "a limit of no known kind": (
        "process",
        {"rlimits": [{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}]},
        InvalidArgument,
        "MOON",
    ),
    "a user that no id can be": ("process", {"user": {"uid": 1 << 32, "gid": 0}}, InvalidArgument, ""),
    "a terminal without a socket": ("process", {"terminal": True}, FailedPrecondition, "console"),
    "a mount of no known type": (
        "mounts",
        [{"destination": "/tmp", "type": "nofs", "source": "x"}],
        InvalidArgument,
        "tmp",
    ),
    "a mount that is missing": (
        "mounts",
        [{"destination": "/tmp", "type": "bind", "source": "/no/where", "options": ["bind"]}],
        InvalidArgument,
        "/no/where",
    ),
    "a namespace that is missing": ("linux", {"namespaces": NET}, InvalidArgument, "/no/where"),
    "a hostname for the host": ("linux", {"namespaces": [{"type": "mount"}]}, InvalidArgument, "hostname"),
    "a sysctl that is none": ("linux", {"sysctl": {"kernel.nothing": "1"}}, InvalidArgument, "nothing"),
    "an action of no known name": ("linux", {"seccomp": {"defaultAction": "SCMP_ACT_MOON"}}, InvalidArgument, "MOON"),
    "a hook that fails": (
        "hooks",
        {"createRuntime": [{"path": "/bin/false", "args": ["false"]}]},
        FailedPrecondition,
        "hook",
    ),
    "a rootfs that is missing": ("root", {"path": "nowhere"}, InvalidArgument, "nowhere"),
}
MISSING = ("a program that is missing", "a program that path has not")


def changed(field: str, value: Any) -> Map:
    config = spec(["true"])
    config[field] = {**config.get(field, {}), **value} if isinstance(value, dict) else value
    return config


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_runtime_refuses_is_classified_in_its_own_words(
    on_stage: Callable[..., Any], runtime: str, tmp_path: Path, what: str
) -> None:
    field, value, expected, word = REFUSED[what]

    def deed(shim: Surroundings, backend: OciBackend, _: OciRuntime) -> ShimyardError:
        with pytest.raises(ShimyardError) as caught:
            ran(shim, backend, tmp_path / "io")
        return caught.value

    error = on_stage(deed, changed(field, value))
    assert type(error) is expected, error
    assert word in error.message
    assert error.details["command"].startswith(f"{runtime} --root {tmp_path}/root --log {tmp_path}/bundle/")
    assert error.details["exit_status"] in (1, 255)
    assert error.details["stderr"]
    assert (error.details.get("kind") == "not_found_executable") is (what in MISSING)


@pytest.mark.parametrize("path", [None, f"/{ID}/deep"], ids=["of its own", "below another"])
@pytest.mark.parametrize("limit", [{"pids": {"limit": 1 << 62}}, {"cpu": {"cpus": "900"}}])
@pytest.mark.parametrize("by_the_next_shim", [False, True])
def test_of_a_create_that_fails_for_a_limit_the_delete_leaves_no_cgroup(
    on_stage: Callable[..., Any], tmp_path: Path, limit: Map, path: str | None, by_the_next_shim: bool
) -> None:
    def deed(shim: Surroundings, backend: OciBackend, runtime: OciRuntime) -> None:
        with pytest.raises(InvalidArgument):
            created(shim, backend, tmp_path / "io")
        shim.run((OciBackend(runtime, shim.reaper) if by_the_next_shim else backend).delete(force=True))

    on_stage(deed, changed("linux", {"resources": limit, **({"cgroupsPath": path} if path else {})}))
    left = cgroups.naming([ID])
    cgroups.remove([ID])
    assert [folder for folder in left if path is None or folder.name == "deep"] == []


def test_a_cgroup_with_others_in_it_outlives_a_create_that_fails_there(
    on_stage: Callable[..., Any], tmp_path: Path
) -> None:
    def deed(shim: Surroundings, backend: OciBackend, _: OciRuntime) -> None:
        shared = Cgroup.create(f"/{ID}", {})
        shared.add(pid := spawned("sleep", "100"))
        ended = shim.reaper.watch(pid)
        with pytest.raises(InvalidArgument):
            created(shim, backend, tmp_path / "io")
        shim.run(backend.delete(force=True))
        assert shared.pids() == [pid]
        shim.reaper.send(pid, signal.SIGKILL)
        shim.wait(ended)
        assert shared.remove()

    on_stage(deed, changed("linux", {"resources": {"cpu": {"cpus": "900"}}, "cgroupsPath": f"/{ID}"}))
