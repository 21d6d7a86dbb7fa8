"""What a container gets to see of a pod's volumes, whatever the pod's other containers write into them."""

import asyncio
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.pod import Pod
from edgeagent.node.pods.lookup import Lookup, PodFacts
from edgeagent.node.pods.volumes import SystemMounter, Volumes
from edgeagent.node.pods.volumes import mounter as mounter_module
from edgeagent.node.pods.volumes.atomic import Projected, write_payload
from tests.support.leftovers import mounts_below
from tests.support.waiting import wait_for, wait_for_async

UID = "u1"
Fields = dict[str, Any]


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    """All pods' volumes, on the real mount table; ``tmp_path/host`` stands for the node's root."""
    (tmp_path / "host/etc").mkdir(parents=True)
    (tmp_path / "host/etc/shadow").write_text("root")
    made = Volumes(
        disk=tmp_path / "disk", memory=tmp_path / "run", host=tmp_path / "host", mounter=SystemMounter()
    )
    yield made
    asyncio.run(made.tear_down(UID))


def pod(volumes: Fields, *containers: Fields) -> Pod:
    """A pod with ``volumes`` by name."""
    listed = [{"name": name, **source} for name, source in volumes.items()]
    named = [
        {"name": f"c{number}", "image": "x", **fields} for number, fields in enumerate(containers or ({},))
    ]
    data = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "uid": UID},
        "spec": {"nodeName": "n", "hostNetwork": True, "volumes": listed, "containers": named},
    }
    made = decode_object(data)
    assert isinstance(made, Pod)
    return made


def part(volume: str, sub_path: str) -> Fields:
    """A container that mounts a part of a volume."""
    return {"volumeMounts": [{"name": volume, "mountPath": "/m", "subPath": sub_path}]}


async def no_secret(name: str) -> None:
    """No Secret has any name."""
    return None


NOTHING = Lookup(lambda _: None, no_secret)


def prepare(volumes: Volumes, made: Pod, **config: str) -> None:
    """Make the pod's volumes; every ConfigMap holds ``config``."""
    found = decode_object(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": config}
    )
    assert isinstance(found, ConfigMap)
    asyncio.run(volumes.prepare(PodFacts(pod=made, node_name="n"), Lookup(lambda _: found, no_secret)))


def seen(volumes: Volumes, made: Pod, container: int = 0) -> Path:
    """Where the one mount of a container comes from."""
    (mount,) = asyncio.run(volumes.mounts(made, made.spec.containers[container], {}))
    return Path(mount.source)


@pytest.mark.parametrize("target", ["{}/host", "..{}/host", "../../../../host", "..a/../../../../../host"])
@pytest.mark.parametrize("kind", ["emptyDir", "hostPath"])
def test_a_link_named_as_the_one_to_a_set_of_files_leads_nowhere(
    volumes: Volumes, tmp_path: Path, kind: str, target: str
) -> None:
    source: Fields = {"hostPath": {"path": "/data"}} if kind == "hostPath" else {"emptyDir": {}}
    made = pod({"v": source}, part("v", "etc"))
    prepare(volumes, made)
    folder = tmp_path / ("host/data" if kind == "hostPath" else f"disk/{UID}/volumes/v")
    (folder / "..data").symlink_to(target.format(tmp_path))
    assert os.listdir(seen(volumes, made)) == []


@pytest.mark.parametrize("kind", ["emptyDir", "hostPath"])
def test_a_part_below_a_link_out_of_the_volume_is_refused(
    volumes: Volumes, tmp_path: Path, kind: str
) -> None:
    source: Fields = {"hostPath": {"path": "/data"}} if kind == "hostPath" else {"emptyDir": {}}
    made = pod({"v": source}, part("v", "..data/etc"))
    prepare(volumes, made)
    folder = tmp_path / ("host/data" if kind == "hostPath" else f"disk/{UID}/volumes/v")
    (folder / "..data").symlink_to(tmp_path / "host")
    with pytest.raises(PermanentError, match="leads out of the volume"):
        seen(volumes, made)


def test_a_part_of_a_config_map_is_the_file_of_the_present_set(volumes: Volumes) -> None:
    made = pod({"v": {"configMap": {"name": "c"}}}, part("v", "key"))
    prepare(volumes, made, key="old")
    prepare(volumes, made, key="new")
    assert seen(volumes, made).read_text() == "new"


def test_a_link_to_another_place_in_a_volume_of_files_is_not_followed(
    volumes: Volumes, tmp_path: Path
) -> None:
    made = pod({"v": {"configMap": {"name": "c"}}}, part("v", "etc"))
    prepare(volumes, made, key="x")
    link = tmp_path / f"disk/{UID}/volumes/v/..data"
    link.unlink()
    link.symlink_to(tmp_path / "host")
    assert os.listdir(seen(volumes, made)) == []


