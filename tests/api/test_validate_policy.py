"""Kubernetes' rules for NetworkPolicy and Namespace; each error names its place."""

from typing import Any

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.policy import Namespace, NetworkPolicy, policy_types


def decoded(**spec: Any) -> NetworkPolicy:
    found = decode_object(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"podSelector": {}, **spec},
        }
    )
    assert isinstance(found, NetworkPolicy)
    return found


def namespace(name: str = "edge", **metadata: Any) -> Namespace:
    found = decode_object({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **metadata}})
    assert isinstance(found, Namespace)
    return found


def from_peer(**peer: Any) -> dict[str, Any]:
    return {"ingress": [{}, {"from": [{"podSelector": {}}, peer]}]}


def block(cidr: str, *holes: str) -> dict[str, Any]:
    return {"egress": [{"to": [{"ipBlock": {"cidr": cidr, "except": list(holes)}}]}]}


def on_port(**port: Any) -> dict[str, Any]:
    return {"ingress": [{"ports": [port]}]}


def expression(**fields: Any) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": [fields]}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"ingress": [], "egress": [{}], "policyTypes": ["Egress", "Ingress"]},
        from_peer(podSelector={}, namespaceSelector={}),
        from_peer(namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "a"}}),
        block("10.0.0.0/8", "10.1.0.0/16", "10.2.3.4/32"),
        block("0.0.0.0/0", "0.0.0.0/1"),
        block("2001:db8::/32", "2001:db8:1::/48"),
        block("10.1.2.3/8", "10.9.9.9/16"),
        on_port(),
        on_port(protocol="SCTP"),
        on_port(port=1),
        on_port(port=65535, endPort=65535),
        on_port(port=1, endPort=65535, protocol="UDP"),
        on_port(port="http"),
        expression(key="a.b/c_d", operator="In", values=["", "x.Y_z-1"]),
        expression(key="a", operator="DoesNotExist"),
        {"podSelector": {"matchLabels": {"app": "a" * 63}}},
    ],
)
def test_a_policy_that_can_be(spec: dict[str, Any]) -> None:
    decoded(**spec)


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"policyTypes": ["Ingress", "Ingress"]}, "spec.policyTypes[1]"),
        (from_peer(), "spec.ingress[1].from[1]"),
        (from_peer(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}), "spec.ingress[1].from[1].podSelector"),
        (
            from_peer(ipBlock={"cidr": "10.0.0.0/8"}, namespaceSelector={}),
            "spec.ingress[1].from[1].namespaceSelector",
        ),
        (
            from_peer(namespaceSelector={"matchLabels": {"a b": "c"}}),
            "spec.ingress[1].from[1].namespaceSelector.matchLabels.a b",
        ),
        (
            from_peer(podSelector={"matchLabels": {"a": "-"}}),
            "spec.ingress[1].from[1].podSelector.matchLabels.a",
        ),
        (block("10.0.0.0"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("10.0.0.0/33"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("10.0.0.0/255.0.0.0"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("10.0.0/8"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("fe80::1%eth0/64"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("10.0.0.0/8 } accept; {"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("everywhere"), "spec.egress[0].to[0].ipBlock.cidr"),
        (block("10.0.0.0/8", "10.0.0.0/8"), "spec.egress[0].to[0].ipBlock.except[0]"),
        (block("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/16"), "spec.egress[0].to[0].ipBlock.except[1]"),
        (block("10.0.0.0/8", "0.0.0.0/0"), "spec.egress[0].to[0].ipBlock.except[0]"),
        (block("10.0.0.0/8", "::/96"), "spec.egress[0].to[0].ipBlock.except[0]"),
        (on_port(port=0), "spec.ingress[0].ports[0].port"),
        (on_port(port=65536), "spec.ingress[0].ports[0].port"),
        (on_port(port="HTTP"), "spec.ingress[0].ports[0].port"),
        (on_port(port="80"), "spec.ingress[0].ports[0].port"),
        (on_port(port=80, endPort=79), "spec.ingress[0].ports[0].endPort"),
        (on_port(port=80, endPort=65536), "spec.ingress[0].ports[0].endPort"),
        (on_port(port="http", endPort=80), "spec.ingress[0].ports[0].endPort"),
        (on_port(endPort=80), "spec.ingress[0].ports[0].endPort"),
        (on_port(protocol="ICMP"), "spec.ingress[0].ports[0].protocol"),
        (expression(key="a", operator="In"), "spec.podSelector.matchExpressions[0].values"),
        (expression(key="a", operator="Exists", values=["b"]), "spec.podSelector.matchExpressions[0].values"),
        (
            expression(key="a", operator="In", values=["b", "c d"]),
            "spec.podSelector.matchExpressions[0].values[1]",
        ),
        (expression(key="/a", operator="Exists"), "spec.podSelector.matchExpressions[0].key"),
        ({"podSelector": {"matchLabels": {"app": "a" * 64}}}, "spec.podSelector.matchLabels.app"),
    ],
)
def test_a_policy_that_cannot_be(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        decoded(**spec)
    assert error.value.path == path
    assert error.value.problem
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, {"Ingress"}),
        ({"egress": []}, {"Ingress"}),
        ({"egress": [{}]}, {"Ingress", "Egress"}),
        ({"policyTypes": ["Egress"]}, {"Egress"}),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, {"Ingress"}),
    ],
)
def test_the_types_of_a_policy_that_names_none(spec: dict[str, Any], types: set[str]) -> None:
    assert policy_types(decoded(**spec).spec) == types


def test_a_namespace_that_can_be() -> None:
    labels = {"kubernetes.io/metadata.name": "edge", "team": ""}
    assert namespace(labels=labels).metadata.labels == labels
    namespace()


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"name": "a.b"}, "metadata.name"),
        ({"name": "a" * 64}, "metadata.name"),
        ({"labels": {"a/b/c": "d"}}, "metadata.labels.a/b/c"),
        ({"labels": {"a": "b c"}}, "metadata.labels.a"),
        (
            {"labels": {"kubernetes.io/metadata.name": "other"}},
            "metadata.labels.kubernetes.io/metadata.name",
        ),
    ],
)
def test_a_namespace_that_cannot_be(metadata: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        namespace(**metadata)
    assert error.value.path == path
