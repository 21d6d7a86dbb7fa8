"""The downward API: https://kubernetes.io/docs/concepts/workloads/pods/downward-api/"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.volume import ObjectFieldSelector, ResourceFieldSelector
from edgeagent.node.pods.fields import field_value, resource_value, volume_field_value
from tests.node.podkit import main, make_facts, make_pod

POD = make_pod(
    metadata={"labels": {"app": "web", "a.b/c": "d"}, "annotations": {"build": 'two\nlines "quoted"'}},
    serviceAccountName="robot",
)
FACTS = make_facts(POD, host_ip="192.0.2.1", pod_ips=("10.0.0.5", "fd00::5"))


def value(path: str) -> str:
    return field_value(ObjectFieldSelector(field_path=path), FACTS)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['a.b/c']", "d"),
        ("metadata.labels['missing']", ""),
        ("metadata.annotations['build']", 'two\nlines "quoted"'),
        ("spec.nodeName", "edge-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1"),
        ("status.podIP", "10.0.0.5"),
        ("status.podIPs", "10.0.0.5,fd00::5"),
    ],
)
def test_fields(path: str, expected: str) -> None:
    assert value(path) == expected


def test_a_pod_without_an_address() -> None:
    facts = make_facts(POD)
    for path in ("status.podIP", "status.podIPs", "status.hostIP"):
        assert field_value(ObjectFieldSelector(field_path=path), facts) == ""


@pytest.mark.parametrize("path", ["metadata.labels", "metadata.annotations", "status.phase", "x", ""])
def test_fields_that_are_not_given_are_named(path: str) -> None:
    with pytest.raises(PermanentError, match=f"fieldPath {path!r}") as error:
        value(path)
    assert error.value.reason == "CreateContainerConfigError"


def lines(labels: dict[str, str]) -> str:
    facts = make_facts(make_pod(metadata={"labels": labels, "annotations": labels}))
    both = {
        volume_field_value(ObjectFieldSelector(field_path=f"metadata.{name}"), facts)
        for name in ("labels", "annotations")
    }
    assert len(both) == 1
    return both.pop()


def test_whole_maps_are_for_volumes() -> None:
    assert lines({"zone": "us-est-coast", "cluster": "test-cluster1", "rack": "rack-22"}) == (
        'cluster="test-cluster1"\nrack="rack-22"\nzone="us-est-coast"'
    )
    assert lines({}) == ""
    assert volume_field_value(ObjectFieldSelector(field_path="metadata.name"), FACTS) == "web"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('a "b" \\', r'"a \"b\" \\"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\0\x1b\x7f", r'"\x00\x1b\x7f"'),
        ("\u00a0\u200b\ufeff", r'"\u00a0\u200b\ufeff"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("grün 日本 🙂 'x'", "\"grün 日本 🙂 'x'\""),
    ],
)
def test_values_are_quoted_as_go_does(text: str, quoted: str) -> None:
    assert lines({"k": text}) == f"k={quoted}"


@given(labels=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(max_size=8), max_size=4))
def test_every_label_is_one_line(labels: dict[str, str]) -> None:
    found = lines(labels)
    assert [line.partition("=")[0] for line in found.split("\n") if line] == sorted(labels)


@given(text=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=12))
def test_printable_ascii_is_quoted_as_in_json(text: str) -> None:
    assert lines({"k": text}) == f"k={json.dumps(text)}"


RESOURCES = make_pod(
    {
        "resources": {
            "limits": {"cpu": "1500m", "memory": "64Mi"},
            "requests": {"cpu": "250m", "memory": "32Mi"},
        }
    },
    {"name": "limits-only", "resources": {"limits": {"cpu": "2", "ephemeral-storage": "2Gi"}}},
    {"name": "bare"},
    initContainers=[{"name": "setup", "image": "i:1", "resources": {"requests": {"memory": "1.5Ki"}}}],
)
NODE = {"cpu": 4.0, "memory": 8 * 2.0**30, "ephemeral-storage": 100e9}
RESOURCE_FACTS = make_facts(RESOURCES, allocatable=NODE)


def amount(resource: str, divisor: Any = "", container: str = "") -> str:
    selector = ResourceFieldSelector(resource=resource, divisor=divisor, container_name=container)
    return resource_value(selector, RESOURCE_FACTS, main(RESOURCES))


@pytest.mark.parametrize(
    ("resource", "divisor", "container", "expected"),
    [
        ("limits.cpu", "", "", "2"),
        ("limits.cpu", "1", "", "2"),
        ("limits.cpu", "1m", "", "1500"),
        ("requests.cpu", "", "", "1"),
        ("requests.cpu", "1m", "", "250"),
        ("limits.memory", "", "", "67108864"),
        ("limits.memory", "1Mi", "", "64"),
        ("limits.memory", "1M", "", "68"),
        ("requests.memory", "1Gi", "", "1"),
        ("requests.memory", 1, "", "33554432"),
        ("limits.memory", 0, "", "67108864"),
        ("requests.cpu", "1m", "limits-only", "2000"),
        ("requests.memory", "", "limits-only", "0"),
        ("limits.ephemeral-storage", "1Gi", "limits-only", "2"),
        ("requests.ephemeral-storage", "1Gi", "limits-only", "2"),
        ("limits.cpu", "", "bare", "4"),
        ("limits.cpu", "1m", "bare", "4000"),
        ("limits.memory", "1Gi", "bare", "8"),
        ("limits.ephemeral-storage", "1G", "bare", "100"),
        ("requests.cpu", "", "bare", "0"),
        ("requests.memory", "", "setup", "1536"),
        ("requests.memory", "1k", "setup", "2"),
    ],
)
def test_resources(resource: str, divisor: Any, container: str, expected: str) -> None:
    assert amount(resource, divisor, container) == expected


@pytest.mark.parametrize("resource", ["cpu", "limits.hugepages-2Mi", "limits.gpu", "status.cpu", ""])
def test_resources_that_are_not_given_are_named(resource: str) -> None:
    with pytest.raises(PermanentError, match=f"resource {resource!r} is not supported"):
        amount(resource)


def test_which_container() -> None:
    with pytest.raises(PermanentError, match="container 'none' not found"):
        amount("limits.cpu", container="none")
    with pytest.raises(PermanentError, match="containerName is required"):
        resource_value(ResourceFieldSelector(resource="limits.cpu"), RESOURCE_FACTS, None)


@given(bytes_=st.integers(1, 2**50), divisor=st.sampled_from([("1", 1), ("1k", 1000), ("1Mi", 2**20)]))
def test_division_rounds_up(bytes_: int, divisor: tuple[str, int]) -> None:
    pod = make_pod({"resources": {"limits": {"memory": str(bytes_)}}})
    selector = ResourceFieldSelector(resource="limits.memory", divisor=divisor[0])
    assert resource_value(selector, make_facts(pod), main(pod)) == str(-(-bytes_ // divisor[1]))