@pytest.fixture
def dead_server(tmp_path: Path) -> Iterator[Path]:
    """A folder of the node on a server (FUSE) that never answers, as a dead one of NFS does not."""
    folder = tmp_path / "host/dead"
    folder.mkdir(parents=True)
    connection = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={connection},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dead", os.fsencode(folder), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), "mount of FUSE")
    yield folder
    os.close(connection)  # who waits is told that the server is gone
    wait_for(lambda: looking() == 0, 10, "the threads to end")
    subprocess.run(["umount", "--lazy", folder], check=True)


def on_dead_server(uid: str, type_: str = "Directory") -> PodFacts:
    """A pod with two volumes there."""
    source = {"hostPath": {"path": "/dead/x", "type": type_}}
    made = pod({"one": source, "two": source})
    metadata = msgspec.structs.replace(made.metadata, uid=uid)
    return PodFacts(pod=msgspec.structs.replace(made, metadata=metadata), node_name="n")


def looking() -> int:
    """How many threads look at the node's paths."""
    return sum(thread.name == "host-path" for thread in threading.enumerate())


def test_a_dead_server_fails_the_mounts_of_its_own_pods_alone(tmp_path: Path, dead_server: Path) -> None:
    volumes = Volumes(
        disk=tmp_path / "disk",
        memory=tmp_path / "run",
        host=tmp_path / "host",
        mounter=SystemMounter(),
        host_seconds=0.2,
    )
    pods = [on_dead_server(f"dead{number}") for number in range(6)]

    async def scenario() -> None:
        for _ in range(2):
            outcomes = await asyncio.gather(
                *(volumes.prepare(one, NOTHING) for one in pods), return_exceptions=True
            )
            for outcome in outcomes:
                assert isinstance(outcome, TemporaryError)
                assert outcome.reason == "FailedMount"
                assert str(outcome) == 'volume "one": /dead/x does not answer, is its server dead?'
        assert looking() == len(pods)
        await volumes.prepare(PodFacts(pod=pod({"v": {"emptyDir": {}}}), node_name="n"), NOTHING)
        await volumes.tear_down(UID)

    asyncio.run(scenario())  # and the end of the loop waits for no thread
    assert looking() == len(pods)


def test_who_is_cancelled_waits_for_no_server(volumes: Volumes, dead_server: Path) -> None:
    async def scenario() -> None:
        waiting = asyncio.create_task(volumes.prepare(on_dead_server("dead"), NOTHING))
        await wait_for_async(lambda: looking() == 1, 10, "a thread that looks")
        waiting.cancel()
        await asyncio.wait([waiting], timeout=5)
        assert waiting.cancelled()

    asyncio.run(scenario())


def test_a_part_on_a_dead_server_is_not_waited_for(tmp_path: Path, dead_server: Path) -> None:
    volumes = Volumes(
        disk=tmp_path / "disk",
        memory=tmp_path / "run",
        host=tmp_path / "host",
        mounter=SystemMounter(),
        host_seconds=0.2,
    )
    made = pod({"v": {"hostPath": {"path": "/dead"}}}, part("v", "x"))
    with pytest.raises(TemporaryError, match="does not answer"):
        seen(volumes, made)


def test_each_part_has_a_mount_point_of_its_own_whatever_the_names(volumes: Volumes, tmp_path: Path) -> None:
    whole = {"name": "x", "mountPath": "/x"}
    first = {"name": "1-b", "mountPath": "/m", "subPath": "one"}
    second = {"name": "b", "mountPath": "/m", "subPath": "two"}
    made = pod(
        {"1-b": {"emptyDir": {}}, "b": {"emptyDir": {}}, "x": {"emptyDir": {}}},
        {"name": "a", "volumeMounts": [whole, first]},
        {"name": "a-1", "volumeMounts": [whole, second]},
    )
    prepare(volumes, made)
    (tmp_path / f"disk/{UID}/volumes/1-b/one").mkdir()
    (tmp_path / f"disk/{UID}/volumes/1-b/one/file").touch()
    sources = [
        asyncio.run(volumes.mounts(made, container, {}))[1].source for container in made.spec.containers
    ]
    assert [os.listdir(source) for source in sources] == [["file"], []]


def test_parts_that_an_older_agent_bound_are_taken_away_with_the_pod(
    volumes: Volumes, tmp_path: Path
) -> None:
    made = pod({"v": {"emptyDir": {}}}, part("v", "new"))
    prepare(volumes, made)
    old = tmp_path / f"run/{UID}/subpaths/c0-0-v"
    old.mkdir(parents=True)
    asyncio.run(SystemMounter().bind(str(tmp_path / f"disk/{UID}/volumes/v"), old))
    seen(volumes, made)
    asyncio.run(volumes.tear_down(UID))
    assert mounts_below(tmp_path) == []
    assert volumes.leftovers() == set()


