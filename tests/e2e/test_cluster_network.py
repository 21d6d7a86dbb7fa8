"""The pod network of a whole cluster: a hub, a broker, two real agents on one LAN, and real pods on both.

https://kubernetes.io/docs/concepts/services-networking/
"""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from tests.support.iperf import PORT, UdpStream
from tests.support.netcluster import WAIT_SECONDS, NetCluster, ask, client, names, server, service, until
from tests.support.netprobe import in_namespace_thread
from tests.support.podman import PodmanService
from tests.support.proc import Process
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

WEB = {"app": "web"}
FRIEND = {"role": "friend"}
NAME = "web.default.svc.cluster.local"
ENOUGH = 30
"""Requests of which each backend of two gets one, but for one time in five hundred million."""
MANY = 200
ECHO = 7007


@dataclass(frozen=True)
class Client:
    """A pod from which the Service ``web`` is asked. ``namespace``: its own of the network."""

    namespace: str
    addresses: list[str]

    def served(self, times: int = ENOUGH) -> set[str]:
        """The pods that answer requests to the Service, "" where one is not answered."""
        return names(ask(self.namespace, self.addresses[0], 80, times=times))

    def reaches(self, name: str, address: str) -> bool:
        """Whether that pod answers at its own address."""
        return names(ask(self.namespace, address)) == {name}


@pytest.fixture(scope="module")
def net(podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetCluster]:
    """Nodes ``a`` and ``b``; pods ``web-a`` and ``web-b`` of the Service ``web``, and ``asker`` on ``a``."""
    podman_service.start()
    with PodmanService() as other:
        other.import_busybox()
        podmans = {"a": podman_service, "b": other}
        try:
            with NetCluster(tmp_path_factory.mktemp("network"), podmans) as made:
                pods = [client("asker", "a"), server("web-a", "a", **WEB), server("web-b", "b", **WEB)]
                with made.applied(service("web", WEB, {"port": 80, "targetPort": "http"}), *pods):
                    yield made
                until(lambda: not made.spaces(), "the pods' namespaces to be gone")
        finally:
            podman_service.kill_all_containers()


@pytest.fixture
def asker(net: NetCluster) -> Client:
    """Of the pod ``asker``. Each test begins with both pods of the Service at work."""
    found = Client(net.namespace("asker"), net.service_ips("web"))
    until(lambda: found.served() == {"web-a", "web-b"}, "both pods of the Service to answer")
    return found


def test_pods_of_two_nodes_reach_each_other_by_their_own_addresses(net: NetCluster, asker: Client) -> None:
    for name, pods in (("a", ["10.42.0.0/24", "fd42::/64"]), ("b", ["10.42.1.0/24", "fd42:0:0:1::/64"])):
        until(partial(net.settled, name), "the node's network")
        spec = net.cluster.get("nodenetwork", name)["spec"]
        assert (spec["podCidrs"], spec["address"]) == (pods, net.hosts[name].ip4)
    assert "vxlan" in net.cluster.ctl("get", "nodenetworks").stdout
    for source, target in (("asker", "web-b"), ("web-b", "web-a")):
        for own, other in zip(net.ips(source), net.ips(target), strict=True):
            (answer,) = ask(net.namespace(source), other)
            assert re.fullmatch(rf"{target} \[(::ffff:)?{re.escape(own)}\]", answer)


def test_a_service_has_backends_on_both_nodes_by_address_and_by_name(net: NetCluster, asker: Client) -> None:
    for name in (NAME, "web"):  # the short one by the domains of the pod's resolv.conf
        told = net.exec("asker", "nslookup", name, check=False)
        found = re.findall(rf"^Name:\s+{re.escape(NAME)}\nAddress: (\S+)$", told, re.MULTILINE)
        assert found == asker.addresses, told
    for address in asker.addresses:
        assert names(ask(asker.namespace, address, 80, times=ENOUGH)) == {"web-a", "web-b"}
    assert "NXDOMAIN" in net.exec("asker", "nslookup", f"no-{NAME}", check=False)


