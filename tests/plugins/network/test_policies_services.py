"""Policies on pods behind Services: they are asked of the pods themselves, whichever address was called.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.network import Attachment, NamedPort, NetworkPod, NetworkState
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.policy import NetworkPolicy
from edgeagent.api.objects.service import ServicePort
from tests.plugins.network.netkit import Node
from tests.plugins.network.servicemaking import backend, service
from tests.support.netlab import Lab
from tests.support.netprobe import Probe
from tests.support.policylab import policy

VIP, VIP6, LOCAL_VIP = "10.43.0.1", "fd43::1", "10.43.0.2"
PORT, NODE_PORT, LOCAL_NODE_PORT = 8000, 30080, 30081
WAYS = ("vip", "vip6", "node port", "local node port", "pod", "pod 8080")


class World:
    """Pods ``web``, which Services of both policies lead to, ``friend`` and ``other``; a LAN; the host."""

    def __init__(self, node: Node) -> None:
        self.node, lab = node, node.lab
        attached = {name: node.attach(name) for name in ("web", "friend", "other")}
        self.pods = [_pod(name, one) for name, one in attached.items()]
        self.spaces = {name: node.space(name) for name in attached} | {"lan": lab.lan, "host": lab.host.name}
        for port in (80, 8080):
            lab.serve(self.spaces["web"], port)
        four, six = attached["web"].ips
        self.services = [
            service(
                "web", [VIP, VIP6], [backend(four), backend(six)], type="NodePort",
                ports=[ServicePort(port=PORT, node_port=NODE_PORT)],
            ),
            service(
                "local", LOCAL_VIP, [backend(four)], type="NodePort", external_traffic_policy="Local",
                ports=[ServicePort(port=PORT, node_port=LOCAL_NODE_PORT)],
            ),
        ]  # fmt: skip
        host = lab.host.ip4
        targets = (
            (VIP, PORT),
            (VIP6, PORT),
            (host, NODE_PORT),
            (host, LOCAL_NODE_PORT),
            (four, 80),
            (four, 8080),
        )
        self.targets = dict(zip(WAYS, targets, strict=True))

    def put(self, **spec: Any) -> None:
        """Have one policy in force, or none."""
        found = NetworkState(
            node="a",
            pods=self.pods,
            services=self.services,
            namespaces={"default": {}},
            policies=[convert(policy(**spec), NetworkPolicy)] if spec else [],
        )
        assert self.node.network.reconcile(found).problems == []

    def reached(self, source: str, *ways: str) -> set[str]:
        """By which of these ways, or of all, the pod ``web`` answers."""
        asked = ways or WAYS
        probes = [Probe(self.spaces[source], *self.targets[way]) for way in asked]
        answers = zip(asked, self.node.lab.probes(probes, timeout=1), strict=True)
        return {way for way, answer in answers if answer.server == self.spaces["web"]}


def _pod(name: str, attached: Attachment) -> NetworkPod:
    return NetworkPod(
        uid=name,
        namespace="default",
        name=name,
        ips=attached.ips,
        labels={"app": name},
        ready=True,
        named_ports=[NamedPort(name="http", port=80)],
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("state")
    with Lab(forwarding=False) as lab:
        node = Node(lab, lab.host, folder)
        yield World(node)
        node.close()


LAN_WAYS = ("node port", "local node port")
EVERYWAY = set(WAYS)
WITH_80 = EVERYWAY - {"pod 8080"}
WEB = {"matchLabels": {"app": "web"}}
FRIEND = {"matchLabels": {"app": "friend"}}


def test_without_a_policy_all_ways_lead_to_the_pod(world: World) -> None:
    world.put()
    for source in ("friend", "other", "host"):
        assert world.reached(source) == EVERYWAY, source
    assert world.reached("lan", *LAN_WAYS) == set(LAN_WAYS)


def test_who_may_come_in_is_asked_of_the_client_and_the_port_of_the_pod(world: World) -> None:
    world.put(podSelector=WEB, ingress=[{"from": [{"podSelector": FRIEND}], "ports": [{"port": "http"}]}])
    assert world.reached("friend") == WITH_80
    assert world.reached("other") == set()
    assert world.reached("lan", *LAN_WAYS) == set()
    assert world.reached("host") == EVERYWAY, "the node reaches its own pods"
    assert world.reached("web", "vip", "vip6", "node port") == {"vip", "vip6", "node port"}, (
        "and a pod itself"
    )


def test_a_block_of_addresses_holds_clients_outside_whose_address_is_translated_later(world: World) -> None:
    world.put(podSelector=WEB, ingress=[{"from": [{"ipBlock": {"cidr": "192.168.77.0/24"}}]}])
    assert world.reached("lan", *LAN_WAYS) == set(LAN_WAYS)
    assert world.reached("friend") == set()
    world.put(
        podSelector=WEB,
        ingress=[{"from": [{"ipBlock": {"cidr": "192.168.77.0/24", "except": ["192.168.77.254/32"]}}]}],
    )
    assert world.reached("lan", *LAN_WAYS) == set()


def test_where_a_pod_may_go_is_asked_of_the_pod_that_is_reached(world: World) -> None:
    world.put(
        podSelector=FRIEND,
        policyTypes=["Egress"],
        egress=[{"to": [{"podSelector": WEB}], "ports": [{"port": 80}]}],
    )
    assert world.reached("friend") == WITH_80
    assert world.reached("other") == EVERYWAY
    # The address of the Service itself is no peer: it is translated before a policy is asked.
    world.put(
        podSelector=FRIEND, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "10.43.0.0/16"}}]}]
    )
    assert world.reached("friend") == set()
