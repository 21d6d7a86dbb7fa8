"""EndpointSlices and pods' addresses, from what nodes report."""

from typing import Any

import msgspec
import pytest

from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.pod import Pod, PodIP, PodStatus
from edgeagent.api.objects.service import EndpointPort, EndpointSlice, Service, ServicePort, ServiceSpec
from edgeagent.cluster.derived import PodFacts, endpoint_slices, pod_address, pod_facts, with_own_addresses
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


def facts(name: str, *ips: str, **more: Any) -> PodFacts:
    """The facts of that pod."""
    return pod_facts(pod(name, *ips, **more))


def service(*ports: ServicePort, **spec: Any) -> Service:
    """A Service that selects them."""
    return Service(
        api_version="v1",
        metadata=ObjectMeta(name="web", namespace="shop", uid="s"),
        spec=ServiceSpec(selector=WEB, ports=list(ports), **spec),
    )


def slices(pods: list[PodFacts], *ports: ServicePort, gone: bool = False) -> list[EndpointSlice]:
    """The slices of that Service."""
    return list(endpoint_slices(service(*ports), pods, lambda node: gone))


HTTP = ServicePort(port=80, target_port="http")


def test_pods_with_addresses_are_endpoints_by_readiness() -> None:
    pods = [
        facts("a", "10.42.0.2"),
        facts("b", "10.42.0.3", ready=False),
        facts("c"),
        facts("d", "10.42.0.4", phase="Failed"),
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
    (found,) = slices([facts("a", "10.42.0.2", deletionTimestamp="2026-01-01T00:00:00Z")], HTTP)
    said = found.endpoints[0].conditions
    assert (said.ready, said.serving, said.terminating) == (False, True, True)


def test_who_is_not_ready_is_told_as_ready_where_the_service_publishes_such() -> None:
    """As in Kubernetes: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions."""
    published = service(HTTP, publish_not_ready_addresses=True)
    (found,) = endpoint_slices(published, [facts("a", "10.42.0.2", ready=False)], lambda node: False)
    said = found.endpoints[0].conditions
    assert (said.ready, said.serving, said.terminating) == (True, False, False)


def test_what_is_on_a_node_that_is_gone_serves_nobody() -> None:
    (found,) = slices([facts("a", "10.42.0.2")], HTTP, gone=True)
    assert (found.endpoints[0].conditions.ready, found.endpoints[0].conditions.serving) == (False, False)


def test_families_and_ports_that_differ_are_slices_of_their_own() -> None:
    other = msgspec.structs.replace(facts("o", "10.42.0.9"), named_ports={"http/TCP": 9090})
    found = slices([facts("a", "10.42.0.2", "fd42::2"), other], HTTP)
    assert [(one.address_type, one.ports[0].port) for one in found] == [
        ("IPv4", 8080),
        ("IPv4", 9090),
        ("IPv6", 8080),
    ]
    assert len({one.metadata.uid for one in found}) == len({one.metadata.name for one in found}) == 3


def test_a_slice_holds_a_hundred() -> None:
    found = slices([facts(f"p{n}", f"10.42.{n // 250}.{n % 250 + 1}") for n in range(250)], HTTP)
    assert [len(one.endpoints) for one in found] == [100, 100, 50]


def test_the_same_pods_give_the_same_slices_whatever_their_order() -> None:
    pods = [facts("a", "10.42.0.2"), facts("b", "10.42.0.3")]
    assert slices(pods, HTTP) == slices(pods[::-1], HTTP)


def test_a_pods_address_is_told_with_its_labels_and_named_ports() -> None:
    found = pod_address(facts("a", "10.42.0.2"))
    assert found is not None
    assert (found.metadata.labels, found.spec.ips, found.spec.node_name) == (WEB, ["10.42.0.2"], "n1")
    assert found.spec.named_ports == {"http/TCP": 8080}
    assert pod_address(facts("a")) is None
    assert pod_address(facts("a", "10.42.0.2", phase="Succeeded")) is None


RANGES = ["10.42.0.0/24", "fd42::/64"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (["10.42.0.2", "FD42:0::2"], ["10.42.0.2", "fd42::2"]),
        (["10.42.0.2", "10.42.0.3", "10.42.0.2"], ["10.42.0.2"]),
        (["10.42.1.2", "192.0.2.1", "8.8.8.8"], []),
        (["not-an-ip", "", "fe80::1%eth0", "10.42.0.2"], ["10.42.0.2"]),
    ],
)
def test_a_pod_has_addresses_of_its_nodes_ranges_alone(said: list[str], kept: list[str]) -> None:
    found, others = with_own_addresses(facts("a", *said), RANGES, "192.0.2.1")
    assert found.ips == kept
    assert all(text not in kept for text in others)


def test_where_a_nodes_ranges_are_not_known_any_address_will_do_that_can_be_reached() -> None:
    said = facts("a", "127.0.0.1", "169.254.0.1", "224.0.0.1", "::", "172.16.0.2")
    found, others = with_own_addresses(said, [], "")
    assert found.ips == ["172.16.0.2"]
    assert len(others) == 4


def test_a_pod_on_the_hosts_network_has_its_nodes_address() -> None:
    said = facts("a", "10.42.0.2", "192.0.2.1")
    said = msgspec.structs.replace(said, host_network=True)
    found, others = with_own_addresses(said, RANGES, "192.0.2.1")
    assert (found.ips, others) == (["192.0.2.1"], ["10.42.0.2"])


def test_what_endpoints_are_made_of_is_told_from_what_they_are_not() -> None:
    one = pod("a", "10.42.0.2")
    before = pod_facts(one)
    later = msgspec.structs.replace(one.status, start_time="2026-01-01T00:00:00Z", message="well")
    assert pod_facts(msgspec.structs.replace(one, status=later)) == before
    for other in (
        pod("a", "10.42.0.3"),
        pod("a", "10.42.0.2", ready=False),
        pod("a", "10.42.0.2", phase="Failed"),
        pod("a", "10.42.0.2", labels={"app": "db"}),
        pod("a", "10.42.0.2", uid="another"),
        pod("a", "10.42.0.2", deletionTimestamp="2026-01-01T00:00:00Z"),
    ):
        assert pod_facts(other) != before


def test_pods_that_share_an_address_are_in_one_order() -> None:
    pods = [facts("b", "192.0.2.1"), facts("a", "192.0.2.1")]
    assert slices(pods) == slices(pods[::-1])


def test_an_address_is_the_same_object_whatever_its_labels_and_another_for_another_pod() -> None:
    def uid(found: PodFacts) -> str:
        address = pod_address(found)
        assert address is not None
        return address.metadata.uid

    first = facts("a", "10.42.0.2")
    assert uid(first) == uid(facts("a", "10.42.0.3", labels={"app": "db"}))
    assert uid(first) != uid(facts("a", "10.42.0.2", uid="made-anew"))
    # What a node reports as its static pod's uid may be that of another's pod.
    assert uid(first) != uid(facts("b-n2", "10.42.1.2", uid="u-a"))
