"""Pods of three namespaces on one host, a pod of another node, and a LAN: what policies are probed in.

Every end serves the same ports, so that a table of who reaches whom is all that a test has to state.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

from edgeagent.api.network import NamedPort, NetworkPod, NetworkState, Problem
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.policy import NetworkPolicy
from edgeagent_network.base import BASE
from edgeagent_network.generation import generation_of, netlink_socket
from edgeagent_network.policies import Policies
from edgeagent_network.ruleset import Fragment
from edgeagent_network.table import Table
from tests.support.netlab import Lab
from tests.support.netprobe import Probe, Transport
from tests.support.policymodel import Manifest, ModelPod, ModelWorld

PORTS = (6379, 5978)
NAMED = {("redis", "TCP"): 6379, ("redis", "UDP"): 5978}
"""The ports by name of the pods ``db`` and ``far``."""
NAMESPACES: Mapping[str, dict[str, str]] = {
    "default": {},
    "myproject": {"project": "myproject"},
    "other": {"project": "other"},
}
SHORT, LONG = 0.15, 5.0
"""Seconds without an answer until a packet counts as dropped: where this is what is expected, or not."""

Connection = tuple[str, str, int, str]
"""Source, target, port and protocol of a connection, the ends by name."""
ConnectionOfVersion = tuple[str, str, int, str, int]
"""The same, and 0 for IPv4 or 1 for IPv6."""


def _pod(name: str, namespace: str, number: int, labels: dict[str, str], *, named: bool = False) -> ModelPod:
    ips = (f"10.244.0.{number}", f"fd44::{number}")
    return ModelPod(name, namespace, labels, ips, NAMED if named else {})


PODS = (
    _pod("db", "default", 10, {"role": "db"}, named=True),
    _pod("web", "default", 11, {"role": "frontend"}),
    _pod("mine", "myproject", 12, {"role": "client"}),
    _pod("alien", "other", 13, {"role": "client", "tier": "edge"}),
)
"""The pods of the node."""
FAR = _pod("far", "myproject", 200, {"role": "frontend"}, named=True)
"""A pod of the other node, which has the same policies."""
NODE_IPS = ("10.244.0.0/25", "fd44::/121")
"""What the addresses of the node's pods are of."""