def test_a_policy_by_label_counts_for_pods_of_the_other_node(net: NetCluster, asker: Client) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends", "namespace": "default"},
        "spec": {
            "podSelector": {"matchLabels": WEB},
            "ingress": [{"from": [{"podSelector": {"matchLabels": FRIEND}}], "ports": [{"port": "http"}]}],
        },
    }
    with net.applied(client("friend", "b", **FRIEND), client("stranger", "b")):
        friend, stranger = (Client(net.namespace(pod), asker.addresses) for pod in ("friend", "stranger"))
        one, two = net.ips("web-a")[0], net.ips("web-b")[0]
        assert friend.reaches("web-a", one)
        assert stranger.reaches("web-a", one)
        with net.applied(policy):
            until(lambda: not stranger.reaches("web-a", one), "node a to have the policy in force")
            until(lambda: not asker.reaches("web-b", two), "node b to have the policy in force")
            assert friend.served() == {"web-a", "web-b"}
            assert stranger.served() == {""}

            (row,) = net.told("a", "policies")
            assert (row["name"], row["directions"], row["pods"]) == ("friends", "ingress", "web-a")
            assert int(row["drops"]) > 0
            lines = net.told("a", "trace", "default/friend", "default/web-a:8080")
            assert any("pod default/friend" in line and "on node b" in line for line in lines)
            assert any("allows it by spec.ingress[0]" in line for line in lines)
            assert lines[-1] == "allowed"
            assert net.told("a", "trace", "default/stranger", "default/web-a:8080")[-1].startswith("dropped")
            (drop,) = [one for one in net.told("b", "drops") if one["source"] == "default/asker"]
            assert (drop["target"], drop["port"]) == ("default/web-b", "8080/TCP")
        until(lambda: stranger.served() == {"web-a", "web-b"}, "the policy to be gone")


def test_an_operator_is_shown_what_is_in_force_on_a_node(net: NetCluster, asker: Client) -> None:
    def shown(*words: str) -> list[list[str]]:
        """The words of each line of the table."""
        lines = net.cluster.ctl("network", *words).stdout.splitlines()
        return [line.split() for line in lines]

    four, six = asker.addresses
    (row,) = net.told("a", "services")
    assert int(row.pop("hits")) >= ENOUGH
    assert row == {
        "namespace": "default",
        "name": "web",
        "type": "ClusterIP",
        "cluster-ip": f"{four},{six}",
        "ports": "80/TCP",
        "endpoints": "2/2",
    }
    heading, line = shown("a")  # services, where nothing is said
    assert heading == ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "PORTS", "ENDPOINTS", "HITS"]
    assert line[:-1] == ["default", "web", "ClusterIP", f"{four},{six}", "80/TCP", "2/2"]

    (peer,) = net.told("b", "peers")
    expected = ["a", "10.42.0.0/24,fd42::/64", "vxlan", net.hosts["a"].ip4]
    assert [peer[name] for name in ("node", "cidrs", "overlay", "address")] == expected
    assert int(peer["rx"]) > 0
    heading, line = shown("b", "peers")
    assert (heading[:4], line[:4]) == (["NODE", "CIDRS", "OVERLAY", "ADDRESS"], expected)
    assert net.told("a", "policies") == []

    traced = net.cluster.ctl("network", "a", "trace", "default/asker", "default/web:80").stdout.splitlines()
    assert traced == net.told("a", "trace", "default/asker", "default/web:80")
    own, other = (net.ips(name)[0] for name in ("web-a", "web-b"))
    assert f"Service default/web maps {four} port 80/TCP to one of 2: {own}:8080, {other}:8080" in traced
    assert any("it leaves by edge-vxlan" in line for line in traced)
    assert traced[-1] == "allowed"
    refused = net.cluster.ctl("network", "a", "trace", "default/nobody", "default/web:80", check=False)
    assert refused.returncode == 1
    assert "knows no pod default/nobody" in refused.stderr


def test_a_local_pod_leaves_the_service_though_the_broker_is_away(net: NetCluster, asker: Client) -> None:
    node = net.node("a")
    net.cluster.broker.terminate()
    try:
        until(lambda: node.condition("Connected").get("status") == "False", "the node to miss the broker")
        net.exec("web-a", "rm", "/ready")
        until(lambda: asker.served() == {"web-b"}, "the pod to leave the Service")
        assert asker.served(MANY) == {"web-b"}
        net.exec("web-a", "touch", "/ready")
        until(lambda: asker.served() == {"web-a", "web-b"}, "the pod to be back")
        assert node.condition("Connected")["status"] == "False"
    finally:
        net.cluster.start_broker()
    until(lambda: net.settled("a") and net.settled("b"), "both nodes to be connected")
    until(lambda: net.online("a") and net.online("b"), "the hub to know it")


