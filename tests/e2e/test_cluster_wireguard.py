"""The encrypted overlay of a whole cluster: two real agents on one LAN, and somebody who listens and lies.

Whoever has the LAN reads nothing of what pods say to each other, and neither a node nor whoever owns the
broker puts a key in the place of another node's (``SECURITY.md``).
"""

import base64
import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec
from edgeagent.api.objects.node import NodeAddress, NodeStatus
from edgeagent.wire.blob import decode_blob
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope
from edgeagent.wire.index import MAX_INDEX_BYTES, IndexEntry, check_object, decode_index
from edgeagent.wire.networkkey import NetworkKey, check_network_key, encode_network_key
from tests.support.cluster import CLUSTER, AgentProcess
from tests.support.netcluster import NetCluster, ask, server, service, until
from tests.support.podman import PodmanService
from tests.support.sniffer import Packet, Sniffer, packets
from tests.support.wireguardlab import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]

SECRET = "pods-alone-may-read-this"
PORT = 51820
DATA = 4
"""The type of WireGuard's messages that carry packets; 1 to 3 are handshakes."""
PODS = ("web-a", "web-b")
OF_PODS = [ip_network(text) for text in ("10.42.0.0/16", "10.43.0.0/16", "fd42::/48", "fd43::/112")]


@pytest.fixture(scope="module")
def net(podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetCluster]:
    """Nodes ``a`` and ``b``, and on each a pod with a file of its own and a Service."""
    podman_service.start()
    with PodmanService() as other:
        other.import_busybox()
        podmans = {"a": podman_service, "b": other}
        try:
            with NetCluster(tmp_path_factory.mktemp("wg"), podmans, overlay="wireguard") as made:
                services = [service(pod, {"app": pod}, {"port": 80, "targetPort": "http"}) for pod in PODS]
                pods = [server(pod, pod[-1], app=pod) for pod in PODS]
                with made.applied(*services, *pods):
                    for pod in PODS:
                        made.exec(pod, "sh", "-c", f"yes '{SECRET} of {pod}' | head -n 1000 > /www/file")
                    yield made
                until(lambda: not made.spaces(), "the pods' namespaces to be gone")
        finally:
            podman_service.kill_all_containers()


def content(pod: str) -> str:
    """The file of a pod: more than one packet of it."""
    return "\n".join([f"{SECRET} of {pod}"] * 1000)


def resolved(net: NetCluster, pod: str, name: str) -> list[str]:
    """The addresses that a name has for a pod's own program."""
    found = net.exec(pod, "nslookup", name, check=False)
    return re.findall(rf"^Name:\s+{name}\S*\nAddress: (\S+)$", found, re.MULTILINE)


def talk(net: NetCluster) -> None:
    """Each pod fetches the other's file, at its own addresses and at those that its Service's name has."""
    for pod, other in (PODS, PODS[::-1]):
        namespace, ips = net.namespace(pod), net.service_ips(other)
        for name in (other, f"{other}.default.svc.cluster.local"):
            until(
                lambda name=name, pod=pod, ips=ips: resolved(net, pod, name) == ips,  # type: ignore[misc]
                f"pod {pod} to find {name}",
            )
        expected = Counter([content(other)])
        for host, port in (*((ip, 8080) for ip in net.ips(other)), *((ip, 80) for ip in ips)):
            until(
                lambda space=namespace, host=host, port=port, expected=expected: (  # type: ignore[misc]
                    ask(space, host, port, path=f"file?{SECRET}") == expected
                ),
                f"pod {pod} to reach {other} at {host}",
            )


def keys_of(net: NetCluster, node: str) -> dict[str, tuple[str, str]]:
    """The peers of a node's device: ranges and endpoint by key."""
    shown = net.wireguard[node].run(["wg", "show", "edge-wg", "dump"]).splitlines()[1:]
    return {key: (ranges, endpoint) for key, _, endpoint, ranges, *_ in (line.split("\t") for line in shown)}


def own_key(net: NetCluster, node: str) -> str:
    """The public key of a node's device."""
    return net.wireguard[node].run(["wg", "show", "edge-wg", "public-key"]).strip()


