"""What Kubernetes' documentation says that NetworkPolicies allow, in plain Python over plain manifests.

https://kubernetes.io/docs/concepts/services-networking/network-policies/

It is written from the text of that page and shares no code with what is tested: policies are the data of
their YAML, defaults not filled in.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class ModelPod:
    """A pod; ``ports`` are its named ports: number by name and protocol."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelWorld:
    """All pods, the labels of their namespaces, and the addresses of the node."""

    pods: Sequence[ModelPod]
    namespaces: Mapping[str, Mapping[str, str]]
    node_ips: tuple[str, ...] = ()

    def pod_at(self, address: str) -> ModelPod | None:
        """The pod that has the address; None for what is outside of the cluster."""
        return next((pod for pod in self.pods if address in pod.ips), None)


def allowed(
    world: ModelWorld, policies: Sequence[Manifest], source: str, target: str, port: int, protocol: str
) -> bool:
    """Whether a new connection between two addresses is."""
    # "Traffic to and from the node where a Pod is running is always allowed."
    if source in world.node_ips or target in world.node_ips:
        return True
    sender, receiver = world.pod_at(source), world.pod_at(target)
    # "A Pod cannot block access to itself."
    if sender is not None and sender is receiver:
        return True
    # "For a connection from a source pod to a destination pod to be allowed, both the egress policy on the
    # source pod and the ingress policy on the destination pod need to allow the connection."
    return _side_allows(world, policies, "Egress", sender, target, target, port, protocol) and _side_allows(
        world, policies, "Ingress", receiver, source, target, port, protocol
    )


def _side_allows(
    world: ModelWorld,
    policies: Sequence[Manifest],
    direction: str,
    pod: ModelPod | None,
    other: str,
    target: str,
    port: int,
    protocol: str,
) -> bool:
    if pod is None:
        return True
    # "A pod is isolated if there is any NetworkPolicy that both selects the pod and has the direction in its
    # policyTypes."
    isolating = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and _selects(policy["spec"].get("podSelector", {}), pod.labels)
        and direction in _types(policy["spec"])
    ]
    if not isolating:
        return True
    # "Network policies do not conflict; they are additive."
    for policy in isolating:
        for rule in policy["spec"].get(direction.lower()) or []:
            peers = rule.get("to" if direction == "Egress" else "from") or []
            ports = rule.get("ports") or []
            if (not peers or any(_is_peer(world, policy, peer, other) for peer in peers)) and (
                not ports or any(_is_port(world, wanted, target, port, protocol) for wanted in ports)
            ):
                return True
    return False


def _types(spec: Manifest) -> list[str]:
    # "If no policyTypes are specified, by default Ingress will always be set and Egress will be set if the
    # NetworkPolicy has any egress rules."
    given: list[str] = list(spec.get("policyTypes") or [])
    return given or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _is_peer(world: ModelWorld, policy: Manifest, peer: Manifest, address: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return _within(address, block["cidr"]) and not any(
            _within(address, hole) for hole in block.get("except", [])
        )
    pod = world.pod_at(address)
    if pod is None:
        return False
    if "namespaceSelector" in peer:
        # "The control plane sets an immutable label kubernetes.io/metadata.name on all namespaces."
        labels = {**world.namespaces.get(pod.namespace, {}), "kubernetes.io/metadata.name": pod.namespace}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif pod.namespace != policy["metadata"]["namespace"]:
        return False
    return "podSelector" not in peer or _selects(peer["podSelector"], pod.labels)


def _is_port(world: ModelWorld, wanted: Manifest, target: str, port: int, protocol: str) -> bool:
    if wanted.get("protocol", "TCP") != protocol:
        return False
    number = wanted.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        receiver = world.pod_at(target)
        return receiver is not None and receiver.ports.get((number, protocol)) == port
    return bool(number <= port <= wanted.get("endPort", number))


def _within(address: str, cidr: str) -> bool:
    parsed, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    return parsed.version == network.version and parsed in network


def _selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", []):
        has, values = labels.get(wanted["key"]), wanted.get("values", [])
        holds = {
            "In": has is not None and has in values,
            "NotIn": has is None or has not in values,
            "Exists": has is not None,
            "DoesNotExist": has is None,
        }[wanted["operator"]]
        if not holds:
            return False
    return True
