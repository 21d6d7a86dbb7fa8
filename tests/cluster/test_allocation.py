"""Cluster IPs, node ports and pod ranges: who gets what, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.service import Service, ServicePort, ServiceSpec
from edgeagent.cluster.allocation import (
    Claims,
    ClusterNetwork,
    Taken,
    check_network,
    check_node_address,
    complete,
    pod_ranges,
    same_address,
    same_key,
)

NETWORK = ClusterNetwork()
DUAL = ClusterNetwork(pod_cidrs=["10.42.0.0/16", "fd42::/48"], service_cidrs=["10.43.0.0/16", "fd43::/112"])
SMALL = ClusterNetwork(service_cidrs=["10.43.0.0/30"], first_node_port=30000, last_node_port=30001)


def service(name: str = "web", *ports: ServicePort, **spec: Any) -> Service:
    """A Service in namespace ``shop``."""
    return Service(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="shop"),
        spec=ServiceSpec(ports=list(ports or (ServicePort(port=80),)), **spec),
    )


def refused(found: Service, *taken: Service, network: ClusterNetwork = NETWORK) -> str:
    """What is said of it."""
    with pytest.raises(InvalidObjectError) as caught:
        complete(found, None, network, Taken(taken))
    return str(caught.value)


def test_a_service_gets_an_address_of_the_range_and_keeps_it() -> None:
    first = complete(service(), None, NETWORK, Taken([]))
    assert first.spec.cluster_ip.startswith("10.43.")
    assert first.spec.cluster_ips == [first.spec.cluster_ip]
    assert first.spec.ip_families == ["IPv4"]
    again = complete(service("web", ServicePort(port=81)), first, NETWORK, Taken([]))
    assert again.spec.cluster_ip == first.spec.cluster_ip
    assert complete(service(), None, NETWORK, Taken([])) == first


def test_an_address_is_given_once_and_asked_for_within_the_range() -> None:
    mine = complete(service("a", cluster_ip="10.43.0.10"), None, NETWORK, Taken([]))
    assert mine.spec.cluster_ips == ["10.43.0.10"]
    assert "spec.clusterIPs[0]: 10.43.0.10 is that of Service shop/a" in refused(
        service("b", cluster_ip="10.43.0.10"), mine
    )
    assert "10.99.0.1 is not in the services' range 10.43.0.0/16" in refused(service(cluster_ip="10.99.0.1"))
    assert "'nonsense' is not an IP address" in refused(service(cluster_ip="nonsense"))


def test_an_address_may_not_change() -> None:
    first = complete(service(), None, NETWORK, Taken([]))
    with pytest.raises(InvalidObjectError, match="may not change"):
        complete(service(cluster_ip="10.43.0.9"), first, NETWORK, Taken([]))


def test_headless_and_external_names_have_none() -> None:
    assert complete(service(cluster_ip="None"), None, NETWORK, Taken([])).spec.cluster_ips == ["None"]
    named = service(type="ExternalName", external_name="db.example.org")
    assert complete(named, None, NETWORK, Taken([])) is named


def test_a_full_range_says_so() -> None:
    taken = [complete(service("a"), None, SMALL, Taken([]))]
    taken.append(complete(service("b"), None, SMALL, Taken(taken)))
    assert "no address is left in 10.43.0.0/30" in refused(service("c"), *taken, network=SMALL)


def test_two_families() -> None:
    one = complete(service(ip_families=["IPv6"]), None, DUAL, Taken([]))
    assert one.spec.ip_families == ["IPv6"]
    both = complete(service(ip_family_policy="RequireDualStack"), None, DUAL, Taken([]))
    assert both.spec.ip_families == ["IPv4", "IPv6"]
    kept = complete(service(ip_family_policy="PreferDualStack"), one, DUAL, Taken([]))
    assert kept.spec.cluster_ips[0] == one.spec.cluster_ip
    assert kept.spec.ip_families == ["IPv6", "IPv4"]
    assert "one IP family only" in refused(service(ip_family_policy="RequireDualStack"))
    assert "no IPv6 for services" in refused(service(ip_families=["IPv6"]))


def test_two_families_that_are_asked_for_by_name_are_both_given() -> None:
    """Without a policy too: https://kubernetes.io/docs/concepts/services-networking/dual-stack/#services."""
    made = complete(service(ip_families=["IPv6", "IPv4"]), None, DUAL, Taken([]))
    assert made.spec.ip_families == ["IPv6", "IPv4"]
    assert len(made.spec.cluster_ips) == 2
    alone = service(ip_families=["IPv6", "IPv4"], ip_family_policy="SingleStack")
    assert complete(alone, None, DUAL, Taken([])).spec.ip_families == ["IPv6"]


