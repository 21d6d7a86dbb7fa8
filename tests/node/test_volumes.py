"""Volumes on a real file system and with real mounts: what they show, to whom, and what is left of them."""

import asyncio
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.volume import HostPathVolumeSource
from edgeagent.api.runtime import Mount
from edgeagent.node.pods.lookup import Lookup
from edgeagent.node.pods.volumes import SystemMounter, VolumeUsage, Volumes, over_limit
from edgeagent.node.pods.volumes.atomic import Projected, write_payload
from edgeagent.node.pods.volumes.hostpath import check_host_path
from edgeagent.node.pods.volumes.mounter import file_system_of
from edgeagent.node.pods.volumes.subpath import open_below
from tests.node.podkit import main, make_facts, make_lookup, make_pod
from tests.support.leftovers import mounts_below

UID = "u-1"
MIB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")


@pytest.fixture(autouse=True)
def no_mounts_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test did, its mounts go."""
    yield
    for point in reversed(mounts_below(tmp_path)):
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    """A umask that would keep all others out."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def files(**texts: str) -> dict[str, Projected]:
    """A payload of files at the top."""
    return {name: Projected(text.encode(), 0o644) for name, text in texts.items()}


def shown(folder: Path) -> dict[str, str]:
    """What somebody who knows nothing of ``..data`` reads there."""
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith("..")}


def mode_of(path: Path) -> int:
    """The permission bits, links followed."""
    return stat.S_IMODE(path.stat().st_mode)


# The atomic writer


def test_a_payload_is_shown_and_replaced(tmp_path: Path) -> None:
    assert write_payload(tmp_path, files(a="1", b="2"), None)
    assert shown(tmp_path) == {"a": "1", "b": "2"}
    assert write_payload(tmp_path, files(a="1", c="3"), None)
    assert shown(tmp_path) == {"a": "1", "c": "3"}
    assert write_payload(tmp_path, {}, None)
    assert shown(tmp_path) == {}
    assert len(os.listdir(tmp_path)) == 2, "the link and what it points to"


def test_an_unchanged_payload_writes_nothing(tmp_path: Path) -> None:
    payload = {**files(a="1"), "deep/er/b": Projected(b"2", 0o400)}
    assert write_payload(tmp_path, payload, 4242)
    before = [os.lstat(path) for path in sorted(tmp_path.rglob("*"))]
    assert not write_payload(tmp_path, payload, 4242)
    assert [os.lstat(path) for path in sorted(tmp_path.rglob("*"))] == before


def test_a_changed_mode_is_a_change(tmp_path: Path) -> None:
    write_payload(tmp_path, {"a": Projected(b"1", 0o644)}, None)
    assert write_payload(tmp_path, {"a": Projected(b"1", 0o400)}, None)
    assert mode_of(tmp_path / "a") == 0o400


def test_a_reader_sees_the_old_set_or_the_new(tmp_path: Path) -> None:
    write_payload(tmp_path, files(a="0", b="0"), None)
    ended, torn = threading.Event(), []

    def look() -> None:
        while not ended.is_set():
            folder = os.open(tmp_path / "..data", os.O_PATH | os.O_DIRECTORY)
            try:
                pair = [_text(folder, name) for name in "ab"]
            except FileNotFoundError:
                continue  # the set was replaced since, and is gone
            finally:
                os.close(folder)
            if len(set(pair)) != 1:
                torn.append(pair)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(200):
            text = str(number) * 100
            write_payload(tmp_path, files(a=text, b=text), None)
            assert shown(tmp_path) == {"a": text, "b": text}
    finally:
        ended.set()
        reader.join()
    assert torn == []


def _text(folder: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder)) as file:
        return file.read()


