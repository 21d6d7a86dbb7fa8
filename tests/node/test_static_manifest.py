"""From a manifest file to static pods, as the kubelet documents it.

https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.pod import Pod
from edgeagent.node.static import child, texts
from edgeagent.node.static.manifest import Origin, StaticObject, key_of, merge, read_objects
from edgeagent.node.static.texts import MAX_FILE_BYTES, parse, read_folder
from edgeagent.wire.yamlio import dump

ORIGIN = Origin("/etc/edgeagent/manifests/web.yaml", "n1", 86_400.0)


def manifest(name: str = "web", kind: str = "Pod", **more: Any) -> dict[str, Any]:
    """A manifest with the least that a person has to write."""
    body: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    if kind == "Pod":
        body["spec"] = {"containers": [{"name": "main", "image": "busybox"}]}
    return {**body, **more}


def read(*documents: object, origin: Origin = ORIGIN) -> list[StaticObject]:
    return read_objects(enumerate(documents, 1), origin)


def read_pod(document: object, origin: Origin = ORIGIN) -> Pod:
    (one,) = read(document, origin=origin)
    assert isinstance(one, Pod)
    return one


def test_a_pod_is_named_and_marked_as_the_kubelet_does() -> None:
    pod = read_pod(manifest())
    meta = pod.metadata
    assert (meta.namespace, meta.name) == ("default", "web-n1")
    assert pod.spec.node_name == "n1"
    assert meta.creation_timestamp == "1970-01-02T00:00:00Z"
    assert meta.annotations == {
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.hash": meta.uid,
        "io.edgeagent.config.file": ORIGIN.file,
    }


def test_a_changed_manifest_another_file_and_another_node_are_other_pods() -> None:
    uids = [
        read_pod(manifest()).metadata.uid,
        read_pod(manifest(metadata={"name": "web", "labels": {"a": "b"}})).metadata.uid,
        read_pod(manifest(metadata={"name": "web", "namespace": "edge"})).metadata.uid,
        read_pod(manifest(spec={"containers": [{"name": "main", "image": "busybox:2"}]})).metadata.uid,
        read_pod(manifest(), Origin("/other.yaml", "n1", 0)).metadata.uid,
        read_pod(manifest(), Origin(ORIGIN.file, "n2", 0)).metadata.uid,
    ]
    assert len(set(uids)) == len(uids)


def test_what_is_not_said_by_the_manifest_makes_no_other_pod() -> None:
    """Its layout, the file's time stamp, and what only an API server sets."""
    one = read_pod(manifest())
    set_elsewhere = {
        "name": "web",
        "uid": "taken-from-another-pod",
        "resourceVersion": "7",
        "generation": 4,
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2020-01-01T00:00:00Z",
    }
    exported = manifest(metadata=set_elsewhere, status={"phase": "Running"})
    assert read_pod(exported) == one
    assert read_pod(manifest(), Origin(ORIGIN.file, "n1", 99.0)).metadata.uid == one.metadata.uid


