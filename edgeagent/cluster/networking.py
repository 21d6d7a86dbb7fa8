"""What all nodes are told of the network: Services, EndpointSlices, policies, namespaces, and each other.

Level-triggered: a change says only "look again". May not publish: whoever does is woken where it differs.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import KubernetesObject, decode_json, validate
from edgeagent.api.objects.network import HostFirewall, NodeNetwork, NodeNetworkSpec
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.cluster.allocation import ClusterNetwork, pod_ranges
from edgeagent.cluster.derived import (
    by_namespace,
    endpoint_slices,
    network_facts,
    pod_address,
    with_own_addresses,
)
from edgeagent.cluster.desired import Wanted, travelling
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.store import Store, StoredObject, new_uid
from edgeagent.cluster.views import Views
from edgeagent.wire.canonical import canonical_json

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.1
"""Changes within this time are looked at together."""
GONE_SECONDS = 40.0
"""A node that is offline for this long has no ready endpoints (Kubernetes' node-monitor-grace-period)."""
KINDS: Mapping[str, type[KubernetesObject]] = {
    kind.__name__: kind for kind in (Service, EndpointSlice, NetworkPolicy, Namespace, HostFirewall)
}
"""The kinds that an operator applies and every node gets."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """One object that travels, and the one node that it is for, or all but one; empty for every node."""

    wanted: Wanted
    only: str = ""
    all_but: str = ""


class Networking:
    """Knows what each node gets. ``run`` follows changes; ``wake_all`` has every node looked at again."""

    def __init__(
        self,
        store: Store,
        views: Views,
        observer: Observer,
        network: ClusterNetwork | None,
        *,
        clock: Clock,
        wake_all: Callable[[], None],
    ) -> None:
        """Without ``network`` the cluster's nodes have no ranges from the hub, and no way between them."""
        self._store = store
        self._views = views
        self._observer = observer
        self._network = network
        self._clock = clock
        self._wake_all = wake_all
        self._offline: dict[str, float] = {}
        self._news = asyncio.Event()
        self._shared: list[_Shared] | None = None
        self._woken_for: list[_Shared] | None = None
        self._problems: dict[str, str] = {}
        self._seen: dict[tuple[str, str, str], object] = {}

    def changed(self, kind: str, namespace: str, name: str) -> None:
        """That object, or what a node says of it, is another."""
        if kind in KINDS:
            # Whoever is published to before all are looked at again gets it too: no pod before its policy.
            self._shared = self._woken_for = None
            self._news.set()
        elif kind in ("Pod", "Node"):
            key = kind, namespace, name
            seen = self._of_pod(namespace, name) if kind == "Pod" else self._of_node(name)
            if self._seen.get(key) != seen:
                self._news.set()
            if seen is None:
                self._seen.pop(key, None)
            else:
                self._seen[key] = seen

    def _of_pod(self, namespace: str, name: str) -> object:
        """What others are told of it depends on this alone; None where there is none."""
        found = self._views.select("Pod", namespace, name)
        return network_facts(found[0]) if found and isinstance(found[0], Pod) else None

    def _of_node(self, name: str) -> object:
        return *self._said(name), self._observer.view(name).online

    def for_node(self, node: str) -> list[Wanted]:
        """What ``node`` is told, beside its own pods."""
        if self._shared is None:
            self._shared = self._look()
        return [one.wanted for one in self._shared if one.only in ("", node) and one.all_but != node]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            await self._clock.sleep(SETTLE_SECONDS)
            self._news.clear()
            try:
                found = self._look()
            except (EdgeAgentError, ValueError) as error:
                log.warning("what nodes are told of the network stays as it is: %s", error)
                continue
            self._shared = found
            if found != self._woken_for:
                self._woken_for = found
                self._wake_all()

    async def _wait(self) -> None:
        """For a change, or for an offline node to have been so for long enough."""
        now = self._clock.monotonic()
        due = [since + GONE_SECONDS - now for since in self._offline.values() if now - since < GONE_SECONDS]
        waiters = [asyncio.ensure_future(self._news.wait())]
        if due:
            waiters.append(asyncio.ensure_future(self._pause(min(due))))
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _pause(self, seconds: float) -> Literal[True]:
        await self._clock.sleep(seconds)
        return True

    def _look(self) -> list[_Shared]:
        before, self._problems = self._problems, {}
        applied = {kind: self._applied(kind) for kind in KINDS}
        services = [one for one in applied["Service"] if isinstance(one, Service)]
        selecting = [one for one in services if one.spec.selector]
        policies = applied["NetworkPolicy"]
        nodes = {one.metadata.name: one for one in self._nodes()}
        found = [_Shared(travelling(one)) for kind in KINDS for one in applied[kind]]
        found += [_Shared(travelling(one)) for one in nodes.values()]
        if selecting or policies:
            pods = self._pods(nodes)
            there = by_namespace(pods)
            for service in selecting:
                slices = endpoint_slices(service, there.get(service.metadata.namespace, ()), self._gone)
                found += [_Shared(travelling(one)) for one in slices if self._usable(one)]
            if policies:
                found += [
                    _Shared(travelling(address), all_but=address.spec.node_name)
                    for pod in pods
                    if (address := pod_address(pod)) is not None and self._usable(address)
                ]
        for about in self._problems.keys() - before.keys():
            log.warning("%s: %s", about, self._problems[about])
        return found

    def _usable(self, derived: KubernetesObject) -> bool:
        """Whether nodes take it: with one object that they refuse, they refuse all that they are told."""
        try:
            validate(derived)
        except InvalidObjectError as error:
            meta = derived.metadata
            about = f"{type(derived).__name__} {meta.namespace}/{meta.name}"
            self._problems[about] = f"nodes are not told this: {error}"
            return False
        return True

    def _pods(self, nodes: Mapping[str, NodeNetwork]) -> list[Pod]:
        """All pods, with those addresses alone that their nodes can give them."""
        pods: list[Pod] = []
        for one in self._views.select("Pod"):
            if not isinstance(one, Pod):
                continue
            node = nodes.get(one.spec.node_name)
            ranges = node.spec.pod_cidrs if node is not None else ()
            host = node.spec.address if node is not None else self._said(one.spec.node_name)[0]
            pod, others = with_own_addresses(one, ranges, host)
            if others:
                name = f"{one.metadata.namespace}/{one.metadata.name}"
                said = f"says that pod {name} has the address {others[0][:80]!r}, which it cannot give"
                self._problems[f"pods of node {one.spec.node_name}"] = f"it {said}"
            pods.append(pod)
        return pods

    def _applied(self, kind: str) -> list[KubernetesObject]:
        return [decode_json(stored.body, KINDS[kind]) for stored in self._store.select(kind)]

    def _gone(self, node: str) -> bool:
        """Whether the node has been offline for too long to be sent anything."""
        if not node or self._observer.view(node).online:
            self._offline.pop(node, None)
            return False
        now = self._clock.monotonic()
        return now - self._offline.setdefault(node, now) >= GONE_SECONDS

    def _nodes(self) -> list[NodeNetwork]:
        """Where each node's pods are. A node that is new gets its range here."""
        if self._network is None:
            return []
        known = {
            stored.name: decode_json(stored.body, NodeNetwork) for stored in self._store.select("NodeNetwork")
        }
        taken = {text for one in known.values() for text in one.spec.pod_cidrs}
        found: list[NodeNetwork] = []
        for node in self._store.nodes():
            own = known.get(node.name)
            if own is None:
                try:
                    own = _place(node.name, self._network, taken)
                except PermanentError as error:
                    self._problems[f"node {node.name}"] = f"it has no place on the pod network: {error}"
                    continue
                taken.update(own.spec.pod_cidrs)
            found.append(self._with_said(own))
        if any(one is not known.get(one.metadata.name) for one in found):
            with self._store.transaction():
                found = [
                    one if one is known.get(one.metadata.name) else self._with_version(one) for one in found
                ]
        ranges, overlay = self._network.service_cidrs, self._network.overlay
        return [
            msgspec.structs.replace(
                one, spec=msgspec.structs.replace(one.spec, service_cidrs=ranges, overlay=overlay)
            )
            for one in found
        ]

    def _with_said(self, own: NodeNetwork) -> NodeNetwork:
        """With what the node says of itself; ``own`` where that is nothing new, or nonsense.

        What it said last stands until it says another one: a hub that has not heard of it yet cuts no path.
        """
        address, public_key = self._said(own.metadata.name)
        spec = msgspec.structs.replace(
            own.spec, address=address or own.spec.address, public_key=public_key or own.spec.public_key
        )
        said = msgspec.structs.replace(own, spec=spec)
        return said if said != own and self._usable(said) else own

    def _said(self, node: str) -> tuple[str, str]:
        """The address and the public key that the node says it has; empty for none."""
        status = self._observer.view(node).status
        if status is None:
            return "", ""
        address = next((one.address for one in status.addresses if one.type == "InternalIP"), "")
        return address, status.public_key

    def _with_version(self, own: NodeNetwork) -> NodeNetwork:
        """As it is stored from here on. In a transaction."""
        version = self._store.next_version()
        meta = msgspec.structs.replace(own.metadata, resource_version=str(version))
        own = msgspec.structs.replace(own, metadata=meta)
        self._store.put(
            StoredObject(
                kind="NodeNetwork",
                namespace="",
                name=meta.name,
                uid=meta.uid,
                version=version,
                node="",
                deleting="",
                body=canonical_json(own),
            )
        )
        return own


def _place(node: str, network: ClusterNetwork, taken: Collection[str]) -> NodeNetwork:
    """That of a node that is new; PermanentError where no range is left."""
    spec = NodeNetworkSpec(pod_cidrs=pod_ranges(network, taken))
    return NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name=node, uid=new_uid()), spec=spec)
