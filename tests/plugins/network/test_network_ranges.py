"""Ranges, flows and what is missing: the network as a whole where something is not as it should be."""

import socket
from collections.abc import Sequence

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.network import Backend, HostPort, NetworkPod, NetworkService, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec
from edgeagent.api.objects.service import Service, ServicePort, ServiceSpec
from edgeagent_network.ruleset import TABLE
from tests.plugins.network.netkit import Node, state_of
from tests.plugins.network.netpods import link_of, serve, spaces, talks
from tests.support.netlab import Lab
from tests.support.netprobe import socket_of
from tests.support.waiting import wait_for


def own(cidrs: list[str], overlay: str = "none") -> NetworkState:
    spec = NodeNetworkSpec(pod_cidrs=cidrs, overlay=overlay)  # type: ignore[arg-type]
    nodes = [NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name="a"), spec=spec)]
    return NetworkState(node="a", nodes=nodes)


def test_the_hubs_range_is_used_and_remembered_and_pods_keep_theirs(lab: Lab, node: Node) -> None:
    assert node.attach("one").ips == ["10.42.0.2", "fd42::2"]
    assert node.network.reconcile(own(["10.50.0.0/24"])).problems == []
    node.start()
    assert node.attach("two").ips == ["10.50.0.2"]
    assert node.attach("one").ips == ["10.42.0.2", "fd42::2"]
    node.network.reconcile(own(["10.50.0.0/24"]))
    serve(node, "two")
    talks(node, (node.space("one"), "10.50.0.2", node.space("two"), "10.42.0.2"))
    node.detach("one")
    node.network.reconcile(own(["10.50.0.0/24"]))
    assert "10.42.0" not in str(node.seen())


def test_the_hubs_service_ranges_are_the_clusters(lab: Lab, node: Node) -> None:
    def ranges(service_cidrs: list[str]) -> str:
        spec = NodeNetworkSpec(pod_cidrs=node.cidrs, service_cidrs=service_cidrs, overlay="none")
        nodes = [NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name="a"), spec=spec)]
        assert node.network.reconcile(NetworkState(node="a", nodes=nodes)).problems == []
        return lab.host.run(["nft", "list", "set", "inet", TABLE, "cluster4"])

    assert "10.96.0.0/12" in (given := ranges(["10.96.0.0/12"]))
    assert "10.43" not in given
    assert "10.43.0.0/16" in ranges([])


def test_an_impossible_range_is_reported_and_the_one_before_stays(node: Node) -> None:
    node.attach("one")
    (problem,) = node.network.reconcile(own(["10.50.0.1/24"])).problems
    assert (problem.kind, problem.name, problem.reason) == ("NodeNetwork", "a", "InvalidPodCIDR")
    assert "10.50.0.1/24" in problem.message
    assert node.attach("two").ips == ["10.42.0.3", "fd42::3"]


def test_a_pod_range_on_the_hosts_own_network_keeps_pods_waiting(lab: Lab, node: Node) -> None:
    node.cidrs = ["192.168.0.0/16"]
    node.start()
    with pytest.raises(TemporaryError, match=r"192\.168\.0\.0/16 overlaps 192\.168\.77\.0/24.* uplink"):
        node.attach("one")
    (problem,) = node.network.reconcile(state_of()).problems
    assert (problem.kind, problem.reason) == ("NodeNetwork", "PodCIDRConflict")
    with pytest.raises(TemporaryError) as caught:
        node.attach("one")
    assert caught.value.reason == "PodCIDRConflict"
    assert spaces(node) == []
    assert node.network.reconcile(own(["10.50.0.0/24"])).problems == []
    assert node.attach("one").ips == ["10.50.0.2"]


def test_a_network_that_the_host_joins_later_is_noticed_and_so_is_that_it_left(lab: Lab, node: Node) -> None:
    node.attach("one")
    assert node.network.reconcile(state_of("one")).problems == []
    lab.host.ip("link add late type bridge", "link set late up", "route add 10.42.0.64/26 dev late")
    found = []
    for _ in range(2):
        node.now += 400
        node.network.reconcile(state_of("one"))
        found.append([one.reason for one in node.network.reconcile(state_of("one")).problems])
        if len(found) == 1:
            assert node.attach("one").ips[0] == "10.42.0.2", "who lives goes on living"
            with pytest.raises(TemporaryError, match=r"10\.42\.0\.0/24 overlaps 10\.42\.0\.64/26"):
                node.attach("two")
            lab.host.ip("link del late")
    assert found == [["PodCIDRConflict"], []]
    assert node.attach("two").ips[0] == "10.42.0.3"


def test_ranges_of_services_and_peers_on_the_hosts_network_are_reported(lab: Lab, node: Node) -> None:
    def described(name: str, cidr: str, address: str) -> NodeNetwork:
        spec = NodeNetworkSpec(
            pod_cidrs=[cidr], service_cidrs=["192.168.77.128/25"], address=address, overlay="vxlan"
        )
        return NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name=name), spec=spec)

    nodes = [
        described("a", "10.42.0.0/24", lab.host.ip4),
        described("b", "192.168.77.0/26", "192.0.2.7"),
        described("c", "10.42.3.0/24", lab.lan4),
    ]
    found = node.network.reconcile(NetworkState(node="a", nodes=nodes)).problems
    assert [(one.name, one.reason) for one in found] == [
        ("a", "ServiceCIDRConflict"),
        ("b", "PodCIDRConflict"),
    ]
    assert [row["node"] for row in node.network.show("peers")] == ["c"]


