"""``hostPort``: who reaches the pod, who does not, and who gets a port that two want."""

from collections.abc import Iterator
from typing import Any

import pytest

from edgeagent.api.network import HostPort, NetworkPod, NetworkState
from edgeagent_network.hostports import HostPorts
from edgeagent_network.ruleset import Fragment
from edgeagent_network.translation import UdpRoute, removed_udp_endpoints
from tests.plugins.network.servicemaking import ruleset
from tests.support.netlab import Lab
from tests.support.netprobe import Probe
from tests.support.nftscript import whole_table

ONE, TWO = ["10.42.0.2", "fd42::2"], ["10.42.0.3", "fd42::3"]


def pod(name: str, ips: list[str], *ports: HostPort, **more: Any) -> NetworkPod:
    return NetworkPod(
        uid=f"uid-{name}", namespace="default", name=name, ips=ips, host_ports=list(ports), **more
    )


def made(*pods: NetworkPod) -> dict[str, Fragment]:
    fragments, problems = HostPorts().fragments(NetworkState(node="here", pods=list(pods)))
    assert problems == []
    return fragments


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def test_a_host_port_is_reached_from_everywhere(lab: Lab) -> None:
    one, two = lab.pod("one", *ONE), lab.pod("two", *TWO)
    for protocol in ("TCP", "UDP"):
        lab.serve(one, 80, 81, protocol=protocol)
    ports = [
        HostPort(host_port=8080, container_port=80),
        HostPort(host_port=8080, container_port=80, protocol="UDP"),
        HostPort(host_port=8081, container_port=81, host_ip=lab.host.ip4),
        HostPort(host_port=8082, container_port=81, host_ip="0.0.0.0"),  # noqa: S104
        HostPort(host_port=8083, container_port=81, host_ip="192.168.77.200"),
    ]
    lab.host.nft(whole_table(ruleset(made(pod("one", ONE, *ports)), [*ONE, *TWO])))
    for host, seen in ((lab.host.ip4, lab.lan4), (lab.host.ip6, lab.lan6)):
        # The client's address is kept.
        assert (lab.probe(lab.lan, host, 8080).server, lab.probe(lab.lan, host, 8080).seen) == (one, seen)
        places = (lab.lan, lab.host.name, two, one)
        probes = [Probe(place, host, 8080, protocol) for place in places for protocol in ("TCP", "UDP")]
        assert [outcome.server for outcome in lab.probes(probes, 3)] == [one] * len(probes)
        assert lab.probe(lab.lan, host, 80).kind == "refused"
    for port in (8081, 8082):
        assert lab.probe(lab.lan, lab.host.ip4, port).server == one
        assert lab.probe(lab.lan, lab.host.ip6, port).kind == "refused"
    assert lab.probe(lab.lan, lab.host.ip4, 8083).kind == "refused"
    # The loopback and ports of other machines are not taken.
    assert lab.probe(lab.host.name, "127.0.0.1", 8080).kind == "refused"
    lab.serve(lab.lan, 8080)
    assert lab.probe(lab.host.name, lab.lan4, 8080).server == lab.lan


def test_who_was_there_first_keeps_its_port() -> None:
    ports = HostPorts()
    wanted = HostPort(host_port=8080, container_port=80)
    old, new = pod("old", ONE, wanted), pod("new", TWO, wanted, HostPort(host_port=9090, container_port=90))
    first, _ = ports.fragments(NetworkState(node="here", pods=[old]))
    both, problems = ports.fragments(NetworkState(node="here", pods=[new, old]))
    assert both["host-ports uid-old"] is first["host-ports uid-old"]
    assert both["host-ports uid-new"].elements["host_ports4"] == {"tcp . 9090": "10.42.0.3 . 90"}
    assert [(one.kind, one.name, one.reason, one.message) for one in problems] == [
        ("Pod", "new", "HostPortConflict", "hostPort 8080/TCP: pod default/old has it")
    ]
    again, _ = ports.fragments(NetworkState(node="here", pods=[new, old]))
    assert all(again[key] is both[key] for key in both)
    after, problems = ports.fragments(NetworkState(node="here", pods=[new]))
    assert not problems
    assert after["host-ports uid-new"].elements["host_ports6"].keys() == {"tcp . 8080", "tcp . 9090"}


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("", "", True),
        ("", "10.0.0.1", True),
        ("10.0.0.1", "", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "fd00::1", False),
        ("0.0.0.0", "::", False),  # noqa: S104
        ("0.0.0.0", "", True),  # noqa: S104
    ],
)
def test_which_host_ports_clash(first: str, second: str, clash: bool) -> None:
    one = pod("one", ONE, HostPort(host_port=80, container_port=80, host_ip=first))
    two = pod("two", TWO, HostPort(host_port=80, container_port=80, host_ip=second))
    _, problems = HostPorts().fragments(NetworkState(node="here", pods=[one, two]))
    assert bool(problems) is clash
    assert {problem.name for problem in problems} <= {"two"}


@pytest.mark.parametrize(
    ("port", "words"),
    [
        (HostPort(host_port=0, container_port=80), "ports are 1 to 65535"),
        (HostPort(host_port=80, container_port=0), "ports are 1 to 65535"),
        (HostPort(host_port=70000, container_port=80), "ports are 1 to 65535"),
        (HostPort(host_port=80, container_port=80, host_ip="here"), "'here'"),
        (HostPort(host_port=80, container_port=80, host_ip="fe80::1%x"), "not an IP address"),
        (HostPort(host_port=80, container_port=80, host_ip="127.0.0.1"), "loopback"),
        (HostPort(host_port=80, container_port=80, protocol="SCTP"), "SCTP"),
    ],
)
def test_a_bad_host_port_is_reported_and_the_others_work(port: HostPort, words: str) -> None:
    good = HostPort(host_port=8080, container_port=80)
    fragments, problems = HostPorts().fragments(NetworkState(node="here", pods=[pod("bad", ONE, port, good)]))
    assert [(one.name, one.reason) for one in problems] == [("bad", "InvalidHostPort")]
    assert words in problems[0].message
    assert fragments["host-ports uid-bad"].elements["host_ports4"] == {"tcp . 8080": "10.42.0.2 . 80"}


def test_a_service_keeps_its_node_port() -> None:
    one = pod("one", ONE, HostPort(host_port=30080, container_port=80))
    ports = HostPorts()
    current = NetworkState(node="here", pods=[one])
    assert ports.fragments(current)[1] == []
    _, problems = ports.fragments(current, {("TCP", 30080)})
    assert [(one.name, one.message) for one in problems] == [
        ("one", "hostPort 30080/TCP: a Service has it as its nodePort")
    ]
    assert ports.fragments(current, {("UDP", 30080)})[1] == []


def test_pods_elsewhere_and_on_the_host_network_have_none() -> None:
    port = HostPort(host_port=8080, container_port=80)
    assert made(pod("far", ONE, port, node="far"), pod("host", TWO, port, host_network=True)) == {}


def test_udp_flows_of_a_pod_that_went_are_to_be_forgotten() -> None:
    port = HostPort(host_port=53, container_port=5353, protocol="UDP", host_ip="10.0.0.1")
    before = made(pod("dns", ONE, port))
    assert removed_udp_endpoints(before, {}) == [UdpRoute("10.0.0.1", 53, "10.42.0.2", 5353)]
