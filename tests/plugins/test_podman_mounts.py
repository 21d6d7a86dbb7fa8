"""Mounts, namespaces and pause containers, seen from inside containers on a real Podman.

https://kubernetes.io/docs/concepts/storage/volumes/ and
https://kubernetes.io/docs/tasks/configure-pod-container/share-process-namespace/
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.runtime import ContainerRecord, Mount
from edgeagent_podman.pause import PauseRoot
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import IMAGE, Make, ended, log_text, run, wait_dead
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for


def test_a_folder_is_seen_and_written(runtime: PodmanRuntime, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello")
    mounts = [Mount(source=str(tmp_path), destination="/data")]
    assert run(runtime, "cat /data/in; echo back > /data/out", mounts=mounts) == "hello"
    assert (tmp_path / "out").read_text() == "back\n"


def test_a_read_only_mount(runtime: PodmanRuntime, tmp_path: Path) -> None:
    mounts = [Mount(source=str(tmp_path), destination="/data", read_only=True)]
    assert (
        run(runtime, "touch /data/x 2>&1 | grep -o 'Read-only.*'", mounts=mounts) == "Read-only file system"
    )


def test_a_single_file(runtime: PodmanRuntime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    mounts = [Mount(source=str(tmp_path / "file"), destination="/etc/app/conf.d/file")]
    assert run(runtime, "cat /etc/app/conf.d/file", mounts=mounts) == "one"


def test_a_mount_in_a_mount(runtime: PodmanRuntime, tmp_path: Path) -> None:
    """In whichever order they are named."""
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    mounts = [
        Mount(source=str(tmp_path / "inner"), destination="/a/b"),
        Mount(source=str(tmp_path / "outer"), destination="/a"),
    ]
    assert run(runtime, "ls /a /a/b", mounts=mounts).split() == ["/a:", "b", "outer", "/a/b:", "inner"]


def test_what_podman_manages_gives_way(runtime: PodmanRuntime, tmp_path: Path) -> None:
    own = ("hosts", "resolv.conf", "hostname")
    for name in own:
        (tmp_path / name).write_text(f"own {name}\n")
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm" / "shared").touch()
    mounts = [Mount(source=str(tmp_path / name), destination=f"/etc/{name}") for name in own]
    mounts.append(Mount(source=str(tmp_path / "shm"), destination="/dev/shm"))  # noqa: S108
    script = "cat /etc/hosts /etc/resolv.conf /etc/hostname; ls /dev/shm"
    for changes in ({}, {"hostname": "web-0"}):
        shown = run(runtime, script, mounts=mounts, **changes).splitlines()
        assert shown == [*(f"own {name}" for name in own), "shared"]


def test_a_message_file_in_dev(runtime: PodmanRuntime, tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    mounts = [Mount(source=str(tmp_path / "log"), destination="/dev/termination-log")]
    run(runtime, "echo done > /dev/termination-log", mounts=mounts)
    assert (tmp_path / "log").read_text() == "done\n"


def test_devices_and_set_user_bits_work_in_a_mount(runtime: PodmanRuntime, tmp_path: Path) -> None:
    """Nothing is added to what the node's own mount allows."""
    mounts = [Mount(source=str(tmp_path), destination="/data")]
    options = run(runtime, "awk '$5 == \"/data\" {print $6}' /proc/self/mountinfo", mounts=mounts).split(",")
    assert not {"nodev", "nosuid", "noexec", "ro"} & set(options)


def test_an_absent_source_is_not_made(create: Make, runtime: PodmanRuntime, tmp_path: Path) -> None:
    mounts = [Mount(source=str(tmp_path / "absent"), destination="/data")]
    with pytest.raises(EdgeAgentError, match="absent"):
        runtime.start_container(create("true", mounts=mounts).id)
    assert not (tmp_path / "absent").exists()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount that passes further ones on."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    subprocess.run(["mount", "--make-rshared", tmp_path], check=True)
    (tmp_path / "later").mkdir()
    yield tmp_path
    subprocess.run(["umount", "--recursive", tmp_path], check=True)


@pytest.mark.parametrize(("propagation", "seen"), [("private", False), ("rslave", True), ("rshared", True)])
def test_mounts_of_the_node_reach_a_container(
    runtime: PodmanRuntime, create: Make, shared: Path, propagation: str, seen: bool
) -> None:
    mounts = [Mount(source=str(shared), destination="/data", propagation=propagation)]  # type: ignore[arg-type]
    running = runtime.start_container(create("sleep", "100", mounts=mounts).id)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "later"], check=True)
    table = Path(f"/proc/{running.pid}/mountinfo").read_text()
    assert (" /data/later " in table) == seen
    runtime.remove_container(running.id)


def test_an_images_volume_gives_way_to_a_mount(
    runtime: PodmanRuntime, podman: PodmanService, tmp_path: Path
) -> None:
    podman.run("create", "--name", "base", "--network", "host", IMAGE, "true")
    podman.run("commit", "-q", "--change", "VOLUME /data", "base", "localhost/volume:2")
    (tmp_path / "mine").touch()
    mounts = [Mount(source=str(tmp_path), destination="/data")]
    assert run(runtime, "ls /data", image="localhost/volume:2", mounts=mounts) == "mine"


def namespace(record: ContainerRecord, kind: str) -> int:
    return os.stat(f"/proc/{record.pid}/ns/{kind}").st_ino


