"""Requests to Services of every kind, from a pod, from the host and from the LAN, through the real kernel."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from edgeagent.api.network import NetworkService
from edgeagent.api.objects.service import ServicePort
from edgeagent_network.programs import run_program
from tests.plugins.network.servicemaking import backend, fragments, ruleset, service
from tests.support.netlab import Lab
from tests.support.netprobe import Outcome, Probe, Transport, has_sctp
from tests.support.nftscript import whole_table

POD1, POD2, POD3 = ("10.42.0.2", "fd42::2"), ("10.42.0.3", "fd42::3"), ("10.42.0.4", "fd42::4")
VIP, VIP6 = "10.43.0.1", "fd43::1"
NODE_PORT = 30080


class World:
    """Three pods that serve on a host, a LAN peer that knows the way to cluster IPs, and Services."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.one = lab.pod("one", *POD1)
        self.two = lab.pod("two", *POD2)
        self.three = lab.pod("three", *POD3)
        self.host = lab.host.name
        self.lan = lab.lan
        # The peer is also a backend elsewhere: it can answer only whom it has a route to.
        for place in (self.one, self.two, self.three, self.lan):
            lab.serve(place, 80)
            lab.serve(place, 80, protocol="UDP")
        for cidr, via in (("10.43.0.0/16", lab.host.ip4), ("fd43::/112", lab.host.ip6)):
            run_program(["ip", "-n", lab.lan, "route", "add", cidr, "via", via])

    def load(self, *services: NetworkService) -> None:
        """Put these Services in force, and nothing else."""
        pods = [ip for pod in (POD1, POD2, POD3) for ip in pod]
        self.lab.host.nft(whole_table(ruleset(fragments(*services), pods)))
        # UDP flows of tests before: a port may be used again.
        self.lab.host.run(["conntrack", "-F"])

    def ask(
        self, place: str, address: str, port: int = 80, protocol: Transport = "TCP", *, timeout: float = 2
    ) -> Outcome:
        """What comes of one request."""
        return self.lab.probe(place, address, port, protocol, timeout)

    def count(
        self, place: str, address: str, port: int = 80, *, times: int = 300, protocol: Transport = "TCP"
    ) -> Counter[str]:
        """Who answered how often; everything was answered."""
        outcomes = self.lab.probes([Probe(place, address, port, protocol)] * times, timeout=5)
        assert all(outcomes)
        return Counter(outcome.server for outcome in outcomes)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Lab() as lab:
        yield World(lab)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("family", [0, 1])
def test_a_cluster_ip_spreads_over_its_backends_from_everywhere(
    world: World, protocol: Transport, family: int
) -> None:
    vip = (VIP, VIP6)[family]
    backends = [backend(pod[family]) for pod in (POD1, POD2, POD3)]
    world.load(service("web", vip, backends, ports=[ServicePort(port=80, protocol=protocol)]))
    for place in (world.one, world.host, world.lan):
        answered = world.count(place, vip, protocol=protocol)
        assert set(answered) == {world.one, world.two, world.three}
        # Binomial with p = 1/3: 50 of 300 is more than six standard deviations away.
        assert min(answered.values()) > 50, (place, answered)


@pytest.mark.skipif(not has_sctp(), reason="this kernel has no SCTP")
def test_a_cluster_ip_of_sctp(world: World) -> None:
    port = ServicePort(port=80, protocol="SCTP", node_port=NODE_PORT)
    for place in (world.one, world.two, world.three):
        world.lab.serve(place, 80, protocol="SCTP")
    for family, (vip, node) in enumerate(((VIP, world.lab.host.ip4), (VIP6, world.lab.host.ip6))):
        backends = [backend(pod[family]) for pod in (POD1, POD2, POD3)]
        world.load(service("web", vip, backends, ports=[port], type="NodePort"))
        for place, address, number in (
            (world.one, vip, 80),
            (world.host, vip, 80),
            (world.lan, vip, 80),
            (world.lan, node, NODE_PORT),
        ):
            answered = world.count(place, address, number, times=60, protocol="SCTP")
            assert set(answered) == {world.one, world.two, world.three}, (place, address)


def test_a_pod_reaches_itself(world: World) -> None:
    for family, vip in enumerate((VIP, VIP6)):
        world.load(service("self", vip, [backend(POD1[family])]))
        answer = world.ask(world.one, vip)
        assert answer.server == world.one
        assert answer.seen != POD1[family]