@contextmanager
def echoed(namespace: str, address: str) -> Iterator[Callable[[], None]]:
    """A connection; what it yields says something and waits for the echo."""

    def connect() -> socket.socket:
        return socket.create_connection((address, ECHO), timeout=WAIT_SECONDS)

    with in_namespace_thread(namespace, connect) as connection, connection.makefile("rb") as answers:
        answers.readline()  # the server's greeting

        def say() -> None:
            connection.sendall(b"still there?\n")
            assert answers.readline() == b"still there?\n"

        yield say


def test_restarts_of_agents_lose_no_packet_and_no_connection(
    net: NetCluster, asker: Client, tmp_path: Path
) -> None:
    ports = [("control", PORT, "TCP"), ("data", PORT, "UDP"), ("echo", ECHO, "TCP")]
    listed = [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in ports]
    stream = service("stream", {"app": "sink"}, *listed)
    with net.applied(stream, client("sink", "b", app="sink")):
        sink, (address, _) = net.namespace("sink"), net.service_ips("stream")
        net.lab.servers.serve(sink, ECHO)
        until(lambda: net.lab.probe(asker.namespace, address, ECHO), "the Service to lead to the pod")
        with (
            echoed(asker.namespace, address) as say,
            UdpStream(tmp_path, asker.namespace, sink, address) as run,
        ):
            for end, name in product((Process.terminate, Process.kill), ("a", "b")):
                end(net.node(name).process)
                run.wait_moved()
                say()
                net.node(name).start()
                until(partial(net.settled, name), "the agent to have looked at the network")
                run.wait_moved()
                say()
        assert run.received["lost_packets"] == 0
        # What was on its way when it was ended does not count.
        assert run.sent["packets"] - run.received["packets"] < 10
        assert run.received["packets"] > 4000


def test_a_firewall_that_costs_the_broker_is_taken_back_though_no_connection_ends(net: NetCluster) -> None:
    """The packets of an idle session are lost for minutes before keep-alive tells so."""
    wall = {
        "apiVersion": "edgeagent/v1",
        "kind": "HostFirewall",
        "metadata": {"name": "narrow"},
        "spec": {"nodeNames": ["b"], "confirmSeconds": 15, "allow": [{"name": "ssh", "ports": [22]}]},
    }
    net.cluster.apply(wall)
    try:
        until(lambda: firewall_of(net, "b").startswith("on trial"), "the firewall to be on trial")
        net.plug("b", in_=False)
        until(lambda: "RolledBack" in firewall_of(net, "b"), "the firewall to be taken back")
        assert net.node("b").condition("Connected")["status"] == "True", "nothing has told the agent yet"
    finally:
        net.plug("b", in_=True)
        net.cluster.ctl("delete", "hostfirewall", "narrow")
    until(lambda: not firewall_of(net, "b"), "the node to follow the hub again")


def firewall_of(net: NetCluster, name: str) -> str:
    """State and note of the node's own firewall."""
    rows = json.loads(net.node(name).run("network", "firewall", "-o", "json").stdout)
    return " ".join((rows[0]["state"], rows[0]["note"])) if rows else ""


@pytest.mark.slow  # the hub waits for forty seconds before it holds a node for gone
def test_a_dead_node_leaves_the_service(net: NetCluster, asker: Client) -> None:
    node = net.node("b")
    podman, container = net.container("web-b")
    node.process.kill()
    try:
        podman.run("kill", container)
        until(lambda: not net.online("b"), "the hub to be told by the broker")
        net.plug("b", in_=False)
        wait_for(
            lambda: net.told("a", "services")[0]["endpoints"] == "1/2",
            40 + WAIT_SECONDS,
            "the endpoint to leave the Service",
            interval=1,
        )
        assert asker.served(MANY) == {"web-a"}
        assert net.told("a", "trace", "default/asker", "default/web:80")[-1] == "allowed"
    finally:
        net.plug("b", in_=True)
        node.start()
    until(lambda: asker.served() == {"web-a", "web-b"}, "the node's pod to be back")
