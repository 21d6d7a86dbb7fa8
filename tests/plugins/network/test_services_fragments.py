"""What Services become, and what is said of those that cannot be: no kernel but for the last test."""

import ipaddress
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import Backend, NetworkService, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec
from edgeagent.api.objects.service import (
    ClientIPConfig,
    ServicePort,
    SessionAffinityConfig,
)
from edgeagent_network.config import NetworkConfig
from edgeagent_network.endpoints import parse_address
from edgeagent_network.ruleset import Fragment
from edgeagent_network.services import Services, knows_sctp
from edgeagent_network.translation import UdpRoute, conntrack_input, removed_udp_endpoints
from tests.plugins.network.servicemaking import CONFIG, backend, fragments, ruleset, service, state
from tests.support.netlab import Lab
from tests.support.nftscript import whole_table

NODE_PORT = ServicePort(port=80, node_port=30080)


def problems(*services: NetworkService, sctp: bool = True) -> list[tuple[str, str, str]]:
    """Of each problem the Service, the reason and the message."""
    _, found = Services(CONFIG, sctp=sctp).fragments(state(*services))
    assert all((one.kind, one.namespace) == ("Service", "default") for one in found)
    return [(one.name, one.reason, one.message) for one in found]


def elements(made: dict[str, Fragment], collection: str) -> dict[str, str]:
    """Everything in a set or map."""
    return {
        key: value
        for fragment in made.values()
        for key, value in fragment.elements.get(collection, {}).items()
    }


def test_backends_are_elements_and_their_order_does_not_matter() -> None:
    one, two = backend("10.42.0.3", 8080), backend("10.42.0.2", 8080)
    made = fragments(service("web", "10.43.0.1", [one, two, one]))
    assert elements(made, "service_ips4") == {"10.43.0.1 . tcp . 80": "goto spread-2-4"}
    assert elements(made, "backends4") == {
        "10.43.0.1 . tcp . 80 . 0": "10.42.0.2 . 8080",
        "10.43.0.1 . tcp . 80 . 1": "10.42.0.3 . 8080",
    }
    assert made == fragments(service("web", "10.43.0.1", [two, one]))
    assert not made["service default/web"].chains


def state_with(source: NetworkService, *cidrs: str) -> NetworkState:
    """A state in which the hub gave this node these service ranges."""
    node = NodeNetwork(
        api_version="edgeagent/v1",
        metadata=ObjectMeta(name="here"),
        spec=NodeNetworkSpec(service_cidrs=list(cidrs)),
    )
    return msgspec.structs.replace(state(source), nodes=[node])


def test_the_hubs_service_ranges_count_before_the_nodes_own_and_with_them_any_node_port() -> None:
    services = Services(CONFIG)
    port = ServicePort(port=80, node_port=31)
    web = service("web", "10.96.0.1", [backend("10.42.0.2")], type="NodePort", ports=[port])

    def outcome(now: NetworkState) -> tuple[list[str], bool]:
        made, found = services.fragments(now)
        served = "10.96.0.1 . tcp . 80" in elements(made, "service_ips4")
        assert served == ("tcp . 31" in elements(made, "node_ports4"))
        return [one.reason for one in found], served

    refused = ["ClusterIPOutOfRange", "NodePortOutOfRange"]
    assert outcome(state(web)) == (refused, False)
    assert outcome(state_with(web, "10.96.0.0/12")) == ([], True)
    assert outcome(state_with(web, "10.96.0.0/33")) == (["InvalidServiceCIDR"], True)
    assert outcome(state_with(web, "10.96.0.0/33")) == (["InvalidServiceCIDR"], True)
    assert outcome(state_with(web)) == (refused, False)


def test_what_did_not_change_is_the_very_same_object() -> None:
    services = Services(CONFIG)
    some = [service(f"s{n}", f"10.43.0.{n}", [backend("10.42.0.2")]) for n in range(1, 5)]
    before, _ = services.fragments(state(*some))
    again, _ = services.fragments(state(*some))
    assert all(again[key] is before[key] for key in before)
    some[1] = service("s2", "10.43.0.2", [backend("10.42.0.3")])
    after, _ = services.fragments(state(*some))
    assert {key for key in after if after[key] is not before[key]} == {"service default/s2"}
    some[1] = service("s2", "10.43.0.2", [backend("10.42.0.3"), backend("10.42.0.4")])
    after, _ = services.fragments(state(*some))
    assert {key for key in after if after[key] is not before[key]} == {"service default/s2"}
    after, _ = services.fragments(state(some[0]))
    assert after.keys() == {"services", "service default/s1"}


