"""The whole of what the node's network should be, from desired objects and what is known of the pods."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from edgeagent.api.network import NamedPort, NetworkPod, NetworkState
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.network import HostFirewall, NodeNetwork, PodAddress
from edgeagent.api.objects.policy import LABEL_NAMESPACE_NAME, Namespace, NetworkPolicy
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.node.network.endpoints import Endpoints
from edgeagent.node.network.localpods import LocalPod

Kind = TypeVar("Kind")


class ByKind:
    """Objects by kind, looked through once: of some there are thousands."""

    def __init__(self, objects: Iterable[KubernetesObject]) -> None:
        self._objects: dict[type, list[KubernetesObject]] = {}
        for one in objects:
            self._objects.setdefault(type(one), []).append(one)

    def of(self, kind: type[Kind]) -> list[Kind]:
        """All of this kind, in the order they came in."""
        return [one for one in self._objects.get(kind, ()) if isinstance(one, kind)]

    def namespaces(self) -> set[str]:
        """Those that objects are in."""
        return {one.metadata.namespace for some in self._objects.values() for one in some}


class Uplinked(msgspec.Struct, frozen=True):
    """What is known of the broker: whether it is reached, and where it is, as ``host:port``."""

    connected: bool = False
    brokers: Sequence[str] = msgspec.field(default=())


class StateBuilder:
    """Makes one state after the other; what did not change between them is the very same object."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._endpoints = Endpoints(node)
        self._remote: dict[str, tuple[PodAddress, NetworkPod]] = {}

    def build(
        self, objects: Iterable[KubernetesObject], pods: Sequence[LocalPod], uplinked: Uplinked
    ) -> NetworkState:
        """The state now. Of several firewalls that are for this node, the first by name counts."""
        by_kind = ByKind(objects)
        firewalls = [
            one
            for one in by_kind.of(HostFirewall)
            if not one.spec.node_names or self._node in one.spec.node_names
        ]
        return NetworkState(
            node=self._node,
            pods=[local.told for local in pods],
            remote_pods=self._others(by_kind.of(PodAddress)),
            namespaces=_namespaces(by_kind, pods),
            services=self._endpoints.find(by_kind.of(Service), pods, by_kind.of(EndpointSlice)),
            policies=by_kind.of(NetworkPolicy),
            nodes=by_kind.of(NodeNetwork),
            firewall=min(firewalls, key=lambda one: one.metadata.name, default=None),
            connected=uplinked.connected,
            broker_addresses=list(uplinked.brokers),
        )

    def _others(self, addresses: Iterable[PodAddress]) -> list[NetworkPod]:
        known, self._remote = self._remote, {}
        for one in addresses:
            if one.spec.node_name == self._node:
                continue
            uid = one.metadata.uid
            old = known.get(uid)
            same = old is not None and old[0] is one
            self._remote[uid] = old if same and old is not None else (one, _remote_pod(one))
        return [found for _, found in self._remote.values()]


def _namespaces(objects: ByKind, pods: Sequence[LocalPod]) -> dict[str, dict[str, str]]:
    """Labels by name; a namespace that nobody described has the one label that every namespace has."""
    found = {
        one.metadata.name: {**one.metadata.labels, LABEL_NAMESPACE_NAME: one.metadata.name}
        for one in objects.of(Namespace)
    }
    used = {local.told.namespace for local in pods} | objects.namespaces()
    for name in sorted(used - found.keys() - {""}):
        found[name] = {LABEL_NAMESPACE_NAME: name}
    return found


def _remote_pod(one: PodAddress) -> NetworkPod:
    meta, named = one.metadata, one.spec.named_ports
    return NetworkPod(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        ips=one.spec.ips,
        node=one.spec.node_name,
        labels=meta.labels,
        named_ports=[
            NamedPort(name=name, port=port, protocol=protocol)  # type: ignore[arg-type]
            for key, port in named.items()
            for name, _, protocol in [key.partition("/")]
        ],
    )