def test_config_maps_and_secrets_keep_name_and_identity_when_their_data_change() -> None:
    config, secret = read(
        manifest("settings", "ConfigMap", data={"A": "1"}),
        manifest("login", "Secret", stringData={"TOKEN": "t"}, data={"OLD": "bw=="}),
    )
    changed, _ = read(
        manifest("settings", "ConfigMap", data={"A": "2"}), manifest("login", "Secret", data={})
    )
    assert isinstance(config, ConfigMap)
    assert isinstance(secret, Secret)
    assert (config.metadata.name, secret.metadata.namespace) == ("settings", "default")
    assert secret.data == {"TOKEN": b"t", "OLD": b"o"}
    assert secret.string_data == {}
    assert changed.metadata.uid == config.metadata.uid != secret.metadata.uid


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        ([manifest(), manifest("b", spec={"containers": []})], "document 2: spec.containers: at least one"),
        ([manifest(spec={"containers": [{"name": "a", "imagee": ""}]})], "containers[0].imagee: unknown"),
        ([manifest("n", "Node")], "document 1: kind: a Node is none of Pod, ConfigMap, Service, "),
        ([{"kind": "List", "items": [manifest(), 5]}], "document 1: items[1]: expected a mapping"),
        ([{"kind": "List", "items": 5}], "items: expected array"),
        ([manifest(), manifest()], "document 2: metadata.name: Pod default/web-n1 is in this file twice"),
        ([manifest("w" * 251)], "metadata.name"),
        ([manifest(metadata={"name": "web", "namespace": "No"})], "metadata.namespace"),
        ([manifest("big", "ConfigMap", data={"a": "x" * 1_600_000})], "more than the 1500000 allowed"),
        ([manifest("odd", "ConfigMap", data={"a": "\ud800"})], "no Unicode"),
        ([], "there is no object in it"),
        ([{"kind": "List", "items": []}], "there is no object in it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_document_and_path(documents: list[object], problem: str) -> None:
    with pytest.raises(InvalidObjectError) as raised:
        read(*documents)
    assert problem in str(raised.value)


def test_items_of_a_list_are_objects_of_their_own() -> None:
    found = read({"apiVersion": "v1", "kind": "List", "items": [manifest("a"), manifest("b")]}, manifest("c"))
    assert [one.metadata.name for one in found] == ["a-n1", "b-n1", "c-n1"]


def test_of_two_files_with_the_same_object_the_one_that_had_it_keeps_it() -> None:
    first = read(manifest(), manifest("settings", "ConfigMap"), origin=Origin("/a.yaml", "n1", 0))
    second = read(manifest(), manifest("own"), origin=Origin("/b.yaml", "n1", 0))
    before = merge({"b.yaml": second}, {})
    both = merge({"a.yaml": first, "b.yaml": second}, before.owners)
    assert both.objects.keys() == {one.metadata.uid for one in (second[0], second[1], first[1])}
    assert both.doubles == {"a.yaml": "Pod default/web-n1 is already defined in b.yaml"}
    fresh = merge({"a.yaml": first, "b.yaml": second}, {})
    assert fresh.doubles == {"b.yaml": "Pod default/web-n1 is already defined in a.yaml"}
    assert merge({"a.yaml": first}, both.owners).objects.keys() == {one.metadata.uid for one in first}


small = st.sampled_from(["a", "b", "c"])


@given(st.dictionaries(small, st.lists(small, max_size=3, unique=True)), st.dictionaries(small, small))
def test_merging_gives_each_object_once_and_says_every_double(
    files: dict[str, list[str]], owned: dict[str, str]
) -> None:
    read_files: dict[str, list[StaticObject]] = {
        file: read(*(manifest(name) for name in names), origin=Origin(file, "n1", 0)) if names else []
        for file, names in files.items()
    }
    owners = {("Pod", "default", f"{name}-n1"): file for name, file in owned.items()}
    merged = merge(read_files, owners)
    keys = [key_of(one) for one in merged.objects.values()]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {key_of(one) for objects in read_files.values() for one in objects}
    doubles = sum(len(names) for names in files.values()) - len(keys)
    assert sum(text.count("already defined") for text in merged.doubles.values()) == doubles
    for key, file in owners.items():
        if any(key_of(one) == key for one in read_files.get(file, [])):
            assert merged.owners[key] == file


# The folder's files


def test_only_manifests_are_read_and_nothing_that_would_block_or_grow(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    (tmp_path / "b.json").write_text("b")
    (tmp_path / "c.yml").symlink_to(tmp_path / "a.yaml")
    for ignored in (".a.yaml.swp", ".hidden.yaml", "a.yaml~", "4913", "README", "a.yaml.bak"):
        (tmp_path / ignored).write_text("x")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    found = read_folder(tmp_path)
    assert {name: text.data for name, text in found.files.items()} == {
        "a.yaml": b"a",
        "b.json": b"b",
        "c.yml": b"a",
    }
    assert found.problems == {
        "fifo.yaml": "is no regular file",
        "huge.yaml": f"has more than {MAX_FILE_BYTES} bytes",
    }


def test_files_beyond_the_bounds_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"{number}.yaml").write_text("x" * 10)
    with monkeypatch.context() as patch:
        patch.setattr(texts, "MAX_FILES", 3)
        found = read_folder(tmp_path)
        assert list(found.files) == ["0.yaml", "1.yaml", "2.yaml"]
        assert list(found.problems) == ["3.yaml", "4.yaml"]
    monkeypatch.setattr(texts, "MAX_FOLDER_BYTES", 25)
    found = read_folder(tmp_path)
    assert list(found.files) == ["0.yaml", "1.yaml"]
    assert "25 bytes that all files may have" in found.problems["2.yaml"]


def test_an_absent_folder_is_empty_and_one_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "absent").files == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(TemporaryError, match="cannot be read"):
        read_folder(tmp_path / "file")


