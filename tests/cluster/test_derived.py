"""EndpointSlices and pods' addresses, from what nodes report."""

from typing import Any

import msgspec

from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.pod import Pod, PodIP, PodStatus
from edgeagent.api.objects.service import EndpointPort, EndpointSlice, Service, ServicePort, ServiceSpec
from edgeagent.cluster.derived import endpoint_slices, pod_address
from tests.node.podkit import make_pod

WEB = {"app": "web"}


def pod(name: str, *ips: str, ready: bool = True, phase: str = "Running", **meta: Any) -> Pod:
    """A pod of node ``n1`` with these addresses."""
    found = make_pod(
        {"ports": [{"name": "http", "containerPort": 8080}]},
        metadata={"name": name, "uid": f"u-{name}", "labels": WEB, **meta},
        nodeName="n1",
    )
    said = Condition(type="Ready", status="True" if ready else "False")
    status = PodStatus(phase=phase, conditions=[said], pod_ips=[PodIP(ip=ip) for ip in ips])  # type: ignore[arg-type]
    return msgspec.structs.replace(found, status=status)


def service(*ports: ServicePort) -> Service:
    """A Service that selects them."""
    return Service(
        api_version="v1",
        metadata=ObjectMeta(name="web", namespace="shop", uid="s"),
        spec=ServiceSpec(selector=WEB, ports=list(ports)),
    )


def slices(pods: list[Pod], *ports: ServicePort, gone: bool = False) -> list[EndpointSlice]:
    """The slices of that Service."""
    return list(endpoint_slices(service(*ports), pods, lambda node: gone))


HTTP = ServicePort(port=80, target_port="http")


def test_pods_with_addresses_are_endpoints_by_readiness() -> None:
    pods = [
        pod("a", "10.42.0.2"),
        pod("b", "10.42.0.3", ready=False),
        pod("c"),
        pod("d", "10.42.0.4", phase="Failed"),
    ]
    (found,) = slices(pods, HTTP)
    assert found.ports == [EndpointPort(port=8080)]
    assert [(one.addresses, one.conditions.ready) for one in found.endpoints] == [
        (["10.42.0.2"], True),
        (["10.42.0.3"], False),
    ]
    assert found.metadata.labels == {"kubernetes.io/service-name": "web"}
    assert found.endpoints[0].node_name == "n1"


def test_a_pod_that_ends_is_serving_and_not_ready() -> None:
    (found,) = slices([pod("a", "10.42.0.2", deletionTimestamp="2026-01-01T00:00:00Z")], HTTP)
    said = found.endpoints[0].conditions
    assert (said.ready, said.serving, said.terminating) == (False, True, True)


def test_what_is_on_a_node_that_is_gone_serves_nobody() -> None:
    (found,) = slices([pod("a", "10.42.0.2")], HTTP, gone=True)
    assert (found.endpoints[0].conditions.ready, found.endpoints[0].conditions.serving) == (False, False)


def test_families_and_ports_that_differ_are_slices_of_their_own() -> None:
    other = msgspec.structs.replace(
        make_pod(
            {"ports": [{"name": "http", "containerPort": 9090}]}, metadata={"uid": "u-o", "labels": WEB}
        ),
        status=pod("o", "10.42.0.9").status,
    )
    found = slices([pod("a", "10.42.0.2", "fd42::2"), other], HTTP)
    assert [(one.address_type, one.ports[0].port) for one in found] == [
        ("IPv4", 8080),
        ("IPv4", 9090),
        ("IPv6", 8080),
    ]
    assert len({one.metadata.uid for one in found}) == len({one.metadata.name for one in found}) == 3


def test_a_slice_holds_a_hundred() -> None:
    found = slices([pod(f"p{n}", f"10.42.{n // 250}.{n % 250 + 1}") for n in range(250)], HTTP)
    assert [len(one.endpoints) for one in found] == [100, 100, 50]


def test_the_same_pods_give_the_same_slices_whatever_their_order() -> None:
    pods = [pod("a", "10.42.0.2"), pod("b", "10.42.0.3")]
    assert slices(pods, HTTP) == slices(pods[::-1], HTTP)


def test_a_pods_address_is_told_with_its_labels_and_named_ports() -> None:
    found = pod_address(pod("a", "10.42.0.2"))
    assert found is not None
    assert (found.metadata.labels, found.spec.ips, found.spec.node_name) == (WEB, ["10.42.0.2"], "n1")
    assert found.spec.named_ports == {"http/TCP": 8080}
    assert pod_address(pod("a")) is None
    assert pod_address(pod("a", "10.42.0.2", phase="Succeeded")) is None
