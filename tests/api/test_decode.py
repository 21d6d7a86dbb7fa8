"""Strict decoding: every class of bad input is refused with its place."""

import datetime
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import (
    MAX_OBJECT_BYTES,
    convert,
    decode_json,
    decode_object,
    decode_object_json,
)
from edgeagent.api.objects.pod import Pod
from edgeagent.wire.canonical import canonical_json, digest, is_digest


def manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "busybox:1", **spec}]},
    }


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = manifest()
    change(found)
    return found


def refused(data: Any) -> InvalidObjectError:
    """Refused as a manifest and as JSON, for the same reason."""
    with pytest.raises(InvalidObjectError) as plain:
        decode_object(data)
    with pytest.raises(InvalidObjectError) as from_json:
        decode_object_json(json.dumps(data).encode())
    assert from_json.value.path == plain.value.path
    return plain.value


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"ports": [{"containerPort": 1}, {"containerPort": "eighty"}]},
            "spec.containers[0].ports[1].containerPort: expected int, got str",
        ),
        ({"privileged": True}, "spec.containers[0].privileged: unknown field"),
        ({"ports": [{}]}, "spec.containers[0].ports[0].containerPort: required field is missing"),
        ({"ports": [{"containerPort": 0}]}, "spec.containers[0].ports[0].containerPort: must be between"),
        (
            {"ports": [{"containerPort": 1, "hostPort": 65536}]},
            "spec.containers[0].ports[0].hostPort: must be between",
        ),
        ({"env": [{"name": "A=B"}]}, "spec.containers[0].env[0].name: must be a variable name"),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {}}]},
            "spec.containers[0].env[0].valueFrom: may not be set together with value",
        ),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "spec.containers[0].env[0].valueFrom: set one of"),
        ({"envFrom": [{}]}, "spec.containers[0].envFrom[0]: set one of"),
        ({"workingDir": "data"}, "spec.containers[0].workingDir: must be an absolute path"),
        ({"image": "busy box"}, "spec.containers[0].image: must be an image reference"),
        ({"name": "Main"}, "spec.containers[0].name: 'Main' must be lower-case"),
        (
            {"imagePullPolicy": "Sometimes"},
            "spec.containers[0].imagePullPolicy: invalid enum value 'Sometimes', expected one of Always, IfN",
        ),
        (
            {"resources": {"limits": {"cpu": "lots"}}},
            "spec.containers[0].resources.limits.cpu: 'lots' is not a quantity",
        ),
        (
            {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1001m"}}},
            "spec.containers[0].resources.requests.cpu: must not be more than the limit",
        ),
        ({"resources": {"limits": {"cpu": True}}}, "spec.containers[0].resources.limits[*]: expected"),
    ],
)
def test_a_container_that_cannot_be(spec: dict[str, Any], message: str) -> None:
    assert str(refused(manifest(**spec))).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("kind"), "kind: required field is missing"),
        (lambda m: m.update(kind="Prod"), "kind: unknown kind 'Prod', expected one of Pod, "),
        (lambda m: m.update(kind=3), "kind: expected str"),
        (lambda m: m.pop("apiVersion"), "apiVersion: required field is missing"),
        (lambda m: m.update(apiVersion="v2"), "apiVersion: invalid enum value 'v2', expected one of v1"),
        (lambda m: m.pop("metadata"), "metadata: required field is missing"),
        (lambda m: m["metadata"].pop("name"), "metadata.name: required field is missing"),
        (lambda m: m["metadata"].update(name="a_b"), "metadata.name: 'a_b' must be lower-case"),
        (lambda m: m["metadata"].update(namespace="../x"), "metadata.namespace: '../x' must be lower-case"),
        (lambda m: m["metadata"].update(labels={"a": 1}), "metadata.labels[*]: expected str, got int"),
        (lambda m: m["spec"].pop("containers"), "spec.containers: required field is missing"),
        (lambda m: m["spec"].update(containers=[]), "spec.containers: at least one container"),
        (
            lambda m: m["spec"].update(containers=m["spec"]["containers"] * 2),
            "spec.containers[1].name: 'main' is there twice",
        ),
        (lambda m: m["spec"].update(nodeName="a.b"), "spec.nodeName: 'a.b' must be"),
        (lambda m: m["spec"].update(restartPolicy="Perhaps"), "spec.restartPolicy: invalid enum value"),
        (
            lambda m: m["spec"].update(terminationGracePeriodSeconds=-1),
            "spec.terminationGracePeriodSeconds: must be between",
        ),
        (
            lambda m: m["spec"].update(terminationGracePeriodSeconds=10**30),
            "spec.terminationGracePeriodSeconds: must be between",
        ),
        (lambda m: m.update(extra=1), "extra: unknown field"),
        (lambda m: m.update(spec="x"), "spec: expected object, got str"),
    ],
)
def test_a_pod_that_cannot_be(change: Callable[[dict[str, Any]], object], message: str) -> None:
    assert str(refused(changed(change))).startswith(message)


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metadata": {"name": "a", "namespace": "x/y"}}, "metadata.namespace: {'x/y' }must be"),
        ({"data": {"a/b": ""}}, "data.a/b: a key must be"),
        ({"data": {"..": ""}}, "data...: a key must be"),
        ({"data": {"a": 1}}, "data[*]: expected"),
    ],
)
def test_data_that_cannot_be(kind: str, fields: dict[str, Any], message: str) -> None:
    """What is in braces is not said of a Secret."""
    found = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **fields}
    expected = re.sub(r"\{.*\}" if kind == "Secret" else "[{}]", "", message)
    assert str(refused(found)).startswith(expected)