def parsed(tmp_path: Path, **files: str | bytes) -> dict[str, Any]:
    """What becomes of files, by name."""
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    folder = texts.Texts({n: texts._read_file(tmp_path / n, MAX_FILE_BYTES) for n in files}, {})
    return dict(asyncio.run(parse(folder.files)))


def test_yaml_and_json_are_read_alike_and_a_bad_file_spoils_no_other(tmp_path: Path) -> None:
    found = parsed(
        tmp_path,
        json=json.dumps(manifest()),
        yaml=f"# a comment\n---\n{dump(manifest())}---\n---\n{dump(manifest('b'))}",
        flow="{apiVersion: v1, kind: Pod}",
        empty="",
        bad="a: [",
        bad_json='{"a": 1',
        doubled='{"a": 1, "a": 2}',
        binary=b"\xff\xfe",
        surrogate='a: "\\ud800"',
        bomb="a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]" for n in range(1, 9)),
        wide='a: &a "' + "x" * 100_000 + '"\nb: [' + ", ".join(["*a"] * 50) + "]",
    )  # fmt: skip
    assert found["json"] == [(1, manifest())]
    assert found["yaml"] == [(1, manifest()), (3, manifest("b"))]
    assert found["flow"] == [(1, {"apiVersion": "v1", "kind": "Pod"})]
    assert found["empty"] == []
    assert "line 2, column 1" in found["bad"]
    assert "JSON" in found["bad_json"]
    assert "duplicate key 'a'" in found["doubled"]
    assert "not UTF-8" in found["binary"]
    assert "Unicode" in found["surrogate"]
    assert "unfolded" in found["bomb"]
    assert "unfolded" in found["wide"]


def test_a_folder_of_json_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    assert parsed(tmp_path, a=json.dumps(manifest())) == {"a": [(1, manifest())]}


def test_a_child_that_dies_is_a_reason_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TemporaryError, match="status 1"):
        parsed(tmp_path, a="a: 1")


data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(data.filter(lambda one: one is not None), min_size=1, max_size=3))
def test_what_the_child_passes_on_is_what_was_written(documents: list[object]) -> None:
    text = "".join(f"---\n{dump(one)}" for one in documents)
    answer = msgspec.json.decode(msgspec.json.encode(child.convert({"f": text})))
    assert answer == {"f": {"documents": [[n, one] for n, one in enumerate(documents, 1)]}}


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_the_child_fail(text: str) -> None:
    answer = child.convert({"f": text})["f"]
    assert ("documents" in answer) != ("error" in answer)
    msgspec.json.encode(answer)


def test_reading_one_folder_leaves_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "a.yaml").write_text("a: 1")
        reading = asyncio.create_task(parse(read_folder(tmp_path).files))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()

    asyncio.run(main())