def test_who_a_backend_sees(world: World) -> None:
    world.load(
        service("web", VIP, [backend(POD2[0])]), service("far", "10.43.0.2", [backend(world.lab.lan4)])
    )
    assert world.ask(world.one, VIP).seen == POD1[0]
    assert world.ask(world.host, VIP).seen == world.lab.host.ip4
    # A client outside of the cluster must get its answer back through this host.
    assert world.ask(world.lan, VIP).seen == world.lab.host.ip4
    # A backend elsewhere answers to this host, not to the address that the client has there.
    assert world.ask(world.host, "10.43.0.2").seen == world.lab.host.ip4


def test_several_ports_lead_to_several_backends(world: World) -> None:
    world.lab.serve(world.two, 8443)
    world.load(
        service(
            "web",
            [VIP, VIP6],
            {
                "http": [backend(POD1[0], 80), backend(POD1[1], 80)],
                "https": [backend(POD2[0], 8443), backend(POD2[1], 8443)],
                "dns": [backend(POD3[0], 80), backend(POD3[1], 80)],
            },
            ports=[
                ServicePort(name="http", port=80),
                ServicePort(name="https", port=443, target_port="tls"),
                ServicePort(name="dns", port=80, protocol="UDP"),
            ],
        )
    )
    for vip in (VIP, VIP6):
        assert world.ask(world.three, vip, 80).server == world.one
        assert world.ask(world.three, vip, 443).server == world.two
        assert world.ask(world.one, vip, 80, "UDP").server == world.three


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_what_has_no_endpoint_is_refused_at_once(world: World, protocol: Transport) -> None:
    port = ServicePort(port=80, protocol=protocol, node_port=NODE_PORT)
    world.load(
        service("none", [VIP, VIP6], type="NodePort", ports=[port]),
        service("sick", "10.43.0.9", [backend(POD1[0], ready=False)], ports=[port]),
    )
    begun = time.monotonic()
    for place in (world.one, world.host, world.lan):
        # Of ICMP errors, which UDP is refused by, the kernel sends an address only a few at once.
        for address in (VIP, VIP6, "10.43.0.9"):
            assert world.ask(place, address, 80, protocol, timeout=5).kind == "refused", (place, address)
    for place in (world.one, world.host, world.lan):
        for address in (world.lab.host.ip4, world.lab.host.ip6):
            assert world.ask(place, address, NODE_PORT, protocol, timeout=5).kind == "refused"
    assert protocol == "UDP" or time.monotonic() - begun < 2


@pytest.mark.parametrize("affinity", ["None", "ClientIP"])
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_node_port_is_open_on_the_host_for_everybody(
    world: World, protocol: Transport, affinity: str
) -> None:
    port = ServicePort(port=8080, protocol=protocol, node_port=NODE_PORT)
    backends = [backend(ip) for pod in (POD1, POD2) for ip in pod]
    world.load(
        service("web", [VIP, VIP6], backends, type="NodePort", ports=[port], session_affinity=affinity)
    )
    for address in (world.lab.host.ip4, world.lab.host.ip6):
        for place in (world.one, world.three, world.host, world.lan):
            answer = world.ask(place, address, NODE_PORT, protocol)
            assert answer.server in (world.one, world.two), (place, address)
            # Policy Cluster hides the client: a backend elsewhere could not answer it otherwise.
            assert answer.seen not in (world.lab.lan4, world.lab.lan6)
    for vip in (VIP, VIP6):
        assert world.ask(world.three, vip, 8080, protocol).server in (world.one, world.two)
    # The loopback is the host's own: nothing listens there, and nothing hangs.
    assert world.ask(world.host, "127.0.0.1", NODE_PORT, protocol).kind == "refused"
    # The cluster IP's own port is no port of the host.
    assert world.ask(world.lan, world.lab.host.ip4, 8080, protocol).kind == "refused"


def test_external_policy_local_keeps_the_client_address(world: World) -> None:
    port = ServicePort(port=80, node_port=NODE_PORT)
    remote = [backend(world.lab.lan4, node="lan"), backend(world.lab.lan6, node="lan")]
    local = [backend(POD1[0]), backend(POD1[1])]
    kept = service("web", [VIP, VIP6], [*local, *remote], type="NodePort", ports=[port],
                   external_traffic_policy="Local")  # fmt: skip
    world.load(kept)
    for address, client in ((world.lab.host.ip4, world.lab.lan4), (world.lab.host.ip6, world.lab.lan6)):
        outcomes = world.lab.probes([Probe(world.lan, address, NODE_PORT)] * 40, timeout=3)
        assert {(outcome.server, outcome.seen) for outcome in outcomes} == {(world.one, client)}
        # The host itself is inside and has all backends.
        assert set(world.count(world.host, address, NODE_PORT, times=60)) == {world.one, world.lan}
        # So are pods.
        assert set(world.count(world.two, address, NODE_PORT, times=60)) == {world.one, world.lan}


