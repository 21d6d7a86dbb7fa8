"""The sets of addresses that policies' rules ask: which pods are in one, and under which name it stands.

A set is named by a digest of whom it selects, so that all rules which select the same pods share one.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from edgeagent.api.objects.policy import NetworkPolicyPeer
from edgeagent.api.objects.selector import selects
from edgeagent_network.ipblocks import Ranges, holds
from edgeagent_network.podaddresses import Claimed
from edgeagent_network.ruleset import Fragment

VERSIONS = (4, 6)
FAMILY = {4: "ip", 6: "ip6"}
ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}

PortName = tuple[str, str]
"""Name and protocol of a port."""


def digest(*words: str) -> str:
    """Twenty hexadecimal digits that stand for ``words`` in a name: nobody can find words for digits."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:20]


class PodSet(msgspec.Struct, frozen=True):
    """The addresses of pods, or with ``ports`` the ports that pods give these names: two sets in the kernel.

    In it are the pods that ``peers``, as they stand in a policy of ``namespace``, select; with ``everyone``
    all. Ports also are of pods whose address is in ``blocks``. ``local``: pods of this node only.
    """

    name: str
    namespace: str
    peers: tuple[NetworkPolicyPeer, ...]
    everyone: bool = False
    blocks: Ranges = msgspec.field(default_factory=dict)
    ports: frozenset[PortName] = frozenset()
    local: bool = False

    def of_version(self, version: int) -> str:
        """The set's name in the kernel for IPv4 (4) or IPv6 (6)."""
        return f"{self.name}-{version}"

    def fragment(self) -> Fragment:
        """Its declarations. The elements are in the pods' fragments."""
        more = " . inet_proto . inet_service" if self.ports else ""
        return Fragment(sets={self.of_version(one): f"type {ADDRESS_TYPE[one]}{more};" for one in VERSIONS})

    def members(
        self, pod: Claimed, namespace_labels: Mapping[str, str]
    ) -> Iterator[tuple[str, str, PortName]]:
        """What ``pod`` brings: the set in the kernel, the element, and which port that is, if it is one."""
        if self.local and not pod.local:
            return
        if not self.ports:
            if self._selects(pod, namespace_labels):
                for version, text in pod.addresses:
                    yield self.of_version(version), text, ("", "")
            return
        ports = [port for port in pod.pod.named_ports if (port.name, port.protocol) in self.ports]
        if not ports:
            return
        selected = self._selects(pod, namespace_labels)
        for version, text in pod.addresses:
            if selected or (self.blocks and holds(self.blocks, text)):
                for port in ports:
                    element = f"{text} . {port.protocol.lower()} . {port.port}"
                    yield self.of_version(version), element, (port.name, port.protocol)

    def _selects(self, pod: Claimed, namespace_labels: Mapping[str, str]) -> bool:
        return self.everyone or any(self._is_peer(peer, pod, namespace_labels) for peer in self.peers)

    def _is_peer(self, peer: NetworkPolicyPeer, pod: Claimed, namespace_labels: Mapping[str, str]) -> bool:
        if peer.namespace_selector is None:
            if pod.pod.namespace != self.namespace:
                return False
        elif not selects(peer.namespace_selector, namespace_labels):
            return False
        return peer.pod_selector is None or selects(peer.pod_selector, pod.pod.labels)


def peer_set(namespace: str, peers: Iterable[NetworkPolicyPeer]) -> PodSet:
    """The addresses of the pods that ``peers`` select."""
    selecting = tuple(peers)
    return PodSet(f"pods-{_content(namespace, selecting)}", namespace, selecting)


def selected_ports(namespace: str, selecting: NetworkPolicyPeer, ports: frozenset[PortName]) -> PodSet:
    """Ports by name of the pods of this node that are selected: those of ingress rules."""
    name = f"ports-{_content(namespace, (selecting,), *_words(ports), 'local')}"
    return PodSet(name, namespace, (selecting,), ports=ports, local=True)


def peer_ports(
    namespace: str, peers: Iterable[NetworkPolicyPeer], blocks: Ranges, ports: frozenset[PortName]
) -> PodSet:
    """Ports by name of the pods that are peers, by selector or address: those of egress rules.

    Without ``peers`` and ``blocks`` every pod is one.
    """
    selecting = tuple(peers)
    name = f"ports-{_content(namespace, selecting, *_words(ports), repr(sorted(blocks.items())))}"
    everyone = not selecting and not any(blocks.values())
    return PodSet(name, namespace, selecting, everyone=everyone, blocks=blocks, ports=ports)


def _content(namespace: str, peers: tuple[NetworkPolicyPeer, ...], *more: str) -> str:
    relative = any(peer.namespace_selector is None for peer in peers)
    return digest(namespace if relative else "", msgspec.json.encode(peers, order="sorted").decode(), *more)


def _words(ports: frozenset[PortName]) -> list[str]:
    return [f"{name}/{protocol}" for name, protocol in sorted(ports)]
