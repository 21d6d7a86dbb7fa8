"""Kubernetes' rules for volumes and their mounts; each error names its place."""

from typing import Any

import pytest

from tests.api.podkit import container, pod, refusal


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


def projected(*sources: dict[str, Any]) -> dict[str, Any]:
    return volume(projected={"sources": list(sources)})


def file(path: str, **fields: Any) -> dict[str, Any]:
    return {"path": path, "fieldRef": {"fieldPath": "metadata.name"}, **fields}


ITEM = {"key": "k", "path": "p/q"}


@pytest.mark.parametrize(
    "spec",
    [
        volume(emptyDir={}),
        volume(emptyDir={"medium": "Memory", "sizeLimit": "64Mi"}),
        volume(hostPath={"path": "/var/log", "type": "Directory"}),
        volume(configMap={"name": "c", "items": [{**ITEM, "mode": 0o400}], "defaultMode": 0o777}),
        volume(secret={"secretName": "s", "items": [ITEM], "optional": True}),
        volume(downwardAPI={"items": [file("labels", fieldRef={"fieldPath": "metadata.labels"})]}),
        volume(downwardAPI={"items": [file("a", fieldRef={"fieldPath": "metadata.annotations['a']"})]}),
        volume(
            downwardAPI={
                "items": [
                    {"path": "cpu", "resourceFieldRef": {"resource": "limits.cpu", "containerName": "main"}}
                ]
            }
        ),
        projected(
            {"configMap": {"name": "c"}}, {"secret": {"name": "s"}}, {"downwardAPI": {"items": [file("x")]}}
        ),
        projected({"serviceAccountToken": {"path": "token"}}),
        projected(),
        volume(nfs={"server": "nas", "path": "/"}),
        volume(persistentVolumeClaim={"claimName": "c"}),
        volume(configMap={"name": "c", "items": [{"key": "k", "path": "a..b/.c"}]}),
    ],
)
def test_a_volume_that_can_be(spec: dict[str, Any]) -> None:
    pod(**spec)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (volume(), ""),
        (volume(emptyDir={}, hostPath={"path": "/"}), ""),
        (volume(emptyDir={}, nfs={}), ""),
        (volume(name="A", emptyDir={}), ".name"),
        (volume(emptyDir={"sizeLimit": "-1"}), ".emptyDir.sizeLimit"),
        (volume(emptyDir={"sizeLimit": "much"}), ".emptyDir.sizeLimit"),
        (volume(hostPath={"path": ""}), ".hostPath.path"),
        (volume(hostPath={"path": "/a/../b"}), ".hostPath.path"),
        (volume(hostPath={"path": "/a\0"}), ".hostPath.path"),
        (volume(configMap={}), ".configMap.name"),
        (volume(secret={}), ".secret.secretName"),
        (volume(configMap={"name": "c", "defaultMode": 0o1000}), ".configMap.defaultMode"),
        (volume(secret={"secretName": "c", "defaultMode": -1}), ".secret.defaultMode"),
        (volume(downwardAPI={"defaultMode": 512}), ".downwardAPI.defaultMode"),
        (volume(projected={"defaultMode": 512}), ".projected.defaultMode"),
        *[
            (
                volume(configMap={"name": "c", "items": [ITEM, {**ITEM, field: value}]}),
                f".configMap.items[1].{field}",
            )
            for field, value in (
                ("key", ""), ("key", "a/b"), ("path", ""), ("path", "/a"), ("path", "a/../b"), ("path", ".."),
                ("path", "..data"), ("path", "a\0b"), ("mode", 0o1000), ("mode", -1),
            )
        ],
        (volume(downwardAPI={"items": [{"path": "a"}]}), ".downwardAPI.items[0]"),
        (
            volume(downwardAPI={"items": [file("a", resourceFieldRef={"resource": "limits.cpu"})]}),
            ".downwardAPI.items[0]",
        ),
        (
            volume(downwardAPI={"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu"}}]}),
            ".downwardAPI.items[0].resourceFieldRef.containerName",
        ),
        (
            volume(downwardAPI={"items": [file("a", fieldRef={"fieldPath": "status.podIP"})]}),
            ".downwardAPI.items[0].fieldRef.fieldPath",
        ),
        (volume(downwardAPI={"items": [file("../a")]}), ".downwardAPI.items[0].path"),
        (projected({}), ".projected.sources[0]"),
        (projected({"configMap": {"name": "c"}, "secret": {"name": "s"}}), ".projected.sources[0]"),
        (projected({"secret": {"name": "s"}}, {"configMap": {}}), ".projected.sources[1].configMap.name"),
        (
            projected({"secret": {"name": "s", "items": [{"key": "k", "path": "/"}]}}),
            ".projected.sources[0].secret.items[0].path",
        ),
        (
            projected({"secret": {"name": "s", "items": [ITEM]}}, {"downwardAPI": {"items": [file("p/q")]}}),
            ".projected.sources[1].downwardAPI.items[0].path",
        ),
    ],
)  # fmt: skip
def test_a_volume_that_cannot_be(spec: dict[str, Any], path: str) -> None:
    assert refusal(**spec) == f"spec.volumes[0]{path}"