def test_external_policy_local_without_a_local_endpoint_drops(world: World) -> None:
    port = ServicePort(port=80, node_port=NODE_PORT)
    world.load(
        service("web", VIP, [backend(world.lab.lan4, node="lan")], type="NodePort", ports=[port],
                external_traffic_policy="Local")
    )  # fmt: skip
    assert world.ask(world.lan, world.lab.host.ip4, NODE_PORT, timeout=0.5).kind == "timeout"
    assert world.ask(world.host, world.lab.host.ip4, NODE_PORT).server == world.lan
    assert world.ask(world.host, VIP).server == world.lan


def test_internal_policy_local_stays_on_the_node(world: World) -> None:
    port = ServicePort(port=80, node_port=NODE_PORT)
    world.load(
        service("mixed", VIP, [backend(POD1[0]), backend(POD2[0], node="far")], type="NodePort",
                ports=[port], internal_traffic_policy="Local"),
        service("far", "10.43.0.2", [backend(POD2[0], node="far")], internal_traffic_policy="Local"),
    )  # fmt: skip
    assert world.count(world.three, VIP, times=40) == {world.one: 40}
    assert world.ask(world.three, "10.43.0.2", timeout=0.5).kind == "timeout"
    assert world.ask(world.host, "10.43.0.2", timeout=0.5).kind == "timeout"
    # The policy is the cluster IP's; the node port has another.
    assert set(world.count(world.lan, world.lab.host.ip4, NODE_PORT, times=60)) == {world.one, world.two}


def test_nearby_backends_are_preferred_where_there_are_any(world: World) -> None:
    near, far = backend(POD1[0]), backend(POD2[0], node="far")
    sick = backend(POD1[0], ready=False)
    for distribution in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        world.load(
            service("both", VIP, [near, far], traffic_distribution=distribution),
            service("far", "10.43.0.2", [far], traffic_distribution=distribution),
            service("sick", "10.43.0.3", [sick, far], traffic_distribution=distribution),
        )
        assert world.count(world.three, VIP, times=40) == {world.one: 40}
        assert world.count(world.three, "10.43.0.2", times=10) == {world.two: 10}
        assert world.count(world.three, "10.43.0.3", times=10) == {world.two: 10}


def test_ending_backends_serve_where_no_other_does(world: World) -> None:
    ending = {"ready": False, "serving": True, "terminating": True}
    world.load(
        service("last", VIP, [backend(POD1[0], **ending)]),
        service("other", "10.43.0.2", [backend(POD1[0], **ending), backend(POD2[0])]),
        service("published", "10.43.0.3", [backend(POD1[0], ready=False, serving=False)],
                publish_not_ready_addresses=True),
    )  # fmt: skip
    assert world.ask(world.three, VIP).server == world.one
    assert world.count(world.three, "10.43.0.2", times=40) == {world.two: 40}
    assert world.ask(world.three, "10.43.0.3").server == world.one


def test_headless_and_external_names_bring_nothing(world: World) -> None:
    made = fragments(
        service("headless", "None", [backend(POD1[0])]),
        service("elsewhere", [], [backend(POD1[0])], type="ExternalName", external_name="example.org"),
    )
    del made["services"]
    assert all(not fragment.chains and not fragment.elements for fragment in made.values())


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_many_backends(world: World, protocol: Transport) -> None:
    ports = [*range(2000, 2040)]
    world.lab.serve(world.one, *ports, protocol=protocol)
    for number in (32, 33):
        for family, vip in enumerate((VIP, VIP6)):
            backends = [backend(POD1[family], port) for port in ports[:number]]
            world.load(service("many", vip, backends, ports=[ServicePort(port=80, protocol=protocol)]))
            assert world.count(world.three, vip, protocol=protocol) == {world.one: 300}


def test_new_connections_are_counted(world: World) -> None:
    port = ServicePort(port=80, node_port=NODE_PORT)
    world.load(
        service("web", [VIP, VIP6], [backend(POD1[0]), backend(POD1[1])], type="NodePort", ports=[port])
    )
    world.count(world.three, VIP, times=7)
    world.count(world.three, VIP6, times=5)
    world.count(world.lan, world.lab.host.ip4, NODE_PORT, times=3)

    def hits(collection: str) -> list[int]:
        listed = world.lab.host.json("nft", "-j", "list", "set", "inet", "edgeagent", collection)
        elements = next(one["set"]["elem"] for one in listed["nftables"] if "set" in one)
        return [element["elem"]["counter"]["packets"] for element in elements]

    assert (hits("service_hits4"), hits("service_hits6"), hits("node_port_hits")) == ([7], [5], [3])