class PolicyLab:
    """Use it as a context. Ends are ``db``, ``web``, ``mine``, ``alien``, ``far``, ``lan`` and ``host``."""

    def __init__(self, *, log_group: int = 0) -> None:
        self.lab = Lab()
        self.policies = (Policies(log_group=log_group), Policies(log_group=log_group))
        self.fragments: list[dict[str, Fragment]] = []
        self.host, self.other = self.lab.host, self.lab.add_host("b")
        self._netlinks = [self.lab.inside(host.name, netlink_socket) for host in (self.host, self.other)]
        self._tables = [
            Table(host.run, generation_of(opened))
            for host, opened in zip((self.host, self.other), self._netlinks, strict=True)
        ]
        self.addresses: dict[str, tuple[str, str]] = {
            "lan": (self.lab.lan4, self.lab.lan6),
            "host": (self.host.ip4, self.host.ip6),
        }
        self._spaces = {"lan": self.lab.lan, "host": self.host.name}
        try:
            self._begin()
        except BaseException:
            self.lab.close()
            raise
        self.world = ModelWorld((*PODS, FAR), NAMESPACES, self.addresses["host"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._netlinks:
            opened.close()
        self.lab.close()

    def _begin(self) -> None:
        for pod in (*PODS, FAR):
            self.addresses[pod.name] = (pod.ips[0], pod.ips[1])
        for pod in PODS:
            self._spaces[pod.name] = self.lab.pod(pod.name, *pod.ips)
        near, other = self.host, self.other
        self._spaces["far"] = self.lab.pod("far", *FAR.ips, host=other)
        # A host asks for the neighbour of a packet that it forwards from a link-local address.
        near.ip("address add fe80::1/64 dev uplink nodad")
        other.ip("address add fe80::2/64 dev uplink nodad")
        for ip, via in zip(FAR.ips, (other.ip4, other.ip6), strict=True):
            near.ip(f"route add {ip} via {via}")
        for ips, via in ((NODE_IPS[0], near.ip4), (NODE_IPS[1], near.ip6)):
            other.ip(f"route add {ips} via {via}")
            near.run(["ip", "-n", self.lab.lan, "route", "add", ips, "via", via])
        for space in sorted({*self._spaces.values()}):
            for protocol in ("TCP", "UDP"):
                self.lab.serve(space, *PORTS, protocol=protocol)

    def serve(self, *ports: int, protocol: Transport = "TCP") -> None:
        """Have every end serve more ports."""
        for space in sorted({*self._spaces.values()}):
            self.lab.serve(space, *ports, protocol=protocol)

    def states(self, manifests: Sequence[Manifest]) -> list[NetworkState]:
        """The states of both nodes with these policies, each of which is the same object in the two."""
        policies = [convert(manifest, NetworkPolicy) for manifest in manifests]
        near, far = [network_pod(pod) for pod in PODS], [network_pod(FAR)]
        return [
            NetworkState(
                node=node, pods=pods, remote_pods=others, namespaces=dict(NAMESPACES), policies=policies
            )
            for node, pods, others in (("a", near, far), ("b", far, near))
        ]

    def compute(self, manifests: Sequence[Manifest]) -> list[Problem]:
        """Work out what both nodes' fragments are; the problems of the first node."""
        pairs = zip(self.policies, self.states(manifests), strict=True)
        made = [policies.fragments(state) for policies, state in pairs]
        self.fragments = [fragments for fragments, _ in made]
        return made[0][1]

    def apply(self, manifests: Sequence[Manifest]) -> list[Problem]:
        """Put these policies in force, and no others, on both nodes."""
        problems = self.compute(manifests)
        for table, fragments in zip(self._tables, self.fragments, strict=True):
            assert table.apply({"base": BASE, **fragments}) == {}
        return problems

    def connections(
        self, ports: Sequence[int] = PORTS, protocols: Sequence[Transport] = ("TCP", "UDP")
    ) -> list[Connection]:
        """Between all ends, save those that do not concern the host."""
        outside = {"lan", "far", "host"}
        return [
            (source, target, port, protocol)
            for source, target in itertools.permutations(self.addresses, 2)
            if not {source, target} <= outside
            for port in ports
            for protocol in protocols
        ]

    def differences(self, expected: Mapping[Connection, bool]) -> list[str]:
        """Where the kernel does not as ``expected`` of both IP families."""
        return self.differences_by_version(
            {(*one, version): wanted for one, wanted in expected.items() for version in (0, 1)}
        )

    def differences_by_version(self, expected: Mapping[ConnectionOfVersion, bool]) -> list[str]:
        """Where the kernel does not as ``expected``."""
        # A connection that was allowed before must not be what lets a new one of the same ports pass.
        for host in (self.host, self.other):
            host.run(["conntrack", "-F"])
        found: list[str] = []
        doubtful: list[ConnectionOfVersion] = []
        for one, passed in zip(expected, self._pass(list(expected), SHORT), strict=True):
            if passed and not expected[one]:
                found.append(f"{one} passes")
            elif not passed and expected[one]:
                doubtful.append(one)
        if doubtful:
            answers = self._pass(doubtful, LONG)
            found += [
                f"{one} is dropped" for one, passed in zip(doubtful, answers, strict=True) if not passed
            ]
        return found

    def _pass(self, wanted: Sequence[ConnectionOfVersion], timeout: float) -> list[bool]:
        probes = [
            Probe(
                self._spaces[source],
                self.addresses[target][version],
                port,
                "TCP" if protocol == "TCP" else "UDP" if protocol == "UDP" else "SCTP",
                source=self.addresses[source][version],
            )
            for source, target, port, protocol, version in wanted
        ]
        return [bool(outcome) for outcome in self.lab.probes(probes, timeout)]


def network_pod(pod: ModelPod) -> NetworkPod:
    """The pod as a state has it."""
    return NetworkPod(
        uid=f"uid-{pod.name}",
        namespace=pod.namespace,
        name=pod.name,
        ips=list(pod.ips),
        labels=dict(pod.labels),
        ready=True,
        named_ports=[
            NamedPort(name=name, port=port, protocol="TCP" if protocol == "TCP" else "UDP")
            for (name, protocol), port in pod.ports.items()
        ],
    )


def policy(name: str = "p", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """The manifest of a NetworkPolicy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