def test_files_deep_in_a_volume_can_be_read_by_all_whatever_the_umask(
    tmp_path: Path, narrow_umask: None
) -> None:
    write_payload(tmp_path, {"deep/er/a": Projected(b"1", 0o644)}, None)
    assert (tmp_path / "deep/er/a").read_bytes() == b"1"
    assert [mode_of(tmp_path / path) for path in ("..data", "deep", "deep/er")] == [0o755] * 3
    assert mode_of(tmp_path / "deep/er/a") == 0o644


def test_a_payload_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    write_payload(tmp_path, files(a="1"), None)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError, match="directory"):
        write_payload(tmp_path, {**files(a="2"), "a/b": Projected(b"", 0o644)}, None)
    assert shown(tmp_path) == {"a": "1"}
    assert sorted(os.listdir(tmp_path)) == before


def test_what_a_crash_left_is_mended(tmp_path: Path) -> None:
    write_payload(tmp_path, files(a="1"), None)
    (tmp_path / "a").unlink()
    (tmp_path / "gone").symlink_to("..data/gone")
    (tmp_path / "..half").mkdir()
    (tmp_path / "..data_tmp").symlink_to("..half")
    assert write_payload(tmp_path, files(a="1"), None)
    assert shown(tmp_path) == {"a": "1"}
    assert len(os.listdir(tmp_path)) == 3


def test_the_group_of_the_pod_can_read_its_files(tmp_path: Path) -> None:
    write_payload(tmp_path, {"a": Projected(b"1", 0o400), "deep/b": Projected(b"2", 0o644)}, 4242)
    for path, mode in {"a": 0o440, "deep/b": 0o644}.items():
        found = (tmp_path / path).stat()
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (4242, mode)


# hostPath