def test_a_service_of_two_families_becomes_one_of_the_first() -> None:
    both = complete(service(ip_family_policy="RequireDualStack"), None, DUAL, Taken([]))
    addresses = both.spec.cluster_ips
    for asked in (
        service(ip_family_policy="SingleStack"),
        service(ip_family_policy="SingleStack", cluster_ips=addresses, ip_families=["IPv4", "IPv6"]),
    ):
        alone = complete(asked, both, DUAL, Taken([])).spec
        assert (alone.cluster_ips, alone.ip_families) == (addresses[:1], ["IPv4"])
    assert complete(service(), both, DUAL, Taken([])).spec.cluster_ips == addresses


def test_families_and_addresses_that_contradict_each_other_are_refused() -> None:
    two = service(ip_family_policy="SingleStack", cluster_ips=["10.43.0.9", "fd43::9"])
    assert "spec.clusterIPs[1]: is one too many for SingleStack" in refused(two, network=DUAL)
    other = service(cluster_ip="10.43.0.9", ip_families=["IPv6"])
    assert "spec.ipFamilies[0]: is IPv6, but the first address is 10.43.0.9" in refused(other, network=DUAL)
    before = complete(service(), None, DUAL, Taken([]))
    with pytest.raises(InvalidObjectError, match="is IPv6, but the first address is 10"):
        complete(service(ip_families=["IPv6"]), before, DUAL, Taken([]))


def test_node_ports_are_given_kept_and_not_given_twice() -> None:
    ports = (ServicePort(port=80, name="a"), ServicePort(port=81, name="b", node_port=30000))
    mine = complete(service("a", *ports, type="NodePort"), None, NETWORK, Taken([]))
    assert [port.node_port for port in mine.spec.ports] == [30001, 30000]
    assert "30001 is that of Service shop/b" in refused(
        service("c", ServicePort(port=80, node_port=30001), type="NodePort"),
        complete(
            service("b", ServicePort(port=1, node_port=30001), type="NodePort"), None, NETWORK, Taken([])
        ),
    )
    assert "80 is not in the range 30000-32767" in refused(
        service("c", ServicePort(port=80, node_port=80), type="NodePort")
    )
    changed = service("a", ServicePort(port=8080, name="a"), type="NodePort")
    assert complete(changed, mine, NETWORK, Taken([])).spec.ports[0].node_port == mine.spec.ports[0].node_port


@pytest.mark.parametrize("kept_first", [True, False])
def test_a_port_may_not_ask_for_what_another_of_the_same_service_keeps(kept_first: bool) -> None:
    before = complete(
        service("s", ServicePort(port=80, name="a", node_port=30000), type="NodePort"),
        None,
        NETWORK,
        Taken([]),
    )
    ports = [ServicePort(port=80, name="a"), ServicePort(port=81, name="b", node_port=30000)]
    asked = service("s", *(ports if kept_first else ports[::-1]), type="NodePort")
    other = "a" if kept_first else "b"
    with pytest.raises(InvalidObjectError) as caught:
        complete(asked, before, NETWORK, Taken([]))
    assert str(caught.value) == f"spec.ports[1].nodePort: 30000 is that of this Service's port '{other}'"
    udp = service(
        "s", ports[0], ServicePort(port=81, name="b", node_port=30000, protocol="UDP"), type="NodePort"
    )
    assert [one.node_port for one in complete(udp, before, NETWORK, Taken([])).spec.ports] == [30000, 30000]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=12))