def tls_key(node: AgentProcess) -> PrivateKey:
    """The key of a node's certificate."""
    return PrivateKey((node.identity / "node.key").read_bytes())


def reported(net: NetCluster, node: str) -> NodeStatus:
    """What the broker holds of a node's status."""
    return decode_json(net.cluster.retained(f"nodes/{node}/status"), NodeStatus)


def between_nodes(net: NetCluster, heard: list[Packet]) -> list[Packet]:
    """Those from one node to the other."""
    hosts = {ip_address(ip) for host in net.hosts.values() for ip in (host.ip4, host.ip6)}
    return [one for one in heard if one.source in hosts and one.target in hosts]


def test_pods_of_two_nodes_talk_and_the_lan_hears_nothing_of_it(net: NetCluster) -> None:
    with Sniffer(net.lab.lan, "lan0") as sniffer:
        talk(net)
        frames = sniffer.frames()
        heard = packets(frames)
        assert not [one for one in heard for ends in OF_PODS if one.source in ends or one.target in ends]
        assert not [frame for frame in frames if SECRET.encode() in frame]
        between = between_nodes(net, heard)
        for one in between:
            assert (one.protocol, one.ports) == (socket.IPPROTO_UDP, (PORT, PORT)), one
            assert one.payload[0] in range(1, DATA + 1), one
            assert one.payload[1:4] == bytes(3), one
        for node in ("a", "b"):
            source = ip_address(net.hosts[node].ip4)
            assert len([one for one in between if one.source == source and one.payload[0] == DATA]) > 20

        # What is not encrypted is heard: whoever listens does so where the nodes' packets are.
        def say() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                made.sendto(SECRET.encode(), (net.hosts["b"].ip4, 9))

        net.lab.inside(net.hosts["a"].name, say)
        plain = [one for one in packets(sniffer.frames()) if one.payload == SECRET.encode()]
        ends = [ip_address(net.hosts[node].ip4) for node in ("a", "b")]
        assert [[one.source, one.target] for one in plain] == [ends]


def test_each_nodes_key_is_signed_by_its_tls_key_and_told_to_the_other(net: NetCluster) -> None:
    talk(net)
    for node, other, number in (("a", "b", 1), ("b", "a", 0)):
        key, status = own_key(net, node), reported(net, node)
        assert status.public_key == key
        said = NetworkKey(cluster=CLUSTER, node=node, public_key=key)
        check_network_key(status.public_key_proof, said, [tls_key(net.node(node)).public])
        with pytest.raises(EdgeAgentError, match="not signed with the TLS key"):
            check_network_key(status.public_key_proof, said, [tls_key(net.node(other)).public])
        assert told(net, node, of=other).public_key == own_key(net, other)
        ranges = f"10.42.{number}.0/24,fd42:0:0:{number}::/64".replace(":0:0:0::", "::")
        assert keys_of(net, node) == {own_key(net, other): (ranges, f"{net.hosts[other].ip4}:{PORT}")}
        (row,) = net.told(node, "peers")
        assert [row[name] for name in ("node", "overlay", "address")] == [
            other,
            "wireguard",
            net.hosts[other].ip4,
        ]
        assert row["handshake"].endswith("s")
        assert min(int(row["rx"]), int(row["tx"])) > 1000


def entry(net: NetCluster, node: str, of: str) -> IndexEntry:
    """What the index of ``node`` names as the NodeNetwork of another."""
    body = decode_blob(net.cluster.retained(f"nodes/{node}/desired"), MAX_INDEX_BYTES)
    assert isinstance(body, bytes)
    index = decode_index(decode_envelope(body, INDEX_TYPE).payload, cluster=CLUSTER, node=node)
    (found,) = [one for one in index.objects if (one.kind, one.name) == ("NodeNetwork", of)]
    return found


def told(net: NetCluster, node: str, *, of: str) -> NodeNetworkSpec:
    """What ``node`` is told of another."""
    named = entry(net, node, of)
    body = decode_blob(net.cluster.retained(f"objects/{named.digest}"), named.size)
    assert isinstance(body, bytes)
    found = check_object(named, body)
    assert isinstance(found, NodeNetwork)
    return found.spec