@pytest.mark.parametrize(
    ("made", "reason", "words"),
    [
        (service("bad", "8.8.8.8"), "ClusterIPOutOfRange", "8.8.8.8 is not in 10.43.0.0/16, fd43::/112"),
        (service("bad", "ten"), "InvalidClusterIP", "'ten'"),
        (service("bad", "fd43::1%eth0; flush ruleset"), "InvalidClusterIP", "not an IP address"),
        (service("bad", []), "NoClusterIP", "give it one"),
        (service("bad", "10.43.0.1", ports=[ServicePort(port=0)]), "InvalidPort", "port 0"),
        (service("bad", "10.43.0.1", ports=[ServicePort(port=65536)]), "InvalidPort", "65536"),
        (service("bad", "10.43.0.1", ports=[ServicePort(port=80, node_port=80)], type="NodePort"),
         "NodePortOutOfRange", "nodePort 80 is not in 30000-32767"),
        (service("bad", "10.43.0.1", type="NodePort"), "NoNodePort", "give it one"),
        (service("bad", "10.43.0.1", ports=[ServicePort(port=80), ServicePort(port=80, name="b")]),
         "DuplicatePort", "port b"),
        (service("bad", "10.43.0.1", type="NodePort",
                 ports=[NODE_PORT, ServicePort(port=81, name="b", node_port=30080)]),
         "DuplicatePort", "nodePort 30080"),
        (service("bad", "10.43.0.1", [backend("10.42.0.2"), backend("there")]), "InvalidEndpoint", "there"),
        (service("bad", "10.43.0.1", [backend("10.42.0.2", 0)]), "InvalidEndpoint", "10.42.0.2 has port 0"),
        (service("bad", "10.43.0.1", [backend("127.0.0.1")]), "InvalidEndpoint", "127.0.0.1"),
        (service("bad", "10.43.0.1", external_ips=["8.8.8.8"]), "ExternalIPsRefused", "any address"),
        (service("bad", "10.43.0.1", type="LoadBalancer", ports=[NODE_PORT]), "NoLoadBalancer", "NodePort"),
        (service("bad", "10.43.0.1", session_affinity="ClientIP",
                 session_affinity_config=SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=0))),
         "InvalidAffinityTimeout", "10800 is used"),
    ],
)  # fmt: skip
def test_a_bad_service_is_reported_by_name_and_no_other_suffers(
    made: NetworkService, reason: str, words: str
) -> None:
    good = service("good", "10.43.0.2", [backend("10.42.0.2")])
    found = problems(good, made)
    assert [(name, why) for name, why, _ in found] == [("bad", reason)]
    assert words in found[0][2]
    kept, _ = Services(CONFIG).fragments(state(good, made))
    assert kept["service default/good"] == fragments(good)["service default/good"]


def test_what_is_good_of_a_bad_service_works() -> None:
    made, _ = Services(CONFIG).fragments(
        state(
            service(
                "half",
                ["10.43.0.1", "8.8.8.8"],
                {"a": [backend("10.42.0.2"), backend("?")], "b": [backend("10.42.0.2")]},
                ports=[
                    ServicePort(name="a", port=80, node_port=30080),
                    ServicePort(name="b", port=0, node_port=30081),
                ],
                type="NodePort",
            )
        )
    )
    assert elements(made, "service_ips4").keys() == {"10.43.0.1 . tcp . 80"}
    assert elements(made, "node_ports4").keys() == {"tcp . 30080"}


def test_sctp_needs_the_kernel(tmp_path: Any) -> None:
    sctp = service("s", "10.43.0.1", [backend("10.42.0.2")], ports=[ServicePort(port=80, protocol="SCTP")])
    assert problems(sctp) == []
    assert [why for _, why, _ in problems(sctp, sctp=False)] == ["UnsupportedProtocol"]
    assert knows_sctp(tmp_path)
    sysctls = tmp_path / "proc/sys/net/netfilter"
    sysctls.mkdir(parents=True)
    assert not knows_sctp(tmp_path)
    (sysctls / "nf_conntrack_sctp_timeout_closed").touch()
    assert knows_sctp(tmp_path)