def test_the_nodes_namespaces(runtime: PodmanRuntime, create: Make) -> None:
    running = runtime.start_container(create("sleep", "100", ipc_namespace="host", pid_namespace="host").id)
    for kind in ("ipc", "pid"):
        assert namespace(running, kind) == os.stat(f"/proc/self/ns/{kind}").st_ino
    own = runtime.start_container(create("sleep", "100").id)
    for kind in ("ipc", "pid"):
        assert namespace(own, kind) != os.stat(f"/proc/self/ns/{kind}").st_ino


def test_namespaces_by_path(runtime: PodmanRuntime, create: Make) -> None:
    first = runtime.start_container(create("sleep", "100").id)
    paths = {f"{kind}_namespace": f"/proc/{first.pid}/ns/{kind}" for kind in ("ipc", "pid")}
    second = runtime.start_container(create("sleep", "100", **paths).id)
    assert [namespace(second, kind) for kind in ("ipc", "pid")] == [
        namespace(first, kind) for kind in ("ipc", "pid")
    ]
    runtime.remove_container(second.id)  # before it ends with the first, while that is removed


def test_containers_share_a_pause_containers_namespaces(
    runtime: PodmanRuntime, create: Make, pause: ContainerRecord
) -> None:
    joined = f"container:{pause.id}"
    first = runtime.start_container(create("sleep", "1234", pid_namespace=joined, ipc_namespace=joined).id)
    assert namespace(first, "pid") == namespace(pause, "pid")
    assert namespace(first, "ipc") == namespace(pause, "ipc")
    shown = run(runtime, "cat /proc/1/comm; ps; touch /dev/shm/x", pid_namespace=joined, ipc_namespace=joined)
    assert shown.splitlines()[0] == "catatonit"
    assert "sleep 1234" in shown
    assert Path(f"/proc/{first.pid}/root/dev/shm/x").exists()


def test_orphans_are_reaped(runtime: PodmanRuntime, create: Make, pause: ContainerRecord) -> None:
    script = "sh -c 'sleep 0.2 & echo $!'; sleep 0.5; echo left; ps -o stat,comm | grep -c '^Z' || true"
    record = create("sh", "-c", script, pid_namespace=f"container:{pause.id}")
    assert log_text(ended(runtime, record)).splitlines()[-1] == "0"


def test_a_pause_container_is_one_among_the_others(
    runtime: PodmanRuntime, podman: PodmanService, create: Make, pause: ContainerRecord
) -> None:
    (listed,) = runtime.list_containers()
    assert (listed.id, listed.state, listed.image) == (pause.id, "running", "")
    status = Path(f"/proc/{pause.pid}/status").read_text()
    assert "CapBnd:\t0000000000000000" in status
    stopped = runtime.stop_container(pause.id, 5)
    assert stopped.state == "exited"
    runtime.remove_container(pause.id)
    assert runtime.list_containers() == []
    assert (podman.directory / "pause" / "catatonit").exists()


def test_a_killed_pause_container_has_ended(runtime: PodmanRuntime, pause: ContainerRecord) -> None:
    wait_dead(pause.pid, signal.SIGKILL)
    assert runtime.wait_container(pause.id).state == "exited"


def test_a_deaf_container_in_a_shared_namespace_is_stopped(
    runtime: PodmanRuntime, create: Make, pause: ContainerRecord
) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    deaf = runtime.start_container(create("sh", "-c", script, pid_namespace=f"container:{pause.id}").id)
    assert log_text(deaf) == "up"
    assert runtime.stop_container(deaf.id, 0).exit_code == 137
    assert Path(f"/proc/{pause.pid}").exists()


def test_a_pause_container_is_created_once(runtime: PodmanRuntime, create: Make) -> None:
    first = create(name="pause", image="", pause=True)
    assert create(name="pause", image="", pause=True).id == first.id
    two = [runtime.start_container(create(image="", pause=True).id) for _ in range(2)]
    assert {record.state for record in two} == {"running"}
    assert namespace(two[0], "pid") != namespace(two[1], "pid")


def test_the_pause_folder_follows_the_machines_program(tmp_path: Path) -> None:
    places = tmp_path / "libexec"
    places.mkdir()
    program = places / "catatonit"
    program.write_text("one")
    program.chmod(0o755)
    root = PauseRoot(tmp_path / "pause", [str(places)])
    held = root.ready() / "catatonit"
    first = held.stat()
    assert held.read_text() == "one"
    assert os.access(held, os.X_OK)
    assert root.ready() / "catatonit" == held
    assert held.stat().st_ino == first.st_ino, "not copied again"
    program.write_text("another")
    assert (root.ready() / "catatonit").read_text() == "another"
    assert sorted(path.name for path in held.parent.iterdir() if path.is_file()) == ["catatonit"]


def test_a_machine_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PermanentError, match="apt install catatonit"):
        PauseRoot(tmp_path / "pause", []).ready()


def test_a_pause_container_that_is_needed_goes_last(
    runtime: PodmanRuntime, create: Make, pause: ContainerRecord
) -> None:
    other = runtime.start_container(create("sleep", "100", pid_namespace=f"container:{pause.id}").id)
    with pytest.raises(EdgeAgentError, match="depend"):
        runtime.remove_container(pause.id)
    runtime.remove_container(other.id)
    runtime.remove_container(pause.id)
    wait_for(lambda: not Path(f"/proc/{pause.pid}").exists(), what="the end of the pause container")