def lie(
    net: NetCluster, node: str, address: str, key: str, proof: bytes, *, certificate: str
) -> NodeNetworkSpec:
    """What node ``a`` is told of ``node`` once the hub has heard this as its status.

    It must be at another address than before, so that there is something new to tell. ``certificate``: whose
    it is published with, empty for the hub's.
    """
    before = entry(net, "a", node).digest
    said = [NodeAddress(type="InternalIP", address=address)]
    status = NodeStatus(addresses=said, public_key=key, public_key_proof=proof)
    net.cluster.publish(f"nodes/{node}/status", canonical_json(status), node=certificate)
    until(lambda: entry(net, "a", node).digest != before, "the hub to tell of it")
    spec = told(net, "a", of=node)
    assert spec.address == address
    return spec


class Liar:
    """A member that says what it likes of itself, with its own certificate."""

    def __init__(self, net: NetCluster, name: str) -> None:
        self._net = net
        self._addresses = iter(range(100, 200))
        self.name = name
        self.tls = tls_key(net.node(name))

    def proof(self, key: str, *, node: str = "") -> bytes:
        """What it signs, of itself or of another node."""
        said = NetworkKey(cluster=CLUSTER, node=node or self.name, public_key=key)
        return encode_network_key(said, self.tls)

    def says(self, key: str, proof: bytes) -> str:
        """The key that others are told once it has said this, empty for none."""
        address = f"192.168.77.{next(self._addresses)}"
        return lie(self._net, self.name, address, key, proof, certificate=self.name).public_key


@pytest.fixture
def liar(net: NetCluster) -> Iterator[Liar]:
    """The member ``c``, of which no agent runs."""
    net.cluster.add_node("c", podman=net.podmans["a"])
    until(lambda: net.cluster.get("nodenetwork", "c"), "the hub to give it a place")
    yield Liar(net, "c")
    net.cluster.edgehub("node", "remove", "c")
    until(lambda: keys_of(net, "a").keys() == {own_key(net, "b")}, "node a to have it for a peer no more")


def new_key() -> str:
    """A public key in base64."""
    return base64.b64encode(os.urandom(32)).decode()


def test_a_node_that_says_it_has_anothers_key_or_an_unsigned_one_is_no_peer(
    net: NetCluster, liar: Liar
) -> None:
    theirs, forged = own_key(net, "b"), new_key()
    others = reported(net, "b").public_key_proof
    for key, proof in (
        (theirs, others),  # signed by the one who has it
        (theirs, liar.proof(theirs)),  # signed well, and it has it already
        (theirs, liar.proof(theirs, node="b")),
        (theirs, b""),
        (forged, b""),
        (forged, others),
        (forged, liar.proof(theirs)),
        (forged, liar.proof(forged, node="b")),
        (forged, b"junk"),
    ):
        assert liar.says(key, proof) == ""
        assert keys_of(net, "a").keys() == {theirs}
    assert told(net, "a", of="b").public_key == theirs
    talk(net)
    # Its own, and signed: that is all it takes.
    assert liar.says(forged, liar.proof(forged)) == forged
    until(lambda: keys_of(net, "a").keys() == {theirs, forged}, "node a to have it for a peer")


def test_a_forged_key_in_the_name_of_a_node_that_runs_is_not_told(net: NetCluster) -> None:
    theirs = own_key(net, "b")
    proof, host = reported(net, "b").public_key_proof, net.hosts["b"]
    agent = net.node("b").process
    agent.freeze()  # lest it say at once what is true
    try:
        # With the node's own certificate, but without its key; then as whoever owns the broker.
        for address, key, whose in (
            (host.ip6, new_key(), "b"),
            (host.ip4, own_key(net, "a"), "b"),
            (host.ip6, new_key(), ""),
        ):
            assert lie(net, "b", address, key, proof, certificate=whose).public_key == theirs
            assert keys_of(net, "a").keys() == {theirs}
        assert lie(net, "b", host.ip4, theirs, b"", certificate="").public_key == theirs
    finally:
        agent.thaw()
    until(lambda: reported(net, "b").public_key_proof == proof, "the node to speak for itself again")
    talk(net)
