"""The volumes of pods, as their containers see them on a real Podman.

https://kubernetes.io/docs/concepts/storage/volumes/
https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lone import LoneAgent, config_map, is_running, lone_agent, secret, static_pod
from tests.support.podman import PodmanService
from tests.support.podtable import covers
from tests.support.volumepods import (
    failed_mounts,
    fails_to_mount,
    mode,
    mount,
    mounting,
    names,
    read,
    refusal,
    waits_for,
)
from tests.support.waiting import wait_for

MIB = 1 << 20
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share an agent."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled."""
    with lone_agent(tmp_path_factory.mktemp("lone"), podman) as agent:
        yield agent


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder of the node that is a mount point of its own, and whose mounts propagate."""
    folder = tmp_path / "shared"
    folder.mkdir()
    mount("--bind", folder, folder)
    mount("--make-private", folder)
    mount("--make-shared", folder)
    yield folder
    subprocess.run(["umount", "--recursive", "--lazy", folder], check=True)


@covers("Volume.name", "Volume.emptyDir", "VolumeMount.name", "VolumeMount.mountPath")
def test_containers_share_an_empty_dir_which_goes_with_the_pod(lone: LoneAgent) -> None:
    pod = static_pod("sharing", ["sleep", "3600"], ["sleep", "3600"])
    pod["spec"]["volumes"] = [{"name": "one", "emptyDir": {}}, {"name": "two", "emptyDir": {}}]
    first, second = pod["spec"]["containers"]
    first["volumeMounts"] = [{"name": "one", "mountPath": "/a"}, {"name": "two", "mountPath": "/deep/b"}]
    second["volumeMounts"] = [{"name": "two", "mountPath": "/c"}]
    with lone.running(pod):
        assert names(lone, "sharing", "/a") == []
        lone.exec("sharing", "sh", "-c", "echo first > /a/file; echo second > /deep/b/file")
        assert read(lone, "sharing", "/c/file", "c1") == "second\n"
        assert lone.exec("sharing", "ls", "/a", container="c1", check=False).returncode != 0
        # A volume outlives a container, unlike the container's own files.
        before = lone.container("sharing").id
        lone.exec("sharing", "touch", "/own")
        lone.podman.run("kill", before)
        lone.wait_status(
            "sharing", lambda status: is_running(status) and lone.container("sharing").id != before
        )
        assert read(lone, "sharing", "/deep/b/file") == "second\n"
        assert lone.exec("sharing", "ls", "/own", check=False).returncode != 0
    with lone.running(pod):
        assert names(lone, "sharing", "/a") == names(lone, "sharing", "/deep/b") == []


@covers("EmptyDirVolumeSource.medium", "EmptyDirVolumeSource.sizeLimit")
def test_an_empty_dir_in_memory_is_as_large_as_its_limit(lone: LoneAgent) -> None:
    pod = mounting(
        "memory",
        fast={"emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}},
        slow={"emptyDir": {"medium": ""}},
    )
    with lone.running(pod):
        mounts = {
            line.split()[1]: line.split()[2] for line in read(lone, "memory", "/proc/mounts").splitlines()
        }
        assert mounts["/fast"] == "tmpfs"
        assert mounts["/slow"] != "tmpfs"
        fill = ("dd", "if=/dev/zero", f"bs={MIB}", "count=3")
        assert "No space left" in refusal(lone, "memory", *fill, "of=/fast/file")
        assert int(lone.exec("memory", "stat", "-c", "%s", "/fast/file").stdout) == 2 * MIB
        lone.exec("memory", *fill, "of=/slow/file")


@covers("VolumeMount.readOnly")
def test_a_read_only_mount_cannot_be_written(lone: LoneAgent) -> None:
    pod = mounting(
        "readonly",
        {"name": "v", "mountPath": "/ro", "readOnly": True},
        {"name": "v", "mountPath": "/rw", "readOnly": False},
        {"name": "settings", "mountPath": "/settings"},
        v={"emptyDir": {}},
        settings={"configMap": {"name": "ro-settings"}},
    )
    with lone.running(pod, config_map("ro-settings", key="value")):
        lone.exec("readonly", "touch", "/rw/file")
        assert names(lone, "readonly", "/ro") == ["file"]
        assert "Read-only" in refusal(lone, "readonly", "touch", "/ro/other")
        assert "Read-only" in refusal(lone, "readonly", "touch", "/settings/other")


@covers("VolumeMount.recursiveReadOnly")
@pytest.mark.parametrize("value", ["Disabled", "IfPossible"])
def test_a_read_only_mount_leaves_the_mounts_below_it_as_they_are(
    lone: LoneAgent, shared: Path, value: str
) -> None:
    below = shared / "below"
    below.mkdir()
    mount("-t", "tmpfs", "tmpfs", below)
    seen = {"name": "host", "mountPath": "/host", "readOnly": True, "recursiveReadOnly": value}
    with lone.running(mounting("recursive", seen, host={"hostPath": {"path": str(shared)}})):
        assert "Read-only" in refusal(lone, "recursive", "touch", "/host/file")
        lone.exec("recursive", "touch", "/host/below/file")
        assert (below / "file").exists()


@covers("VolumeMount.subPath")
def test_a_sub_path_is_a_part_of_a_volume(lone: LoneAgent, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("here")
    (tmp_path / "out").symlink_to("/etc")
    pod = mounting(
        "parts",
        {"name": "host", "mountPath": "/given", "subPath": "given"},
        {"name": "host", "mountPath": "/etc/one", "subPath": "given/file"},
        {"name": "host", "mountPath": "/made", "subPath": "made/below"},
        {"name": "settings", "mountPath": "/etc/settings/a", "subPath": "a"},
        host={"hostPath": {"path": str(tmp_path)}},
        settings={"configMap": {"name": "parts"}},
    )
    with lone.running(pod, config_map("parts", a="alpha", b="beta")):
        assert names(lone, "parts", "/given") == ["file"]
        assert read(lone, "parts", "/etc/one") == "here"
        lone.exec("parts", "touch", "/made/new")
        assert (tmp_path / "made" / "below" / "new").is_file()
        assert names(lone, "parts", "/etc/settings") == ["a"]
        assert read(lone, "parts", "/etc/settings/a") == "alpha"
    led_out = mounting(
        "led",
        {"name": "host", "mountPath": "/v", "subPath": "out"},
        host={"hostPath": {"path": str(tmp_path)}},
    )
    with lone.running(led_out, until=waits_for("CreateContainerConfigError")):
        pass


@covers("VolumeMount.subPathExpr")
def test_a_sub_path_may_be_made_of_variables(lone: LoneAgent, tmp_path: Path) -> None:
    source = {"hostPath": {"path": str(tmp_path)}}
    env = {
        "env": [
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "WHAT", "value": "logs"},
        ]
    }
    seen = {"name": "host", "mountPath": "/v", "subPathExpr": "$(WHO)/$(WHAT)"}
    with lone.running(mounting("expanded", seen, container=env, host=source)):
        lone.exec("expanded", "touch", "/v/file")
        assert (tmp_path / lone.full_name("expanded") / "logs" / "file").is_file()
    unknown = {**seen, "subPathExpr": "$(NOBODY)"}
    with lone.running(
        mounting("unexpanded", unknown, container=env, host=source),
        until=waits_for("CreateContainerConfigError"),
    ):
        assert not (tmp_path / "$(NOBODY)").exists()


@covers("VolumeMount.mountPropagation")
def test_mounts_propagate_as_the_mount_says(lone: LoneAgent, shared: Path) -> None:
    for name in ("early", "late", "inner"):
        (shared / name).mkdir()
    pod = static_pod("propagating", *[["sleep", "3600"]] * 3)
    pod["spec"]["volumes"] = [{"name": "host", "hostPath": {"path": str(shared)}}]
    for container, propagation in zip(
        pod["spec"]["containers"], ("None", "HostToContainer", "Bidirectional"), strict=True
    ):
        seen = {"name": "host", "mountPath": "/host", "mountPropagation": propagation}
        container["volumeMounts"] = [seen]
    pod["spec"]["containers"][2]["securityContext"] = {"privileged": True}
    with lone.running(pod):
        mount("-t", "tmpfs", "tmpfs", shared / "late")
        (shared / "late" / "file").touch()
        found = {
            container: names_in(lone, "propagating", "/host/late", container)
            for container in ("main", "c1", "c2")
        }
        assert found == {"main": [], "c1": ["file"], "c2": ["file"]}
        lone.exec("propagating", "mount", "-t", "tmpfs", "tmpfs", "/host/inner", container="c2")
        assert os.path.ismount(shared / "inner")
        lone.exec("propagating", "touch", "/host/inner/file", container="c2")
        assert names_in(lone, "propagating", "/host/inner", "c1") == ["file"]
        assert names_in(lone, "propagating", "/host/inner", "main") == []


def names_in(lone: LoneAgent, pod: str, folder: str, container: str) -> list[str]:
    """What this container of a pod sees in a folder."""
    return lone.exec(pod, "ls", folder, container=container).stdout.split()


@covers("Volume.hostPath", "HostPathVolumeSource.path", "HostPathVolumeSource.type")
def test_a_host_path_is_what_its_type_says(lone: LoneAgent, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("of the node")
    (tmp_path / "file").write_text("a file")
    os.mknod(tmp_path / "block", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    kinds = {
        "folder": "Directory",
        "file": "File",
        "socket": "Socket",
        "block": "BlockDevice",
        "new-folder": "DirectoryOrCreate",
        "new-file": "FileOrCreate",
        "any": "",
    }
    volumes = {
        name: {"hostPath": {"path": str(tmp_path / name), "type": kind}} for name, kind in kinds.items()
    }
    volumes["char"] = {"hostPath": {"path": "/dev/zero", "type": "CharDevice"}}
    seen = [{"name": name, "mountPath": f"/host/{name}"} for name in volumes]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with lone.running(mounting("kinds", *seen, **volumes)):
            assert read(lone, "kinds", "/host/folder/inside") == "of the node"
            assert read(lone, "kinds", "/host/file") == "a file"
            for test, name in {"-S": "socket", "-b": "block", "-c": "char", "-f": "new-file"}.items():
                lone.exec("kinds", "test", test, f"/host/{name}")
            lone.exec("kinds", "touch", "/host/new-folder/written", "/host/any/written")
            assert stat.S_IMODE((tmp_path / "new-folder").stat().st_mode) == 0o755
            assert stat.S_IMODE((tmp_path / "new-file").stat().st_mode) == 0o644
    assert (tmp_path / "new-folder" / "written").is_file(), "what a pod writes to the node stays there"
    assert (tmp_path / "any" / "written").is_file()


@pytest.mark.parametrize(
    "kind", ["Directory", "DirectoryOrCreate", "Socket", "CharDevice", "BlockDevice", "File"]
)
@covers("HostPathVolumeSource.type")
def test_a_host_path_of_another_type_keeps_the_pod_from_running(
    lone: LoneAgent, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "it"
    if kind != "File":
        path.touch()
    pod = mounting("mistyped", v={"hostPath": {"path": str(path), "type": kind}})
    with lone.running(pod, until=fails_to_mount(lone, "mistyped")):
        assert "hostPath type check failed" in failed_mounts(lone, "mistyped")
    assert path.exists() == (kind != "File")


@covers(
    "Volume.configMap",
    "ConfigMapVolumeSource.name",
    "ConfigMapVolumeSource.items",
    "ConfigMapVolumeSource.defaultMode",
    "KeyToPath.key",
    "KeyToPath.path",
    "KeyToPath.mode",
)
def test_a_config_map_is_files(lone: LoneAgent) -> None:
    items = [{"key": "a", "path": "deep/er/first"}, {"key": "b", "path": "second", "mode": 0o400}]
    pod = mounting(
        "files",
        plain={"configMap": {"name": "files"}},
        some={"configMap": {"name": "files", "items": items, "defaultMode": 0o440}},
    )
    settings = config_map("files", a="alpha", b="beta\n", c="gamma")
    settings["binaryData"] = {"raw": "/wD+"}
    with lone.running(pod, settings):
        assert names(lone, "files", "/plain") == ["a", "b", "c", "raw"]
        assert read(lone, "files", "/plain/a") == "alpha"
        assert read(lone, "files", "/plain/b") == "beta\n"
        assert lone.exec("files", "od", "-An", "-tx1", "/plain/raw").stdout.split() == ["ff", "00", "fe"]
        assert mode(lone, "files", "/plain/a") == "644"
        assert names(lone, "files", "/some") == ["deep", "second"]
        assert read(lone, "files", "/some/deep/er/first") == "alpha"
        assert read(lone, "files", "/some/second") == "beta\n"
        assert mode(lone, "files", "/some/deep/er/first") == "440"
        assert mode(lone, "files", "/some/second") == "400"


@covers("Volume.configMap", "ConfigMapVolumeSource.name")
def test_a_changed_config_map_shows_without_a_restart(lone: LoneAgent) -> None:
    pod = mounting(
        "live",
        {"name": "settings", "mountPath": "/settings"},
        {"name": "settings", "mountPath": "/fixed", "subPath": "a"},
        settings={"configMap": {"name": "live"}},
    )
    lone.write("live-settings", config_map("live", a="one", b="stays", c="goes"))
    with lone.running(pod):
        before = lone.container("live")
        assert read(lone, "live", "/settings/a") == "one"
        lone.write("live-settings", config_map("live", a="two", b="stays", d="comes"))
        wait_for(lambda: read(lone, "live", "/settings/a") == "two", 20, "the new value")
        assert names(lone, "live", "/settings") == ["a", "b", "d"]
        assert read(lone, "live", "/settings/d") == "comes"
        assert read(lone, "live", "/fixed") == "one", "a file mounted by subPath is not updated"
        assert lone.container("live") == before
        (seen,) = lone.status("live")["containerStatuses"]
        assert seen["restartCount"] == 0
    lone.remove("live-settings")


@covers(
    "ConfigMapVolumeSource.optional",
    "SecretVolumeSource.optional",
    "ConfigMapProjection.optional",
    "SecretProjection.optional",
)
def test_what_is_optional_may_come_later(lone: LoneAgent) -> None:
    asked = [{"key": "a", "path": "a"}, {"key": "not-there", "path": "never"}]
    later, hidden = {"name": "later", "optional": True}, {"name": "later-hidden", "optional": True}
    pod = mounting(
        "optional",
        settings={"configMap": {**later, "items": asked}},
        login={"secret": {"secretName": "later-hidden", "optional": True}},
        both={"projected": {"sources": [{"configMap": {**later, "items": asked}}, {"secret": hidden}]}},
    )
    with lone.running(pod):
        for folder in ("/settings", "/login", "/both"):
            assert names(lone, "optional", folder) == []
        lone.write("later", [config_map("later", a="alpha"), secret("later-hidden", token="hush")])
        wait_for(lambda: names(lone, "optional", "/both") == ["a", "token"], 20, "the files to come")
        wait_for(lambda: names(lone, "optional", "/settings") == ["a"], 5, "the optional key")
        assert names(lone, "optional", "/login") == ["token"]
    lone.remove("later")


@pytest.mark.parametrize("projected", [False, True], ids=["alone", "projected"])
@pytest.mark.parametrize("kind", ["configMap", "secret"])
@covers(
    "ConfigMapVolumeSource.optional",
    "SecretVolumeSource.optional",
    "ConfigMapProjection.optional",
    "SecretProjection.optional",
)
def test_what_is_not_optional_keeps_the_pod_waiting(lone: LoneAgent, kind: str, projected: bool) -> None:
    name = "secretName" if kind == "secret" and not projected else "name"
    source = {kind: {name: "needed", "items": [{"key": "a", "path": "a"}]}}
    pod = mounting("needing", v={"projected": {"sources": [source]}} if projected else source)
    make = secret if kind == "secret" else config_map
    with lone.running(pod, until=fails_to_mount(lone, "needing")):
        assert "needed" in failed_mounts(lone, "needing")
        lone.write("needed", make("needed", a="alpha"))
        lone.wait_status("needing", is_running)
        assert read(lone, "needing", "/v/a") == "alpha"
    lone.remove("needed")


@covers(
    "Volume.secret",
    "SecretVolumeSource.secretName",
    "SecretVolumeSource.items",
    "SecretVolumeSource.defaultMode",
)
def test_a_secret_is_files_in_memory(lone: LoneAgent) -> None:
    items = [{"key": "user", "path": "my/user"}, {"key": "token", "path": "token", "mode": 0o440}]
    pod = mounting(
        "hidden",
        plain={"secret": {"secretName": "hidden"}},
        some={"secret": {"secretName": "hidden", "items": items, "defaultMode": 0o400}},
    )
    with lone.running(pod, secret("hidden", user="me", token="hush-hush", other="else")):
        assert names(lone, "hidden", "/plain") == ["other", "token", "user"]
        assert read(lone, "hidden", "/plain/token") == "hush-hush"
        assert mode(lone, "hidden", "/plain/token") == "644"
        assert names(lone, "hidden", "/some") == ["my", "token"]
        assert read(lone, "hidden", "/some/my/user") == "me"
        assert mode(lone, "hidden", "/some/my/user") == "400"
        assert mode(lone, "hidden", "/some/token") == "440"
        mounts = {
            line.split()[1]: line.split()[2] for line in read(lone, "hidden", "/proc/mounts").splitlines()
        }
        assert mounts["/plain"] == mounts["/some"] == "tmpfs"
        lone.write("default.hidden", [secret("hidden", user="you", token="louder", other="else"), pod])
        wait_for(lambda: read(lone, "hidden", "/plain/token") == "louder", 20, "the new secret")
        assert read(lone, "hidden", "/some/my/user") == "you"


@covers(
    "Volume.downwardAPI",
    "DownwardAPIVolumeSource.items",
    "DownwardAPIVolumeSource.defaultMode",
    "DownwardAPIVolumeFile.path",
    "DownwardAPIVolumeFile.fieldRef",
    "DownwardAPIVolumeFile.resourceFieldRef",
    "DownwardAPIVolumeFile.mode",
)
def test_facts_about_the_pod_are_files(lone: LoneAgent) -> None:
    items = [
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "deep/uid", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 0o400},
        {"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory"}},
        {
            "path": "cpu",
            "resourceFieldRef": {"containerName": "main", "resource": "requests.cpu", "divisor": "1m"},
        },
    ]
    resources = {"limits": {"memory": "32Mi"}, "requests": {"cpu": "50m"}}
    pod = mounting(
        "facts",
        container={"resources": resources},
        facts={"downwardAPI": {"items": items, "defaultMode": 0o440}},
    )
    pod["metadata"] |= {"labels": {"tier": "edge", "app": "facts"}, "annotations": {"note": "two words"}}
    with lone.running(pod) as running:
        assert names(lone, "facts", "/facts") == ["cpu", "deep", "labels", "memory", "name", "note"]
        assert read(lone, "facts", "/facts/name") == lone.full_name("facts")
        assert read(lone, "facts", "/facts/deep/uid") == running["metadata"]["uid"]
        assert read(lone, "facts", "/facts/labels").splitlines() == ['app="facts"', 'tier="edge"']
        assert read(lone, "facts", "/facts/note") == "two words"
        assert read(lone, "facts", "/facts/memory") == str(32 * MIB)
        assert read(lone, "facts", "/facts/cpu") == "50"
        assert mode(lone, "facts", "/facts/name") == "440"
        assert mode(lone, "facts", "/facts/labels") == "400"


@covers(
    "Volume.projected",
    "ProjectedVolumeSource.sources",
    "ProjectedVolumeSource.defaultMode",
    "VolumeProjection.configMap",
    "VolumeProjection.secret",
    "VolumeProjection.downwardAPI",
    "ConfigMapProjection.name",
    "ConfigMapProjection.items",
    "SecretProjection.name",
    "SecretProjection.items",
    "DownwardAPIProjection.items",
)
def test_a_projected_volume_is_several_sources_in_one_folder(lone: LoneAgent) -> None:
    named = {"path": "pod/name", "fieldRef": {"fieldPath": "metadata.name"}}
    sources: list[Fields] = [
        {"configMap": {"name": "whole"}},
        {"configMap": {"name": "some", "items": [{"key": "b", "path": "conf/b"}]}},
        {"secret": {"name": "all-of-it"}},
        {"secret": {"name": "part", "items": [{"key": "token", "path": "conf/token", "mode": 0o400}]}},
        {"downwardAPI": {"items": [named]}},
    ]
    pod = mounting("projecting", all={"projected": {"sources": sources, "defaultMode": 0o440}})
    objects = [
        config_map("whole", a="alpha"),
        config_map("some", b="beta", c="gamma"),
        secret("all-of-it", user="me"),
        secret("part", token="hush", other="else"),
    ]
    with lone.running(pod, *objects):
        found = lone.exec("projecting", "sh", "-c", "cd /all; find * -follow -type f | sort").stdout.split()
        assert found == ["a", "conf/b", "conf/token", "pod/name", "user"]
        contents = {path: read(lone, "projecting", f"/all/{path}") for path in found}
        assert contents == {
            "a": "alpha",
            "conf/b": "beta",
            "conf/token": "hush",
            "pod/name": lone.full_name("projecting"),
            "user": "me",
        }
        modes = {path: mode(lone, "projecting", f"/all/{path}") for path in found}
        assert modes == {**dict.fromkeys(found, "440"), "conf/token": "400"}