@pytest.mark.parametrize("again", ["p/q", "./p/q", "p//q/"])
def test_a_file_of_a_volume_is_there_once(again: str) -> None:
    other = {"key": "other", "path": again}
    items, path = [ITEM, other], "spec.volumes[0]"
    assert refusal(**volume(configMap={"name": "c", "items": items})) == f"{path}.configMap.items[1].path"
    assert refusal(**volume(secret={"secretName": "s", "items": items})) == f"{path}.secret.items[1].path"
    files = [file("p/q"), file(again)]
    assert refusal(**volume(downwardAPI={"items": files})) == f"{path}.downwardAPI.items[1].path"
    sources = {"configMap": {"name": "c", "items": [ITEM]}}, {"secret": {"name": "s", "items": [other]}}
    assert refusal(**projected(*sources)) == f"{path}.projected.sources[1].secret.items[0].path"


def test_volume_names_are_unique() -> None:
    assert refusal(volumes=[{"name": "v", "emptyDir": {}}] * 2) == "spec.volumes[1].name"


def mounted(*mounts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    named = [{"name": "v", "mountPath": "/data", **mount} for mount in mounts]
    return {**volume(emptyDir={}), **container(volumeMounts=named, **fields)}


@pytest.mark.parametrize(
    "spec",
    [
        mounted({}),
        mounted({}, {"mountPath": "/data/more", "subPath": "a/b..c"}),
        mounted({"subPathExpr": "$(POD_NAME)/x"}),
        mounted({"readOnly": True, "recursiveReadOnly": "IfPossible"}),
        mounted({"readOnly": True, "recursiveReadOnly": "Enabled", "mountPropagation": "None"}),
        mounted({"recursiveReadOnly": "Disabled"}),
        mounted({"mountPropagation": "HostToContainer"}),
        mounted({"mountPropagation": "Bidirectional"}, securityContext={"privileged": True}),
    ],
)
def test_a_mount_that_can_be(spec: dict[str, Any]) -> None:
    pod(**spec)


@pytest.mark.parametrize(
    ("mount", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "w"}, "name"),
        ({"mountPath": ""}, "mountPath"),
        ({"mountPath": "/a:b"}, "mountPath"),
        ({"mountPath": "/a\0"}, "mountPath"),
        ({"mountPath": "/other"}, "mountPath"),
        ({"mountPath": "/x/..//other/."}, "mountPath"),
        ({"mountPath": "//other"}, "mountPath"),
        ({"mountPath": "other"}, "mountPath"),
        ({"mountPath": "/"}, "mountPath"),
        ({"mountPath": "//a/../.."}, "mountPath"),
        ({"subPath": "/a"}, "subPath"),
        ({"subPath": "a/.."}, "subPath"),
        ({"subPathExpr": "/$(A)"}, "subPathExpr"),
        ({"subPathExpr": "../$(A)"}, "subPathExpr"),
        ({"subPath": "a", "subPathExpr": "$(A)"}, "subPathExpr"),
        ({"mountPropagation": "Bidirectional"}, "mountPropagation"),
        ({"recursiveReadOnly": "IfPossible"}, "recursiveReadOnly"),
        (
            {"readOnly": True, "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"},
            "recursiveReadOnly",
        ),
    ],
)
def test_a_mount_that_cannot_be(mount: dict[str, Any], field: str) -> None:
    spec = mounted({"mountPath": "/other"}, mount)
    assert refusal(**spec) == f"spec.containers[0].volumeMounts[1].{field}"
