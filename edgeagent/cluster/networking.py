"""What all nodes are told of the network: Services, EndpointSlices, policies, namespaces, and each other.

Level-triggered: a change says only "look again". May not publish: whoever does is woken where it differs.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.api.objects.network import HostFirewall, NodeNetwork, NodeNetworkSpec
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.cluster.allocation import ClusterNetwork, pod_ranges
from edgeagent.cluster.derived import by_namespace, endpoint_slices, pod_address
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

    def changed(self, kind: str) -> None:
        """An object of that kind, or what a node says of it, is another."""
        if kind in KINDS or kind in ("Pod", "Node"):
            self._news.set()

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
            except EdgeAgentError as error:
                log.warning("what nodes are told of the network stays as it is: %s", error)
                continue
            if found != self._shared:
                self._shared = found
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
        applied = {kind: self._applied(kind) for kind in KINDS}
        services = [one for one in applied["Service"] if isinstance(one, Service)]
        selecting = [one for one in services if one.spec.selector]
        policies = applied["NetworkPolicy"]
        found = [_Shared(travelling(one)) for kind in KINDS for one in applied[kind]]
        found += [_Shared(travelling(one)) for one in self._nodes()]
        if selecting or policies:
            pods = [one for one in self._views.select("Pod") if isinstance(one, Pod)]
            there = by_namespace(pods)
            for service in selecting:
                slices = endpoint_slices(service, there.get(service.metadata.namespace, ()), self._gone)
                found += [_Shared(travelling(one)) for one in slices]
            if policies:
                found += [
                    _Shared(travelling(address), all_but=address.spec.node_name)
                    for pod in pods
                    if (address := pod_address(pod)) is not None
                ]
        return found

    def _applied(self, kind: str) -> list[KubernetesObject]:
        return [decode_json(stored.body, KINDS[kind]) for stored in self._store.select(kind)]

    def _gone(self, node: str) -> bool:
        """Whether the node has been offline for too long to be sent anything."""
        if not node or self._observer.view(node).online:
            self._offline.pop(node, None)
            return False
        now = self._clock.monotonic()
        return now - self._offline.setdefault(node, now) >= GONE_SECONDS

    def _nodes(self) -> Iterator[NodeNetwork]:
        """Where each node's pods are. A node that is new gets its range here."""
        if self._network is None:
            return
        known = {
            stored.name: decode_json(stored.body, NodeNetwork) for stored in self._store.select("NodeNetwork")
        }
        taken = {text for one in known.values() for text in one.spec.pod_cidrs}
        for node in self._store.nodes():
            own = known.get(node.name)
            if own is None:
                own = self._give(node.name, self._network, taken)
                taken.update(own.spec.pod_cidrs)
            status = self._observer.view(node.name).status
            addresses = status.addresses if status is not None else ()
            address = next((one.address for one in addresses if one.type == "InternalIP"), "")
            spec = msgspec.structs.replace(
                own.spec,
                service_cidrs=self._network.service_cidrs,
                address=address,
                public_key=status.public_key if status is not None else "",
                overlay=self._network.overlay,
            )
            yield msgspec.structs.replace(own, spec=spec)

    def _give(self, node: str, network: ClusterNetwork, taken: Iterable[str]) -> NodeNetwork:
        spec = NodeNetworkSpec(pod_cidrs=pod_ranges(network, set(taken)))
        with self._store.transaction():
            version = self._store.next_version()
            meta = ObjectMeta(name=node, uid=new_uid(), resource_version=str(version))
            own = NodeNetwork(api_version="edgeagent/v1", metadata=meta, spec=spec)
            self._store.put(
                StoredObject(
                    kind="NodeNetwork",
                    namespace="",
                    name=node,
                    uid=meta.uid,
                    version=version,
                    node="",
                    deleting="",
                    body=canonical_json(own),
                )
            )
        return own
