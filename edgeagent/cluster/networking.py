"""What all nodes are told of the network: Services, EndpointSlices, policies, namespaces, and each other.

Level-triggered: a change says only "look at this again". Everything is looked at on a new connection, and
after a look that failed; what is found is the same either way.
May not publish: whoever does is woken where it differs.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError
from edgeagent.api.objects.decode import KubernetesObject, decode_json, validate
from edgeagent.api.objects.network import HostFirewall
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.api.objects.trust import ClusterTrust
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.derived import pod_address, with_own_addresses
from edgeagent.cluster.desired import Wanted
from edgeagent.cluster.endpointindex import EndpointIndex, Key
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.places import NodePlaces, Said
from edgeagent.cluster.podmemory import PodMemory
from edgeagent.cluster.store import Store
from edgeagent.cluster.told import Problems, Source, Told

SETTLE_SECONDS = 0.1
"""Changes within this time are looked at together."""
GONE_SECONDS = 40.0
"""A node that is offline for this long has no ready endpoints (Kubernetes' node-monitor-grace-period)."""
UNCONFIRMED_SECONDS = 40.0
"""A static pod of which its node says nothing for this long, although it speaks of itself, is no more."""
RETRY_SECONDS = 10.0
"""How long after a look that failed, on a full disk for one, everything is looked at again."""
DERIVED = "Endpoints"
"""The kind of the source of EndpointSlices that come of a Service."""
TOLD = "what nodes are told of the network"
KINDS: Mapping[str, type[KubernetesObject]] = {
    kind.__name__: kind
    for kind in (
        Service, EndpointSlice, NetworkPolicy, Namespace, HostFirewall, RoleBinding, ClusterRoleBinding,
        ClusterTrust,
    )
}  # fmt: skip
"""The kinds that every node gets as they are in the store."""


class Networking:
    """Knows what each node gets. ``run`` follows changes; ``wake_all`` has every node looked at again."""

    def __init__(
        self,
        store: Store,
        observer: Observer,
        cluster: str,
        network: ClusterNetwork | None,
        *,
        clock: Clock,
        wake_all: Callable[[], None],
    ) -> None:
        """Without ``network`` the cluster's nodes have no ranges from the hub, and no way between them."""
        self._store = store
        self._observer = observer
        self._clock = clock
        self._wake_all = wake_all
        self._problems = Problems()
        self._told = Told()
        self._index = EndpointIndex()
        self._memory = PodMemory(store, observer)
        self._places = NodePlaces(store, cluster, network, self._said, self._problems) if network else None
        self._policies: set[Key] = set()
        self._heard: dict[str, object] = {}
        self._members: set[str] = set()
        self._where: dict[str, tuple[list[str], str]] = {}
        self._offline: dict[str, float] = {}
        self._due: float | None = None
        # What to look at.
        self._applied: dict[Source, None] = {}
        self._pods: dict[Key, None] = {}
        self._nodes: dict[str, None] = {}
        self._everything = True
        self._urgent = True
        self._unwoken = False
        self._news = asyncio.Event()

    # Changes

    def changed(self, kind: str, namespace: str, name: str) -> None:
        """That object, or what a node says of it, is another."""
        if kind in KINDS:
            self._applied[kind, namespace, name] = None
            # Whoever is published to before all are looked at again gets it too: no pod before its policy.
            self._urgent = True
            self._news.set()
        elif kind == "Pod":
            if self._memory.look((namespace, name)):
                self._pods[namespace, name] = None
                self._news.set()
        elif kind == "Node":
            view = self._observer.view(name)
            heard = *self._said(name), view.online
            if self._memory.waits:
                self._news.set()
            if self._heard.get(name) != heard:
                self._heard[name] = heard
                self._nodes[name] = None
                self._news.set()
            if self._is_member(name) != (name in self._members):
                self._look_at_members([name])

    def members_changed(self) -> None:
        """There may be members that were not there before, or some no more."""
        self._look_at_members({node.name for node in self._store.nodes()} ^ self._members)

    def _look_at_members(self, nodes: Iterable[str]) -> None:
        """These are members now, or are none: whoever is published to before the next look is told of it."""
        for name in nodes:
            self._nodes[name] = None
            self._urgent = True
            self._news.set()

    def _is_member(self, node: str) -> bool:
        return self._store.node(node) is not None

    def look_again(self) -> None:
        """At everything."""
        self._everything = True
        self._news.set()

    def for_node(self, node: str) -> list[Wanted]:
        """What ``node`` is told, beside its own pods."""
        if self._urgent:
            self.look()
        return self._told.for_node(node)

    def endpoint_slices(self) -> list[KubernetesObject]:
        """Those that come of Services with a selector: nobody applied them."""
        return self._told.of(DERIVED)

    async def run(self) -> None:
        """Until cancelled."""
        self.look_again()
        while True:
            await self._wait()
            await self._clock.sleep(SETTLE_SECONDS)
            self._news.clear()
            try:
                self.look()
            except (EdgeAgentError, ValueError) as error:
                self._problems.note(TOLD, f"it stays as it is: {error}")
                self._due = self._clock.monotonic() + RETRY_SECONDS
                continue
            self._problems.note(TOLD, "")
            if self._unwoken:
                self._unwoken = False
                self._wake_all()

    async def _wait(self) -> None:
        """For a change, or for time to have made one."""
        waiters = [asyncio.ensure_future(self._news.wait())]
        if self._due is not None:
            waiters.append(asyncio.ensure_future(self._pause(self._due - self._clock.monotonic())))
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _pause(self, seconds: float) -> Literal[True]:
        await self._clock.sleep(max(0.0, seconds))
        return True

    # The look

    def look(self) -> None:
        """Follow what changed. Where that fails, what is told stays as it is, and all is looked at next."""
        everything, self._everything = self._everything, True
        self._told.begin(anew=everything)
        applied, nodes, pods = self._applied, self._nodes, self._pods
        self._applied, self._nodes, self._pods = {}, {}, {}
        if everything:
            self._problems.begin()
            self._index = EndpointIndex()
            self._memory.look_at_all()
            pods = dict.fromkeys(self._memory)
            nodes = dict.fromkeys((*self._members, *(node.name for node in self._store.nodes())))
        policed = bool(self._policies)
        for source, found in self._find_all() if everything else self._find(applied):
            self._take_applied(source, found)
        if policed != bool(self._policies):
            pods |= dict.fromkeys(self._memory)
        pods |= dict.fromkeys(self._look_at_membership(nodes))
        pods |= dict.fromkeys(self._look_at_places(nodes, everything=everything))
        now = self._clock.monotonic()
        silent, due = self._memory.unconfirmed(now, UNCONFIRMED_SECONDS)
        self._look_at_presence(nodes)
        for key in (*pods, *silent):
            self._look_at_pod(key)
        away = self._look_at_away(now)
        self._due = min((now + left for left in (due, away) if left is not None), default=None)
        for key, slices in self._index.derive().items():
            source = (DERIVED, *key)
            self._told.put(source, [one for one in slices if self._usable(source, one)])
        self._unwoken |= self._told.commit()
        self._problems.end()
        self._everything = self._urgent = False
        self._memory.save()

    def _find_all(self) -> Iterable[tuple[Source, KubernetesObject | None]]:
        self._policies.clear()
        for kind, struct in KINDS.items():
            for stored in self._store.select(kind):
                yield (kind, stored.namespace, stored.name), decode_json(stored.body, struct)

    def _find(self, sources: Iterable[Source]) -> Iterable[tuple[Source, KubernetesObject | None]]:
        for source in sources:
            stored = self._store.find(*source)
            yield source, decode_json(stored.body, KINDS[source[0]]) if stored else None

    def _take_applied(self, source: Source, found: KubernetesObject | None) -> None:
        kind, namespace, name = source
        self._told.put(source, [found] if found is not None else [])
        if kind == Service.__name__:
            self._index.put_service((namespace, name), found if isinstance(found, Service) else None)
        elif kind == NetworkPolicy.__name__:
            (self._policies.discard if found is None else self._policies.add)((namespace, name))

    def _look_at_membership(self, nodes: Iterable[str]) -> list[Key]:
        """Who is a member now; the pods that there are, or are no more, by that."""
        pods: list[Key] = []
        for name in nodes:
            member = self._is_member(name)
            if member != (name in self._members):
                (self._members.add if member else self._members.discard)(name)
                theirs = {*self._index.pods_on(name), *self._observer.view(name).pods}
                pods += [key for key in theirs if self._memory.look(key)]
        return pods

    def _look_at_places(self, nodes: Iterable[str], *, everything: bool) -> list[Key]:
        """Where nodes are now; the pods that can have other addresses by that."""
        if self._places is not None:
            nodes = self._places.look_at_all() if everything else self._places.look(nodes)
        pods: list[Key] = []
        for name in sorted(nodes):
            place = self._places.get(name) if self._places is not None else None
            self._told.put(("NodeNetwork", "", name), [place] if place is not None else [])
            where = (
                (place.spec.pod_cidrs, place.spec.address) if place is not None else ([], self._said(name)[0])
            )
            if self._where.get(name) != where:
                self._where[name] = where
                pods += self._index.pods_on(name)
        return pods

    def _look_at_presence(self, nodes: Iterable[str]) -> None:
        for name in nodes:
            if self._observer.view(name).online:
                self._offline.pop(name, None)
                self._index.set_gone(name, False)
            else:
                self._offline.setdefault(name, self._clock.monotonic())

    def _look_at_away(self, now: float) -> float | None:
        """Note the nodes that are offline for too long to be sent anything; the seconds until another is."""
        next_one: float | None = None
        for name, since in self._offline.items():
            left = since + GONE_SECONDS - now
            self._index.set_gone(name, left <= 0)
            if left > 0:
                next_one = left if next_one is None else min(next_one, left)
        return next_one

    def _look_at_pod(self, key: Key) -> None:
        """The pod, with those addresses alone that its node can give it."""
        facts, before = self._memory.get(key), self._index.pod(key)
        namespace, name = key
        part = f"{namespace}/{name}"
        if before is not None and (facts is None or facts.node_name != before.node_name):
            self._problems.note(f"pods of node {before.node_name}", "", part=part)
        if facts is not None:
            node = facts.node_name
            if node not in self._where:
                self._look_at_presence([node])
            ranges, host = self._where.get(node) or ([], self._said(node)[0])
            facts, others = with_own_addresses(facts, ranges, host)
            text = (
                f"it says that pod {part} has the address {others[0][:80]!r}, which it cannot give"
                if others
                else ""
            )
            self._problems.note(f"pods of node {node}", text, part=part)
        self._index.put_pod(key, facts)
        address = pod_address(facts) if facts is not None and self._policies else None
        source = ("PodAddress", *key)
        told = [address] if address is not None and self._usable(source, address) else []
        self._told.put(source, told, all_but=facts.node_name if facts is not None else "")

    def _usable(self, source: Source, derived: KubernetesObject) -> bool:
        """Whether nodes take it: with one object that they refuse, they refuse all that they are told."""
        if self._told.has(source, derived):
            return True
        meta = derived.metadata
        about = f"{type(derived).__name__} {meta.namespace}/{meta.name}"
        try:
            validate(derived)
        except InvalidObjectError as error:
            self._problems.note(about, f"nodes are not told this: {error}")
            return False
        self._problems.note(about, "")
        return True

    def _said(self, node: str) -> Said:
        """What the node says of itself."""
        status = self._observer.view(node).status
        if status is None:
            return Said()
        address = next((one.address for one in status.addresses if one.type == "InternalIP"), "")
        return Said(address, status.public_key, status.public_key_proof)