@pytest.mark.parametrize("value", ["x - at `$.spec.y", "x` - at `$", "'x\" - at `key in `$`"])
def test_what_looks_like_a_place_in_a_value_is_none(value: str) -> None:
    error = refused({"apiVersion": value, "kind": "ConfigMap", "metadata": {"name": "a"}})
    assert error.path == "apiVersion"


def test_a_key_in_both_kinds_of_data() -> None:
    found = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"k": "v"},
        "binaryData": {"k": "dg=="},
    }
    assert str(refused(found)) == "binaryData.k: the key stands in data too"


@pytest.mark.parametrize("depth", [1000, 100_000])
@pytest.mark.parametrize("where", ["%s", '{"kind": "Pod", "x": %s}', '{"kind": "Pod", "metadata": %s}'])
def test_nested_deeply(where: str, depth: int) -> None:
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        with pytest.raises(InvalidObjectError):
            decode_object_json((where % text).encode())


def test_plain_data_nested_deeply() -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidObjectError):
        decode_object(changed(lambda m: m["metadata"].update(labels=nested)))
    while isinstance(nested, list):  # freed in steps
        nested = nested.pop()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "input data was truncated"),
        (b'{"kind": "Pod"', "input data was truncated"),
        (b'{"kind": "Pod"} x', "JSON is malformed: trailing characters"),
        (b"kind: Pod", "JSON is malformed"),
        (b'{"kind": "\xff"}', "'utf-8' codec can't decode"),
        (b"[]", "expected object, got array"),
        (b'{"kind": "Pod", "x": "' + b"y" * MAX_OBJECT_BYTES + b'"}', "1500024 bytes, more than the 1500000"),
    ],
)
def test_bytes_that_are_no_object(data: bytes, message: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        decode_object_json(data)
    assert str(error.value).startswith(message)


def test_a_number_of_five_thousand_digits() -> None:
    with pytest.raises(InvalidObjectError):
        decode_json(b"9" * 5000, int)


@pytest.mark.parametrize("data", [None, 3, "Pod", [], [{"kind": "Pod"}]])
def test_documents_that_are_no_mapping(data: object) -> None:
    with pytest.raises(InvalidObjectError, match="expected a mapping"):
        decode_object(data)


def test_what_yaml_alone_can_hold() -> None:
    day = changed(lambda m: m["metadata"].update(labels={"since": datetime.date(2020, 1, 1)}))
    with pytest.raises(InvalidObjectError, match=r"metadata\.labels\[\*\]: expected str, got date"):
        decode_object(day)
    number = changed(lambda m: m["metadata"].update(labels={1: "x"}))
    with pytest.raises(InvalidObjectError, match=r"^metadata\.labels: expected str, got int$"):
        decode_object(number)


def test_the_limit_is_the_callers() -> None:
    assert decode_json(b"[1]", list[int], limit=3) == [1]
    with pytest.raises(InvalidObjectError, match="3 bytes, more than the 2 allowed"):
        decode_json(b"[1]", list[int], limit=2)


def test_an_error_seen_from_outside() -> None:
    assert str(InvalidObjectError("a[0]", "bad").within("objects[3]")) == "objects[3].a[0]: bad"
    assert str(InvalidObjectError("[0]", "bad").within("list")) == "list[0]: bad"
    assert str(InvalidObjectError("", "bad").within("spec")) == "spec: bad"


names: st.SearchStrategy[Any] = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
texts: st.SearchStrategy[Any] = st.text(max_size=8)
containers: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"name": names, "image": names}, optional={"command": st.lists(texts, max_size=3)}
)
specs: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"containers": st.lists(containers, min_size=1, max_size=3, unique_by=lambda c: str(c["name"]))},
    optional={"hostNetwork": st.booleans(), "terminationGracePeriodSeconds": st.integers(0, 99)},
)
metadata: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"name": names}, optional={"labels": st.dictionaries(texts, texts, max_size=4), "uid": texts}
)
pods: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"apiVersion": st.just("v1"), "kind": st.just("Pod"), "metadata": metadata, "spec": specs}
)


def shuffled(value: Any, order: Any) -> Any:
    """The same data with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(each, order) for each in value] if isinstance(value, list) else value


@given(data=pods, order=st.randoms(use_true_random=False))
def test_canonical_json_is_stable(data: dict[str, Any], order: Any) -> None:
    """Neither a round trip nor the order in which keys were written changes the bytes, or the digest."""
    pod = decode_object(data)
    body = canonical_json(pod)
    assert decode_object_json(body) == pod
    assert canonical_json(decode_object_json(body)) == body
    assert canonical_json(decode_object(shuffled(data, order))) == body
    assert is_digest(digest(body))
    assert b"\n" not in body
    assert (
        json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        == body
    )


@given(data=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_nothing_but_the_right_error_comes_out(data: Any) -> None:
    for found in (data, {"kind": "Pod", "spec": data}, {"kind": data}):
        with pytest.raises(InvalidObjectError, match=r"."):
            decode_object(found)


@given(data=st.binary(max_size=60))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidObjectError):
        decode_object_json(data)
    with pytest.raises(InvalidObjectError):
        decode_object_json(b'{"kind":"Pod",' + data)


def test_convert_names_the_place() -> None:
    with pytest.raises(InvalidObjectError, match=r"^spec: required field is missing$"):
        convert({"apiVersion": "v1", "kind": "Pod", "metadata": {}}, Pod)
    assert msgspec.json.decode(canonical_json({"b": 1, "a": 2})) == {"a": 2, "b": 1}