def test_the_older_of_two_keeps_what_both_want_and_the_other_gets_it_back() -> None:
    port = ServicePort(port=80, node_port=30080)
    older = service("z", "10.43.0.1", [backend("10.42.0.2")], created="2026-01-01T00:00:00Z",
                    type="NodePort", ports=[port])  # fmt: skip
    ports = [port, ServicePort(name="more", port=81, node_port=30081)]
    newer = service("a", "10.43.0.1", [backend("10.42.0.3")], created="2026-01-02T00:00:00Z",
                    type="NodePort", ports=ports)  # fmt: skip
    services = Services(CONFIG)
    services.fragments(state(newer))
    made, found = services.fragments(state(newer, older))
    assert [(one.name, one.reason) for one in found] == [
        ("a", "NodePortConflict"),
        ("a", "ClusterIPConflict"),
    ]
    assert all("default/z" in one.message for one in found)
    assert elements(made, "backends4") == {"10.43.0.1 . tcp . 80 . 0": "10.42.0.2 . 80"}
    assert elements(made, "node_ports4").keys() == {"tcp . 30080"}
    assert elements(made, "no_endpoint_node_ports4").keys() == {"tcp . 30081"}
    assert "10.43.0.1 . tcp . 81" in elements(made, "no_endpoints4")
    assert services.node_ports == {("TCP", 30080), ("TCP", 30081)}
    third = service("b", "10.43.0.1", created="2026-01-01T12:00:00Z")
    made, found = services.fragments(state(newer, third))
    assert [one.message for one in found] == ["10.43.0.1 port 80/TCP belongs to the older Service default/b"]
    made, found = services.fragments(state(newer))
    assert found == []
    assert elements(made, "backends4") == {"10.43.0.1 . tcp . 80 . 0": "10.42.0.3 . 80"}


def test_one_port_of_two_protocols_is_no_conflict() -> None:
    ports = [ServicePort(port=53, node_port=30053), ServicePort(port=53, protocol="UDP", node_port=30053)]
    assert problems(service("dns", "10.43.0.1", [backend("10.42.0.2")], ports=ports, type="NodePort")) == []


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(service_cidrs=["10.43.0.1/16"]),
        NetworkConfig(node_ports="9-1"),
        NetworkConfig(node_ports="1-99999"),
    ],
)
def test_a_range_that_is_none_is_refused(config: NetworkConfig) -> None:
    with pytest.raises(PermanentError, match=r"service_cidrs|node_ports"):
        Services(config)


@pytest.mark.parametrize(
    ("text", "of_endpoints"),
    [
        *((text, True) for text in ("10.42.0.2", "126.0.0.1", "128.0.0.1", "223.1.1.1", "169.253.1.1")),
        *((text, True) for text in ("fd42::2", "2001:db8::1", "::2", "fec0::1", "::ffff:10.0.0.1")),
        *((text, False) for text in ("0.0.0.0", "127.9.9.9", "224.0.0.1", "255.255.255.255", "169.254.1.1")),  # noqa: S104
        *((text, False) for text in ("::", "::1", "fe80::1", "febf::1", "ff02::1")),
    ],
)
def test_which_addresses_endpoints_may_have(text: str, of_endpoints: bool) -> None:
    assert parse_address(text).is_of_endpoints is of_endpoints


@given(number=st.integers(0, 2**32 - 1) | st.integers(2**32, 2**128 - 1))
def test_addresses_are_those_of_the_library(number: int) -> None:
    expected = ipaddress.ip_address(number)
    found = parse_address(str(expected))
    assert ipaddress.ip_address(found.text) == expected
    assert (found.packed, found.version) == (expected.packed, expected.version)
    assert found.is_unspecified == expected.is_unspecified
    assert found.is_loopback == expected.is_loopback


