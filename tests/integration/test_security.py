"""What README.md says of trust, held against a running daemon and, from inside, against running containers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import seccomp
from actors.client import Client
from tests.support import proc
from tests.support.daemon import MARK, Daemon
from tests.support.scene import Scene
from tests.support.specs import Image, Map

FOREIGN = 65534
SECONDS = 20.0
PYTHON = str(Path(sys.executable).resolve())
"""Not the one in a checkout: a container may not see that."""
CAPABILITIES = 0x800405FB
"""Podman's default: bits of capability(7) in CapEff and CapBnd."""
DENYING = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [], "includes": {}, "excludes": {}}
    ],
}


@pytest.fixture(params=[0o000, 0o777], ids=oct)
def umasked(request: pytest.FixtureRequest, image: Image, oci: str) -> Iterator[Scene]:
    """A daemon that was started under this umask."""
    daemon = Daemon()
    before = os.umask(request.param)
    try:
        daemon.start()
        os.umask(before)
        yield Scene(daemon, image, oci)
    finally:
        os.umask(before)
        daemon.destroy()


def test_files_folders_and_sockets_are_ours_alone_whatever_the_umask(umasked: Scene) -> None:
    task = umasked.run(umasked.shell("umask; sleep 10000", stdio={"stdout": "log:"}))
    bundle = Path(task["bundle"])
    state, root = umasked.daemon.state, umasked.daemon.root
    closed = [state / "api.sock", state / "events.sock", state / "forkserver.sock", state / "daemon.lock"]
    closed += [bundle / name for name in ("shim.sock", "config.json", "journal", "create.cbor")]
    closed += [root / "shimyard.db", *root.glob("logs/*/*/log")]
    assert {str(path): path.stat().st_mode & 0o7777 for path in closed} == dict.fromkeys(map(str, closed), 0o600)
    passable = [state, root, state / "tasks", bundle.parent, bundle]
    assert {str(path): path.stat().st_mode & 0o7777 for path in passable} == dict.fromkeys(map(str, passable), 0o711)
    (line,) = umasked.api.chunks("tasks.logs", id=task["id"], tail=1)
    assert line["data"] == b"0022\n"
    umasked.remove(task["id"], force=True)


@pytest.mark.parametrize("name", ["forkserver.sock", "shim.sock"])
def test_another_user_is_shown_the_door_though_the_socket_lets_him_connect(plain_scene: Scene, name: str) -> None:
    task = plain_scene.run(plain_scene.sleeper())
    path = (plain_scene.daemon.state if name == "forkserver.sock" else Path(task["bundle"])) / name
    with pytest.raises(PermissionError):
        connected(path)
    path.chmod(0o666)
    try:
        with connected(path) as sock, contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    finally:
        path.chmod(0o600)


def connected(path: Path) -> socket.socket:
    """As another user sees it: a peer's uid is the effective one at its connect (unix(7), SO_PEERCRED)."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SECONDS)
    os.seteuid(FOREIGN)
    try:
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.seteuid(0)
    return sock


def test_no_socket_of_ours_has_an_abstract_name(plain_scene: Scene) -> None:
    plain_scene.run(plain_scene.sleeper())
    ours = {plain_scene.daemon.pid, *(one.pid for one in proc.belonging_to(plain_scene.daemon.folder, MARK))}
    inodes = set()
    for pid in ours:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            inodes |= set(re.findall(r"socket:\[(\d+)\]", str(entry.readlink())))
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    named = {row[6]: row[7] for row in rows if len(row) > 7}
    assert {name for inode, name in named.items() if inode in inodes}, "not even the path sockets were found"
    assert not [name for inode, name in named.items() if inode in inodes and name.startswith("@")]


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", "a\0b", "a/../../x", "-rf", "", "x" * 77])
def test_a_name_that_is_no_path_component_touches_no_disk(plain_scene: Scene, name: str) -> None:
    before = sorted(plain_scene.daemon.folder.rglob("*"))
    params = plain_scene.sleeper() | {"id": name}
    plain_scene.api.refused("invalid_argument", "containers.create", **params)
    plain_scene.api.refused("invalid_argument", "tasks.run", **params)
    plain_scene.api.using(namespace=name).refused("invalid_argument", "containers.create", **plain_scene.sleeper())
    assert [path for path in sorted(plain_scene.daemon.folder.rglob("*")) if path not in before] == []


PROBES: Map = {
    "status": "grep -E '^(CapEff|CapBnd|CapPrm|CapInh|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status",
    "kcore": "head -c 1 /proc/kcore | wc -c",
    "keys": "wc -c < /proc/keys",
    "firmware": "ls /sys/firmware | wc -l",
    "sysctl": "(echo 1 > /proc/sys/kernel/printk) 2>&1 | grep -c 'Read-only'",
    "sysfs": "(mkdir /sys/fs/cgroup/x) 2>&1 | grep -cE 'Read-only|No such|not permitted'",
    "mount": "mount -t tmpfs none /mnt 2>/dev/null; echo $?",
    "device": "mknod /root/disk b 1 0 2>/dev/null; echo $?",
    "ptrace": "kill -0 2 2>/dev/null; ls /proc | grep -c '^[0-9]'",
    "network": "ls /sys/class/net",
    "descriptors": "ls /proc/1/fd",
    "environ": "tr '\\0' '\\n' < /proc/1/environ",
    "mkdir": "mkdir /tmp/made 2>&1; echo $?",
}


@pytest.fixture(params=["with a profile", "without one"])
def profile(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The host's seccomp profile, which the default spec takes."""
    path = tmp_path / "seccomp.json"
    if request.param == "with a profile":
        path.write_text(json.dumps(DENYING))
    monkeypatch.setattr(seccomp, "PROFILES", (path,))
    return path.exists()