def mounted_options(volumes: Volumes, folder: Path) -> list[str]:
    """The options of the last file system mounted at ``folder``, after the pod's one Secret was shown."""

    async def scenario() -> None:
        made = pod({"s": {"secret": {"secretName": "s"}}})
        found = Secret(api_version="v1", metadata=ObjectMeta(name="s"), data={"key": b"x"})

        async def secret(name: str) -> Secret:
            return found

        for _ in range(2):
            await volumes.prepare(PodFacts(pod=made, node_name="n"), Lookup(lambda _: None, secret))

    asyncio.run(scenario())
    lines = [line.split() for line in mounts_table().splitlines()]
    (options,) = [line[3].split(",") for line in lines if line[1] == str(folder / f"run/{UID}/volumes/s")]
    return options


def mounts_table() -> str:
    """What is mounted, and how."""
    return Path("/proc/mounts").read_text()


def is_new_enough() -> bool:
    """Whether the kernel knows ``noswap``."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 4)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_secret_lies_in_a_tmpfs_of_its_own_that_is_never_swapped(
    volumes: Volumes, tmp_path: Path, in_memory: bool
) -> None:
    if in_memory:
        (tmp_path / "run").mkdir()
        asyncio.run(SystemMounter().mount_tmpfs(tmp_path / "run", "mode=0755"))
    try:
        assert ("noswap" in mounted_options(volumes, tmp_path)) == is_new_enough()
        asyncio.run(volumes.tear_down(UID))
    finally:
        if in_memory:
            asyncio.run(SystemMounter().unmount(tmp_path / "run"))


def test_a_mount_that_fails_for_another_reason_is_not_made_without_noswap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program stands in for one that a busy node fails once."""
    program = tmp_path / "mount"
    program.write_text(f"""#!/bin/sh
echo "$*" >> {tmp_path}/calls
[ "$(wc -l < {tmp_path}/calls)" -gt 1 ] || {{ echo "mount: Cannot allocate memory" >&2; exit 32; }}
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    mounter = SystemMounter()
    with pytest.raises(TemporaryError, match="Cannot allocate memory"):
        asyncio.run(mounter.mount_tmpfs(tmp_path, "mode=0755", swap=False))
    asyncio.run(mounter.mount_tmpfs(tmp_path, "mode=0755", swap=False))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["noswap" in call for call in calls] == [True, True]


def test_a_kernel_that_does_not_know_noswap_is_asked_once(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mounter_module, "NOSWAP", "no-such-option")
    assert "noswap" not in mounted_options(volumes, tmp_path)
    mounter = SystemMounter()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        asyncio.run(mounter.mount_tmpfs(tmp_path / name, "mode=0755", swap=False))
        assert f"{tmp_path / name} tmpfs rw,nosuid,nodev,relatime,mode=755" in mounts_table()
        asyncio.run(mounter.unmount(tmp_path / name))
        monkeypatch.setattr(mounter_module, "NOSWAP", "mode=0700")  # would be taken if it were asked again
    assert caplog.text.count("may go to the swap space") == 2, "once for each of the two mounters"
    with pytest.raises(TemporaryError):
        asyncio.run(mounter.mount_tmpfs(tmp_path / "missing", "mode=0755", swap=False))


def test_a_secret_that_an_older_agent_showed_in_memory_is_not_hidden(
    volumes: Volumes, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    asyncio.run(SystemMounter().mount_tmpfs(tmp_path / "run", "mode=0755"))
    try:
        folder = tmp_path / f"run/{UID}/volumes/s"
        folder.mkdir(parents=True)
        write_payload(folder, {"key": Projected(b"old", 0o644)}, None)
        with pytest.raises(ValueError, match="not enough values"):
            mounted_options(volumes, tmp_path)
        assert (folder / "key").read_bytes() == b"x"
        asyncio.run(volumes.tear_down(UID))
    finally:
        asyncio.run(SystemMounter().unmount(tmp_path / "run"))


def test_a_limit_below_one_byte_is_still_a_limit(volumes: Volumes, tmp_path: Path) -> None:
    """A tmpfs without a size would take half of the memory."""
    prepare(volumes, pod({"v": {"emptyDir": {"medium": "Memory", "sizeLimit": "500m"}}}))
    (options,) = [line for line in mounts_table().splitlines() if f"{tmp_path}/run/{UID}/volumes/v" in line]
    assert "size=4k" in options