def refused(path: str, kind: str, root: Path) -> str:
    """Why the path will not do."""
    with pytest.raises(PermanentError) as caught:
        check_host_path(HostPathVolumeSource(path=path, type=kind), root)  # type: ignore[arg-type]
    assert caught.value.reason == "FailedMount"
    return str(caught.value)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A node with one of each."""
    root = tmp_path / "host"
    (root / "Directory").mkdir(parents=True)
    (root / "File").touch()
    os.mknod(root / "CharDevice", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(root / "BlockDevice", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "Socket"))
        yield root


KINDS = ["Directory", "File", "Socket", "CharDevice", "BlockDevice"]


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("kind", ["", *KINDS, "DirectoryOrCreate", "FileOrCreate"])
def test_a_host_path_must_be_of_its_type(host: Path, there: str, kind: str) -> None:
    if kind.removesuffix("OrCreate") in ("", there):
        source = HostPathVolumeSource(path=f"/{there}", type=kind)  # type: ignore[arg-type]
        assert check_host_path(source, host) == host / there
    else:
        assert f"/{there} is not a" in refused(f"/{there}", kind, host)


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_path_that_must_be_there_is_not_made(host: Path, kind: str) -> None:
    refused("/none", kind, host)
    assert not (host / "none").exists()


def test_a_host_path_is_made_where_its_type_says(host: Path) -> None:
    for kind in ("", "DirectoryOrCreate"):
        source = HostPathVolumeSource(path=f"/new{kind}/below", type=kind)  # type: ignore[arg-type]
        assert mode_of(check_host_path(source, host)) == 0o755
    made = check_host_path(HostPathVolumeSource(path="/new-file", type="FileOrCreate"), host)
    assert (made.is_file(), mode_of(made)) == (True, 0o644)
    refused("/no/parent", "FileOrCreate", host)


@pytest.mark.parametrize("kind", ["", *KINDS, "DirectoryOrCreate", "FileOrCreate"])
def test_a_loop_of_links_is_no_host_path(host: Path, kind: str) -> None:
    (host / "one").symlink_to("two")
    (host / "two").symlink_to("one")
    refused("/one", kind, host)
    refused("/one/below", kind, host)
    (host / "nowhere").symlink_to("nothing/at/all")
    refused("/nowhere", kind, host)


def test_a_link_of_the_node_is_followed(host: Path) -> None:
    (host / "link").symlink_to("Directory")
    check_host_path(HostPathVolumeSource(path="/link", type="Directory"), host)


# subPath


def test_a_part_of_a_volume_is_opened_and_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for relative, expected in {"file": stat.S_ISREG, "new/deep": stat.S_ISDIR, "./new": stat.S_ISDIR}.items():
        descriptor = open_below(tmp_path, relative)
        assert expected(os.fstat(descriptor).st_mode)
        os.close(descriptor)
    assert (tmp_path / "new/deep").is_dir()


@pytest.mark.parametrize(
    "relative", ["link", "link/below", "inner", "deep/up", "file/below", "/etc", "../x", "deep/../../x"]
)
def test_nothing_leads_out_of_a_volume(tmp_path: Path, relative: str) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "deep").mkdir(parents=True)
    outside.mkdir()
    (volume / "file").touch()
    (volume / "link").symlink_to(outside)
    (volume / "inner").symlink_to("deep")
    (volume / "deep/up").symlink_to("../..")
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PermanentError) as caught:
        open_below(volume, relative)
    assert caught.value.reason == "CreateContainerConfigError"
    assert list(outside.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == open_files


# Mounts


def test_a_descriptor_is_bound_whatever_its_way_leads_to_now(tmp_path: Path) -> None:
    there, target = tmp_path / "there", tmp_path / "target"
    there.mkdir()
    target.mkdir()
    (there / "file").touch()
    descriptor = os.open(there, os.O_PATH | os.O_DIRECTORY)
    try:
        asyncio.run(SystemMounter().mount_tmpfs(there, "size=4096"))
        asyncio.run(SystemMounter().bind(f"/proc/{os.getpid()}/fd/{descriptor}", target))
    finally:
        os.close(descriptor)
    assert os.listdir(there) == []
    assert os.listdir(target) == ["file"]


def test_the_mount_table_is_read_with_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "with space\\ and \tü"
    folder.mkdir()
    mounter = SystemMounter()
    asyncio.run(mounter.mount_tmpfs(folder, "size=4096"))
    (folder / "below").mkdir()
    asyncio.run(mounter.mount_tmpfs(folder / "below", "size=4096"))
    assert asyncio.run(mounter.mounts_below(tmp_path)) == [folder / "below", folder]
    assert file_system_of(folder) == "tmpfs"
    for point in asyncio.run(mounter.mounts_below(tmp_path)):
        asyncio.run(mounter.unmount(point))
    assert asyncio.run(mounter.mounts_below(tmp_path)) == []


def test_a_mount_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="none") as caught:
        asyncio.run(SystemMounter().mount_tmpfs(tmp_path / "none", "size=4096"))
    assert caught.value.reason == "FailedMount"


# The volumes of a pod


class DisklessMounter(SystemMounter):
    """Mounts nothing while it is ``broken``."""

    broken = False

    async def mount_tmpfs(self, target: Path, options: str) -> None:
        """Mount, or do not."""
        if self.broken:
            raise TemporaryError("no room for a mount")
        await super().mount_tmpfs(target, options)


class Node:
    """A node's folders and the volumes on it."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.memory, self.host = folder / "state/pods", folder / "run/pods", folder / "host"
        self.host.mkdir()
        self.mounter = DisklessMounter()
        self.volumes = Volumes(disk=self.disk, memory=self.memory, host=self.host, mounter=self.mounter)

    def prepare(self, pod: Pod, lookup: Lookup | None = None) -> bool:
        """Whether any file changed."""
        return asyncio.run(self.volumes.prepare(make_facts(pod), lookup or make_lookup()))

    def mounts(self, pod: Pod, **environment: str) -> dict[str, Mount]:
        """What the first container sees, by destination."""
        made = asyncio.run(self.volumes.mounts(pod, main(pod), environment))
        return {mount.destination: mount for mount in made}

    def source(self, pod: Pod, destination: str = "/v") -> Path:
        """Where what is seen there lies."""
        return Path(self.mounts(pod)[destination].source)

    def tear_down(self) -> None:
        """Remove the pod's."""
        asyncio.run(self.volumes.tear_down(UID))

    def empty(self) -> bool:
        """Whether neither a mount nor a folder is left of any pod."""
        left = [entry for base in (self.disk, self.memory) if base.is_dir() for entry in base.iterdir()]
        return not left and not mounts_below(self.memory) and not mounts_below(self.disk)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node without pods."""
    return Node(tmp_path)


def pod_with(source: Mapping[str, Any], mount: Mapping[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod whose volume ``v`` is seen at ``/v``."""
    seen = {"name": "v", "mountPath": "/v", **(mount or {})}
    return make_pod({"volumeMounts": [seen]}, volumes=[{"name": "v", **source}], **spec)