def test_the_default_container_has_what_the_readme_says_seen_from_inside(daemon: Daemon, oci: str, profile: bool) -> None:
    script = "".join(f"echo '== {name}'; {probe}\n" for name, probe in PROBES.items())
    with Client(daemon.api, namespace="inside") as client:
        done = client.run(["/bin/sh", "-c", script], runtime=oci)
        client.namespaces.delete("inside")
    seen = {name: text.strip() for name, text in re.findall(r"== (\w+)\n(.*?)(?=== |\Z)", done.stdout.decode(), re.DOTALL)}
    status = dict(line.split(":\t") for line in seen["status"].splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == CAPABILITIES, done
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2" if profile else "0")
    assert (seen["kcore"], seen["keys"], seen["firmware"], seen["sysctl"]) == ("0", "0", "0", "1")
    assert seen["mount"] != "0"
    assert seen["device"] != "0"
    assert seen["network"] == "lo"
    assert seen["descriptors"].split() == ["0", "1", "2"]
    assert sorted(line.partition("=")[0] for line in seen["environ"].splitlines()) == ["HOME", "PATH"]
    assert seen["mkdir"].endswith("1" if profile else "0"), seen["mkdir"]
    assert ("not implemented" in seen["mkdir"]) is profile


def test_nothing_of_the_daemon_reaches_a_task(scene: Scene) -> None:
    marked = scene.params("/bin/sh", "-c", "ls /proc/$$/fd; cat /proc/$$/environ")
    done: dict[str, Any] = scene.run(marked, rm=True, wait=True, capture=1 << 16)
    numbers, _, environ = done["stdout"].decode().rpartition("\n")
    assert set(numbers.split()) <= {"0", "1", "2", "10"}  # 10: some shells keep their script there
    assert {entry.partition("=")[0] for entry in environ.split("\0")} - {""} <= {"PATH", MARK, "PWD", "SHLVL", "HOME"}


def test_a_mount_through_a_link_stays_inside_the_rootfs(daemon: Daemon, image: Image, oci: str, tmp_path: Path) -> None:
    outside, rootfs = Path(tempfile.mkdtemp(dir="/var/tmp")), tmp_path / "rootfs"
    scene = Scene(daemon, image, oci)
    source = next(mount["source"] for mount in image.mounts)
    if not Path(source).is_dir():
        pytest.skip("there is no busybox image on this host")
    subprocess.run(["cp", "-a", source, rootfs], check=True)
    (rootfs / str(outside).lstrip("/")).mkdir(parents=True)
    (rootfs / "out").symlink_to(outside)
    (rootfs / "up").symlink_to("../" * 20 + str(outside).lstrip("/"))
    params = scene.shell("for i in out up; do touch /$i/here || exit 1; done; cat /proc/mounts", rootfs=[])
    params["spec"]["root"]["path"] = str(rootfs)
    params["spec"]["mounts"] += [
        {"destination": f"/{name}", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]} for name in ("out", "up")
    ]
    done = scene.run(params, rm=True, wait=True, capture=1 << 16)
    assert done["exit"]["exit_status"] == 0, done["stderr"]
    assert not proc.mounts_below(outside.parent)
    outside.rmdir()  # nothing is in it
    scene.clear()


def test_a_container_over_the_hosts_files_cannot_reach_the_daemons_socket(oci: str) -> None:
    """Outside of /run and /tmp, which are its own: the socket's inode is seen through the overlay, and is another's there."""
    folder = Path("/srv") / f"shimyard-test-{os.getpid()}"
    daemon = Daemon("--state", str(folder))
    daemon.state = folder
    try:
        daemon.start()
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(f"{folder}/api.sock")
        script = f"import socket; socket.socket(socket.AF_UNIX).connect('{folder}/api.sock')"
        with Client(daemon.api, namespace="inside") as client:
            done = client.run([PYTHON, "-c", script], runtime=oci)
        assert done.returncode == 1
        assert b"ConnectionRefusedError" in done.stderr, done.stderr
    finally:
        daemon.destroy()
        subprocess.run(["rm", "-rf", folder], check=True)