@pytest.mark.parametrize("text", ["", "10.0.0.256", "fe80::1%a", "1" * 60, "10.0.0.1 }", "10.0.0.0/8"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_address(text)


def test_which_udp_flows_are_to_be_forgotten() -> None:
    dns = ServicePort(port=53, protocol="UDP", node_port=30053)

    def made(*ips: str) -> dict[str, Fragment]:
        backends = [backend(ip, 5353) for ip in ips]
        return fragments(
            service("dns", "10.43.0.1", backends, ports=[dns], type="NodePort"),
            service("tcp", "10.43.0.2", backends),
        )

    ending = Backend(ip="10.42.0.3", port=5353, ready=False, serving=True, terminating=True)
    ended = [backend("10.42.0.2", 5353), ending]
    none, one, two = made(), made("10.42.0.2"), made("10.42.0.2", "10.42.0.3")
    # One that is ending gets no new flow, and finishes those that it has.
    last = fragments(
        service("dns", "10.43.0.1", ended, ports=[dns], type="NodePort"), service("tcp", "10.43.0.2", ended)
    )
    assert elements(last, "backends4") == elements(one, "backends4")
    assert removed_udp_endpoints(two, last) == []
    assert removed_udp_endpoints(one, one) == []
    assert removed_udp_endpoints(one, two) == []
    gone = [UdpRoute("", 30053, "10.42.0.3", 5353), UdpRoute("10.43.0.1", 53, "10.42.0.3", 5353)]
    assert removed_udp_endpoints(two, one) == gone
    assert removed_udp_endpoints(none, one) == [UdpRoute("", 30053), UdpRoute("10.43.0.1", 53)]
    assert len(removed_udp_endpoints(one, {})) == 2
    assert conntrack_input([*gone, UdpRoute("10.43.0.1", 53)]) == (
        "-D -p udp --orig-port-dst 30053 --reply-src 10.42.0.3 --reply-port-src 5353\n"
        "-D -p udp --orig-dst 10.43.0.1 --orig-port-dst 53 --reply-src 10.42.0.3 --reply-port-src 5353\n"
        "-D -p udp --orig-dst 10.43.0.1 --orig-port-dst 53\n"
    )


# Whatever Services there are

ADDRESSES = ["10.43.0.1", "10.43.0.2", "fd43::1", "fd43::2", "None", "8.8.8.8", "x", "fd43::1%;", ""]
BACKENDS = st.builds(
    Backend,
    ip=st.sampled_from(["10.42.0.2", "10.42.0.3", "fd42::2", "fd42::3", "0.0.0.0", "no"]),  # noqa: S104
    port=st.sampled_from([80, 8080, 0]),
    node=st.sampled_from(["", "far", "?"]),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
)
PORTS = st.builds(
    ServicePort,
    name=st.sampled_from(["", "a", "b"]),
    port=st.sampled_from([80, 81, 0]),
    protocol=st.sampled_from(["TCP", "UDP", "SCTP"]),
    node_port=st.sampled_from([0, 30080, 30081, 1]),
)
SERVICES = st.builds(
    service,
    st.sampled_from(["one", "two", "three", 'a"; flush ruleset']),
    st.lists(st.sampled_from(ADDRESSES), max_size=3),
    st.dictionaries(st.sampled_from(["", "a", "b"]), st.lists(BACKENDS, max_size=4)),
    ports=st.lists(PORTS, max_size=3),
    created=st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
    type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    session_affinity=st.sampled_from(["None", "ClientIP"]),
    internal_traffic_policy=st.sampled_from(["Cluster", "Local"]),
    external_traffic_policy=st.sampled_from(["", "Cluster", "Local"]),
    traffic_distribution=st.sampled_from(["", "PreferClose"]),
    publish_not_ready_addresses=st.booleans(),
)
STATES = st.lists(SERVICES, max_size=4, unique_by=lambda one: one.service.metadata.name)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(STATES, min_size=1, max_size=4))
def test_any_services_load_each_thing_once_and_however_they_came(
    lab: Lab, states: list[list[NetworkService]]
) -> None:
    services = Services(CONFIG)
    for some in states:
        made, _ = services.fragments(state(*some))
    names = Counter(
        name for one in made.values() for part in (one.chains, one.sets, one.maps) for name in part
    )
    keys = Counter(
        (name, key) for one in made.values() for name, held in one.elements.items() for key in held
    )
    assert not [name for name, times in (*names.items(), *keys.items()) if times > 1]
    lab.host.nft(whole_table(ruleset(made)))
    fresh, fresh_problems = Services(CONFIG).fragments(state(*states[-1]))
    assert made == fresh
    again, again_problems = services.fragments(state(*states[-1]))
    assert all(again[key] is made[key] for key in (*made, *again))
    assert sorted(map(repr, again_problems)) == sorted(map(repr, fresh_problems))