def secrets(**data: str) -> Lookup:
    """A secret ``s``."""
    found = decode_object({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": data})
    assert isinstance(found, Secret)
    return make_lookup(secrets={"s": found})


def test_an_empty_dir_is_empty_once(node: Node) -> None:
    pod = pod_with({"emptyDir": {}})
    node.prepare(pod)
    folder = node.source(pod)
    assert folder.is_relative_to(node.disk)
    assert (os.listdir(folder), mode_of(folder)) == ([], 0o777)
    (folder / "file").touch()
    node.prepare(pod)
    assert os.listdir(folder) == ["file"]
    assert os.listdir(folder.parent) == ["v"]


def test_an_empty_dir_is_whole_or_not_there(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pod_with({"emptyDir": {}}, securityContext={"fsGroup": 4242})

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "chown", fail)
        with pytest.raises(TemporaryError, match=r'volume "v"'):
            node.prepare(pod)
    node.prepare(pod)
    found = node.source(pod).stat()
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (4242, 0o2777)


@pytest.mark.parametrize("linked", [False, True])
def test_an_empty_dir_in_memory_is_mounted_once(tmp_path: Path, linked: bool) -> None:
    node = Node(tmp_path)
    if linked:  # as /var/run is a link to /run
        (tmp_path / "var").symlink_to(tmp_path)
        memory = tmp_path / "var/run/pods"
        node.volumes = Volumes(disk=node.disk, memory=memory, host=node.host, mounter=node.mounter)
    pod = pod_with({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, securityContext={"fsGroup": 4242})
    node.prepare(pod)
    folder = node.source(pod)
    assert file_system_of(folder) == "tmpfs"
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize == MIB
    assert (folder.stat().st_gid, mode_of(folder)) == (4242, 0o2777)
    (folder / "file").touch()
    node.prepare(pod)
    assert os.listdir(folder) == ["file"]
    assert len(mounts_below(node.memory)) == 1
    node.tear_down()
    assert node.empty()


def test_an_empty_dir_in_memory_never_lies_on_the_disk(node: Node) -> None:
    pod = pod_with({"emptyDir": {"medium": "Memory"}})
    node.mounter.broken = True
    with pytest.raises(TemporaryError):
        node.prepare(pod)
    node.mounter.broken = False
    node.prepare(pod)
    assert mounts_below(node.memory) == [str(node.source(pod))]
    assert mode_of(node.source(pod)) == 0o777


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [("2Mi", ["1Mi"], 1), ("1Mi", ["2Mi"], 1), ("", ["1Mi", "2Mi"], 3), ("4Mi", ["1Mi", ""], 4)],
)
def test_memory_volumes_grow_to_the_smaller_of_their_own_limit_and_the_pods(
    node: Node, own: str, limits: list[str], expected: int
) -> None:
    containers = [{"resources": {"limits": {"memory": limit} if limit else {}}} for limit in limits]
    source = {"medium": "Memory", **({"sizeLimit": own} if own else {})}
    seen = [{"name": "v", "mountPath": "/v"}]
    pod = make_pod(
        {**containers[0], "volumeMounts": seen}, *containers[1:], volumes=[{"name": "v", "emptyDir": source}]
    )
    node.prepare(pod)
    found = os.statvfs(node.source(pod))
    assert found.f_blocks * found.f_frsize == expected * MIB


@pytest.mark.parametrize("policy", ["Always", "OnRootMismatch"])
def test_the_group_of_the_pod_owns_its_empty_dirs(node: Node, policy: str) -> None:
    pod = pod_with({"emptyDir": {}}, securityContext={"fsGroup": 4242, "fsGroupChangePolicy": policy})
    node.prepare(pod)
    folder = node.source(pod)
    assert (folder.stat().st_gid, mode_of(folder)) == (4242, 0o2777)
    (folder / "file").touch()
    assert (folder / "file").stat().st_gid == 4242, "new files are the group's too"


def test_a_config_map_follows_its_source(node: Node, narrow_umask: None) -> None:
    pod = pod_with({"configMap": {"name": "c"}})
    assert node.prepare(pod, make_lookup({"c": {"a": "1"}}))
    assert not node.prepare(pod, make_lookup({"c": {"a": "1"}}))
    folder = node.source(pod)
    assert (shown(folder), mode_of(folder)) == ({"a": "1"}, 0o755)
    assert node.prepare(pod, make_lookup({"c": {"b": "2"}}))
    assert node.source(pod) == folder
    assert shown(folder) == {"b": "2"}
    assert node.mounts(pod)["/v"].read_only


def test_a_missing_config_map_is_named_and_what_was_shown_stays(node: Node) -> None:
    pod = pod_with({"configMap": {"name": "c"}})
    node.prepare(pod, make_lookup({"c": {"a": "1"}}))
    with pytest.raises(PermanentError, match="configmap 'c' not found") as caught:
        node.prepare(pod)
    assert caught.value.reason == "FailedMount"
    assert shown(node.source(pod)) == {"a": "1"}


@pytest.mark.parametrize(
    "source",
    [{"secret": {"secretName": "s"}}, {"projected": {"sources": [{"secret": {"name": "s"}}]}}],
    ids=["alone", "projected"],
)
def test_a_secret_lies_in_memory_only(node: Node, source: dict[str, Any]) -> None:
    pod = pod_with(source)
    node.mounter.broken = True
    if file_system_of(node.host) != "tmpfs":
        with pytest.raises(TemporaryError):
            node.prepare(pod, secrets(token="hush"))
    node.mounter.broken = False
    assert node.prepare(pod, secrets(token="hush"))
    folder = node.source(pod)
    assert file_system_of(folder) == "tmpfs"
    assert shown(folder) == {"token": "hush"}
    before = mounts_below(node.memory)
    assert not node.prepare(pod, secrets(token="hush"))
    assert mounts_below(node.memory) == before
    on_disk = [path for path in node.disk.rglob("*") if path.is_file()] if node.disk.is_dir() else []
    assert on_disk == []


def test_of_two_projected_sources_with_one_path_the_later_counts(node: Node) -> None:
    sources = [{"configMap": {"name": "one"}}, {"configMap": {"name": "two"}}]
    pod = pod_with({"projected": {"sources": sources}})
    node.prepare(pod, make_lookup({"one": {"a": "1", "b": "1"}, "two": {"b": "2"}}))
    assert shown(node.source(pod)) == {"a": "1", "b": "2"}


def test_binary_data_is_shown_as_it_is(node: Node) -> None:
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "binaryData": {"raw": "/wD+"}}
    found = decode_object(data)
    assert isinstance(found, ConfigMap)
    pod = pod_with({"configMap": {"name": "c"}})
    node.prepare(pod, Lookup(config_map=lambda _: found, secret=make_lookup().secret))
    assert (node.source(pod) / "raw").read_bytes() == b"\xff\x00\xfe"


def test_a_sub_path_shows_a_part_and_goes_on_showing_it(node: Node) -> None:
    pod = pod_with({"configMap": {"name": "c"}}, {"subPath": "a"})
    node.prepare(pod, make_lookup({"c": {"a": "1", "b": "1"}}))
    part = node.source(pod)
    assert part.read_text() == "1"
    node.prepare(pod, make_lookup({"c": {"a": "2"}}))
    assert part.read_text() == "1"
    assert node.source(pod) == part
    assert part.read_text() == "2", "the next container sees what is there now"
    assert len(mounts_below(node.memory)) == 1
    node.tear_down()
    assert node.empty()


def test_a_sub_path_through_a_link_is_refused(node: Node) -> None:
    pod = pod_with({"emptyDir": {}}, {"subPath": "link/below"})
    node.prepare(pod)
    ((node.disk / UID / "volumes/v") / "link").symlink_to("/etc")
    with pytest.raises(PermanentError) as caught:
        node.mounts(pod)
    assert caught.value.reason == "CreateContainerConfigError"
    assert mounts_below(node.memory) == []


@pytest.mark.parametrize("value", ["/etc", "../up", "a/../../up"])
def test_a_sub_path_of_variables_does_not_lead_out(node: Node, value: str) -> None:
    pod = pod_with({"emptyDir": {}}, {"subPathExpr": "$(WHERE)"})
    node.prepare(pod)
    with pytest.raises(PermanentError):
        node.mounts(pod, WHERE=value)
    with pytest.raises(PermanentError):
        node.mounts(pod)
    assert Path(node.mounts(pod, WHERE="well")["/v"].source).is_dir()


def test_tear_down_leaves_neither_mount_nor_folder_and_all_of_the_node(node: Node) -> None:
    (node.host / "data/part").mkdir(parents=True)
    (node.host / "data/part/file").touch()
    volumes: list[dict[str, Any]] = [
        {"name": "host", "hostPath": {"path": "/data"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": "s", "optional": True}},
        {"name": "hidden", "secret": {"secretName": "s"}},
    ]
    seen = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    parts = [
        {"name": name, "mountPath": f"/part-{name}", "subPath": "part"} for name in ("host", "disk", "memory")
    ]
    pod = make_pod({"volumeMounts": [*seen, *parts]}, volumes=volumes)
    node.prepare(pod, secrets(token="hush"))
    made = node.mounts(pod)
    (Path(made["/disk"].source) / "out").symlink_to(node.host)
    assert os.listdir(made["/part-host"].source) == ["file"]
    assert node.volumes.leftovers() == {UID}
    with open(Path(made["/memory"].source) / "busy", "w"):  # a mount in use goes nonetheless
        node.tear_down()
    assert node.empty()
    assert node.volumes.leftovers() == set()
    assert (node.host / "data/part/file").exists()
    node.tear_down()


def test_usage_counts_the_empty_dirs_on_disk(node: Node) -> None:
    pod = pod_with({"emptyDir": {"sizeLimit": "1Mi"}})
    node.prepare(pod)
    (node.source(pod) / "deep").mkdir()
    assert over_limit(pod, asyncio.run(node.volumes.usage(pod))) == []
    (node.source(pod) / "deep/file").write_bytes(os.urandom(MIB + 4096))
    found = asyncio.run(node.volumes.usage(pod))
    assert found.bytes["v"] > MIB
    assert found.inodes == 2
    assert over_limit(pod, found) == ['Usage of EmptyDir volume "v" exceeds the limit "1Mi".']
    in_memory = pod_with({"emptyDir": {"medium": "Memory"}})
    assert asyncio.run(node.volumes.usage(in_memory)) == VolumeUsage()


@pytest.mark.parametrize("uid", ["", "..", ".", "a/b", ".hidden"])
def test_a_uid_that_is_no_folders_name_is_refused(node: Node, uid: str) -> None:
    with pytest.raises(PermanentError):
        asyncio.run(node.volumes.tear_down(uid))