def test_nothing_is_ever_given_twice(steps: list[tuple[str, bool]]) -> None:
    """Services come and go in any order."""
    live: dict[str, Service] = {}
    small = ClusterNetwork(service_cidrs=["10.43.0.0/28"], first_node_port=30000, last_node_port=30009)
    for name, goes in steps:
        old = live.pop(name, None)
        if goes:
            continue
        live[name] = complete(service(name, type="NodePort"), old, small, Taken(live.values()))
        if old is not None:
            assert live[name].spec == old.spec
    addresses = [one.spec.cluster_ip for one in live.values()]
    node_ports = [one.spec.ports[0].node_port for one in live.values()]
    assert len(set(addresses)) == len(addresses)
    assert len(set(node_ports)) == len(node_ports)


def test_each_node_gets_a_range_of_its_own() -> None:
    assert pod_ranges(NETWORK, []) == ["10.42.0.0/24"]
    assert pod_ranges(DUAL, ["10.42.0.0/24", "fd42::/64"]) == ["10.42.1.0/24", "fd42:0:0:1::/64"]
    with pytest.raises(PermanentError, match=r"no pod range is left in 10\.42\.0\.0/24"):
        pod_ranges(ClusterNetwork(pod_cidrs=["10.42.0.0/24"]), ["10.42.0.0/24"])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (ClusterNetwork(pod_cidrs=["10.42.0.1/16"]), r"podCidrs\[0\]: 10.42.0.1/16 has host bits set"),
        (ClusterNetwork(pod_cidrs=["10.42.0.0/25"]), "holds no /24"),
        (ClusterNetwork(pod_cidrs=["10.43.0.0/16"]), "overlaps the services'"),
        (ClusterNetwork(pod_cidrs=["10.1.0.0/16", "10.2.0.0/16"]), "a second range of that family"),
        (ClusterNetwork(first_node_port=5, last_node_port=4), "5-4 is no range of ports"),
    ],
)
def test_ranges_that_cannot_be(network: ClusterNetwork, words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words):
        check_network(network)


def test_the_usual_ranges_can_be() -> None:
    check_network(NETWORK)
    check_network(DUAL)


def test_the_first_that_claims_a_thing_has_it_until_it_takes_another() -> None:
    claims = Claims()
    claims.take({"a": 1, "b": 2})
    assert claims.refused({"c": 1, "d": 3}) == {"c": "a"}
    # One moves, and another takes its place.
    assert claims.refused({"a": 3, "c": 1}) == {}
    # Where it cannot move its place is not free.
    assert claims.refused({"a": 2, "c": 1}) == {"a": "b", "c": "a"}
    # Two change places, and three.
    claims.take({"e": 3})
    assert claims.refused({"a": 2, "b": 1}) == {}
    assert claims.refused({"a": 2, "b": 3, "e": 1}) == {}
    # Two want the same: one of them gets it.
    assert claims.refused({"x": 9, "w": 9}) == {"x": "w"}
    claims.take({"a": None})
    assert claims.refused({"c": 1}) == {}


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=4), max_size=12))
def test_no_two_ever_have_the_same(rounds: list[dict[str, int]]) -> None:
    claims = Claims()
    have: dict[str, int] = {}
    for asked in rounds:
        wishes = {node: thing for node, thing in asked.items() if have.get(node) != thing}
        refused = claims.refused(wishes)
        given_ = {node: thing for node, thing in wishes.items() if node not in refused}
        claims.take(given_)
        have |= given_
        assert len(set(have.values())) == len(have)
        for node, thing in wishes.items():
            if thing not in have.values():
                raise AssertionError(f"{node} is refused what nobody has")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.42.7.1", "10.42.7.1 is in the pods' range 10.42.0.0/16"),
        ("::ffff:10.43.0.1", "is in the services' range 10.43.0.0/16"),
        ("fd42::1", "is in the pods' range fd42::/48"),
    ],
)
def test_no_node_is_where_pods_and_services_are(address: str, words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words):
        check_node_address(address, DUAL)


def test_a_node_may_be_anywhere_else() -> None:
    check_node_address("192.0.2.1", DUAL)
    check_node_address("2001:db8::1", DUAL)


def test_two_ways_to_write_one_thing() -> None:
    assert same_address("2001:DB8:0::1") == same_address("2001:db8::1")
    assert same_address("::ffff:192.0.2.1") == same_address("192.0.2.1")
    assert same_key("a" * 42 + "Y=") == same_key("a" * 42 + "Z=")
