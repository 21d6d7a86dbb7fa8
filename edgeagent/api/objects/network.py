"""What has no Kubernetes kind: a node's place on the pod network, and the firewall of its host."""

from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta
from edgeagent.api.objects.policy import IPBlock
from edgeagent.api.objects.service import Protocol

Overlay = Literal["none", "vxlan", "wireguard", "route"]


class NodeNetworkSpec(KubernetesStruct, frozen=True):
    """``pod_cidrs`` are the addresses of the node's pods, one range a family. ``address`` is where other
    nodes reach it; ``public_key`` is WireGuard's, in base64. ``overlay`` is how they do. ``service_cidrs``
    are the cluster's, empty where the node's own configuration says them.
    """

    pod_cidrs: list[str] = []
    service_cidrs: list[str] = []
    address: str = ""
    public_key: str = ""
    port: int = 0
    overlay: Overlay = "vxlan"


class NodeNetwork(KubernetesStruct, frozen=True, tag_field="kind", tag="NodeNetwork"):
    """One node's place on the pod network; named like the node. Made by the hub."""

    api_version: Literal["edgeagent/v1"]
    metadata: ObjectMeta
    spec: NodeNetworkSpec = NodeNetworkSpec()


class FirewallRule(KubernetesStruct, frozen=True):
    """What may come in: to ``ports`` (numbers or ``first-last``), from ``sources``, through ``interfaces``.

    Each of the three is everything where it is empty.
    """

    name: str
    protocol: Protocol | Literal["ICMP"] = "TCP"
    ports: list[int | str] = []
    sources: list[IPBlock] = []
    interfaces: list[str] = []


class HostFirewallSpec(KubernetesStruct, frozen=True):
    """``node_names`` are the nodes that it is for; empty: every node. ``confirm_seconds`` is how long a
    change may cost the broker before it is taken back.
    """

    node_names: list[str] = []
    allow: list[FirewallRule] = []
    confirm_seconds: int = 60


class HostFirewall(KubernetesStruct, frozen=True, tag_field="kind", tag="HostFirewall"):
    """A default-deny input policy for hosts. A change that costs the broker is taken back."""

    api_version: Literal["edgeagent/v1"]
    metadata: ObjectMeta
    spec: HostFirewallSpec = HostFirewallSpec()


class PodAddressSpec(KubernetesStruct, frozen=True):
    """Where a pod is, and by which addresses policies know it. Its labels are in ``metadata``."""

    node_name: str = ""
    ips: list[str] = []
    named_ports: dict[str, int] = {}
    """Ports by ``name/PROTOCOL``."""


class PodAddress(KubernetesStruct, frozen=True, tag_field="kind", tag="PodAddress"):
    """A pod of another node, as far as policies must know it. Made by the hub; named like the pod."""

    api_version: Literal["edgeagent/v1"]
    metadata: ObjectMeta
    spec: PodAddressSpec = PodAddressSpec()