def test_links_carry_what_the_overlay_leaves(lab: Lab, node: Node) -> None:
    node.attach("one")
    node.network.reconcile(own(node.cidrs, "vxlan"))
    node.attach("two")
    for uid in ("one", "two"):
        (link,) = lab.host.json("ip", "-j", "-n", node.space(uid), "link", "show", "dev", "eth0")
        assert link["mtu"] == 1450
    node.network.reconcile(own(node.cidrs, "none"))
    (link,) = lab.host.json("ip", "-j", "link", "show", "dev", link_of(node, "one"))
    assert link["mtu"] == 1500


def test_no_pod_teaches_the_host_a_router(lab: Lab, node: Node) -> None:
    lab.host.run(["sysctl", "-q", "-w", "net.ipv6.conf.uplink.accept_ra=1"])
    node.attach("one")
    assert lab.host.run(["sysctl", "-n", f"net.ipv6.conf.{link_of(node, 'one')}.accept_ra"]).strip() == "0"
    # The uplink still listens to its router, though the host forwards now.
    assert lab.host.run(["sysctl", "-n", "net.ipv6.conf.uplink.accept_ra"]).strip() == "2"
    assert lab.host.run(["sysctl", "-n", "net.ipv6.conf.all.forwarding"]).strip() == "1"


@pytest.mark.parametrize("missing", ["ip", "nft", "sysctl"])
def test_a_program_that_is_missing_is_named(node: Node, missing: str) -> None:
    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == missing:
            raise PermanentError(f"{missing} is not installed", reason="ProgramMissing")
        return node.host.run(argv, stdin, check=check)

    node.start(run)
    with pytest.raises(PermanentError, match=f"{missing} is not installed"):
        node.network.reconcile(state_of())


def test_a_kernel_without_veth_is_named(node: Node) -> None:
    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if "type veth" in stdin:
            raise TemporaryError("ip -batch -: Error: Unknown device type.", reason="NetworkFailed")
        return node.host.run(argv, stdin, check=check)

    node.start(run)
    with pytest.raises(PermanentError, match="veth") as caught:
        node.attach("one")
    assert caught.value.reason == "KernelFeatureMissing"


def udp_service(*backends: str) -> NetworkState:
    service = Service(
        api_version="v1",
        metadata=ObjectMeta(name="dns", namespace="default"),
        spec=ServiceSpec(
            cluster_ip="10.43.0.53", cluster_ips=["10.43.0.53"], ports=[ServicePort(port=53, protocol="UDP")]
        ),
    )
    ends = {"": [Backend(ip=ip, port=53) for ip in backends]}
    return NetworkState(node="a", services=[NetworkService(service=service, backends=ends)])


def test_a_udp_client_that_goes_on_asking_reaches_the_endpoint_that_is_there(lab: Lab, node: Node) -> None:
    for uid in ("client", "one", "two"):
        node.attach(uid)
    serve(node, "one", "two")
    client = lab.inside(node.space("client"), lambda: socket_of(socket.AF_INET, "UDP"))
    client.connect(("10.43.0.53", 53))
    client.setblocking(True)
    client.settimeout(1)

    def ask() -> str:
        try:
            client.send(b"?")
            return client.recv(200).split()[0].decode()
        except OSError:
            return ""

    node.network.reconcile(udp_service())
    assert ask() == ""
    node.network.reconcile(udp_service("10.42.0.3"))
    assert wait_for(ask, 5, "the first endpoint") == node.space("one")
    node.network.reconcile(udp_service("10.42.0.4"))
    assert wait_for(ask, 5, "the second endpoint") == node.space("two")
    client.close()


def test_flows_of_host_ports_are_forgotten_too_and_all_by_one_process(node: Node) -> None:
    forgotten: list[str] = []

    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == "conntrack":
            forgotten.append(stdin)
        return node.host.run(argv, stdin, check=check)

    network = node.start(run)
    ip = node.attach("one").ips[0]
    place = HostPort(host_port=5353, container_port=53, protocol="UDP")
    pod = NetworkPod(uid="one", namespace="default", name="one", ips=[ip], host_ports=[place])
    network.reconcile(msgspec.structs.replace(udp_service(ip, "10.42.0.9"), pods=[pod]))
    assert forgotten == []
    network.reconcile(udp_service())
    (said,) = forgotten
    assert f"--orig-port-dst 5353 --reply-src {ip}" in said
    assert said.count("--orig-dst 10.43.0.53") == 2


def test_conntrack_that_is_missing_is_a_problem_and_no_failure(node: Node) -> None:
    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == "conntrack":
            raise PermanentError("conntrack is not installed", reason="ProgramMissing")
        return node.host.run(argv, stdin, check=check)

    network = node.start(run)
    assert network.reconcile(udp_service("10.42.0.3")).problems == []
    (problem,) = network.reconcile(udp_service("10.42.0.4")).problems
    assert (problem.kind, problem.reason) == ("NodeNetwork", "ProgramMissing")
