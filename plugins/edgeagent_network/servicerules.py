"""A Service's fragment.

A port of a cluster IP without session affinity is elements of maps alone: the address leads to the chain
``spread-NUMBER-VERSION``, which all ports with so many backends share, and that chain picks one of them in
``backends4`` or ``backends6``. So a change of backends is a handful of elements and costs nft(8) the same
whatever else there is: it reads every chain, set and named counter of the kernel before it changes a rule.

Session affinity and node ports have chains of their own:

* ``service-HASH-VERSION``: where a cluster IP with affinity leads;
* ``node-port-HASH-VERSION``: where a node port leads;
* ``cluster-HASH-VERSION`` and ``local-HASH-VERSION``: the backends of a traffic policy.
"""

from collections.abc import Set
from dataclasses import dataclass, field

from edgeagent.api.objects.service import ServiceSpec
from edgeagent_network.affinity import remembered, remembering_rules, spread_rule
from edgeagent_network.base import SET_MASQUERADE, TRANSPORTS
from edgeagent_network.endpoints import Target, choose
from edgeagent_network.ruleset import Chain, Fragment
from edgeagent_network.serviceplan import Claim, PlannedPort, ServicePlan
from edgeagent_network.translation import TranslationFragment, UdpRoute

Spread = tuple[int, int]
"""Over how many backends, of which IP version."""


@dataclass(slots=True)
class _Draft:
    """The fragment while it grows."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    udp: set[UdpRoute] = field(default_factory=set)
    spreads: set[Spread] = field(default_factory=set)

    def add(self, collection: str, key: str, value: str = "") -> None:
        self.elements.setdefault(collection, {})[key] = value


def service_fragment(plan: ServicePlan, lost: Set[Claim]) -> tuple[TranslationFragment, frozenset[Spread]]:
    """The fragment of ``plan`` without the claims that it ``lost``, and the spreads that it leads to."""
    draft = _Draft()
    for port in plan.ports:
        for version in plan.families:
            _PortRules(draft, plan, port, version).add(lost)
    fragment = TranslationFragment(
        chains=draft.chains, sets=draft.sets, elements=draft.elements, udp=frozenset(draft.udp)
    )
    return fragment, frozenset(draft.spreads)


def spread_fragment(spreads: Set[Spread]) -> Fragment:
    """The chains that all cluster IPs share."""
    return Fragment(chains={_spread_name(spread): _spread_chain(spread) for spread in sorted(spreads)})


def _spread_name(spread: Spread) -> str:
    return f"spread-{spread[0]}-{spread[1]}"


def _spread_chain(spread: Spread) -> Chain:
    number, version = spread
    family = "ip" if version == 4 else "ip6"
    return Chain(
        (
            _masquerade_outsiders(version),
            f"{TRANSPORTS} dnat {family} addr . port to {family} daddr . meta l4proto . th dport . "
            f"numgen random mod {number} map @backends{version}",
            # A packet between two generations of the maps may find no backend. It is sent again; let through
            # untranslated, conntrack would leave its whole flow so.
            "drop",
        )
    )


def _masquerade_outsiders(version: int) -> str:
    """Answers to what is no pod must come back this way, from wherever the backend is."""
    return f"{'ip' if version == 4 else 'ip6'} saddr != @cluster{version} {SET_MASQUERADE}"


class _PortRules:
    """One port of one Service in one IP family."""

    def __init__(self, draft: _Draft, plan: ServicePlan, port: PlannedPort, version: int) -> None:
        self._draft = draft
        self._plan = plan
        self._port = port
        self._version = version
        self._pools = choose(port.backends, self._spec, version)
        self._protocol = port.protocol.lower()

    @property
    def _spec(self) -> ServiceSpec:
        return self._plan.source.service.spec

    def add(self, lost: Set[Claim]) -> None:
        port = self._port
        internal = self._pools.local if self._spec.internal_traffic_policy == "Local" else self._pools.cluster
        for address in self._plan.addresses:
            if address.version == self._version and (str(address), port.protocol, port.port) not in lost:
                self._add_address(str(address), internal)
        if port.node_port and ("", port.protocol, port.node_port) not in lost:
            self._add_node_port()

    def _add_address(self, address: str, targets: tuple[Target, ...]) -> None:
        version, draft = self._version, self._draft
        key = f"{address} . {self._protocol} . {self._port.port}"
        draft.add(f"service_hits{version}", key)
        if not targets:
            draft.add(f"no_endpoints{version}", key, self._no_endpoint_verdict())
            return
        self._add_udp(address, self._port.port, targets)
        if self._plan.affinity_seconds:
            name = self._name("service")
            draft.chains[name] = Chain((_masquerade_outsiders(version), f"goto {self._pool_chain(targets)}"))
            draft.add(f"service_ips{version}", key, f"goto {name}")
            return
        spread = len(targets), version
        draft.spreads.add(spread)
        draft.add(f"service_ips{version}", key, f"goto {_spread_name(spread)}")
        for number, target in enumerate(targets):
            draft.add(f"backends{version}", f"{key} . {number}", target.element)

    def _add_node_port(self) -> None:
        version, draft, pools = self._version, self._draft, self._pools
        local = self._spec.external_traffic_policy == "Local"
        key = f"{self._protocol} . {self._port.node_port}"
        draft.add("node_port_hits", key)
        targets = pools.local if local else pools.cluster
        if not targets:
            draft.add(f"no_endpoint_node_ports{version}", key, self._no_endpoint_verdict())
        if not pools.cluster:
            return
        self._add_udp("", self._port.node_port, (*pools.cluster, *targets))
        cluster = self._pool_chain(pools.cluster)
        rules = [f"{SET_MASQUERADE} goto {cluster}"]
        if local:
            # Policy Local is for those outside of the cluster; pods and this host itself have all backends.
            family = "ip" if version == 4 else "ip6"
            rules = [
                f"{family} saddr @cluster{version} goto {cluster}",
                f"fib saddr type local {SET_MASQUERADE} goto {cluster}",
            ]
            if targets:
                rules.append(f"goto {self._pool_chain(targets)}")
        name = self._name("node-port")
        draft.chains[name] = Chain(tuple(rules))
        draft.add(f"node_ports{version}", key, f"goto {name}")

    def _no_endpoint_verdict(self) -> str:
        """Refused where no backend is anywhere; where there are, but none for this, others may serve it."""
        return "drop" if self._pools.cluster else "goto refuse"

    def _pool_chain(self, targets: tuple[Target, ...]) -> str:
        name = self._name("cluster" if targets == self._pools.cluster else "local")
        port, seconds = self._port, self._plan.affinity_seconds
        if name not in self._draft.chains:
            rules: tuple[str, ...] = (spread_rule(targets, port.protocol),)
            if seconds:
                endpoints = remembered(targets, port.protocol, port.hash, seconds)
                self._draft.chains.update(endpoints.chains)
                self._draft.sets.update(endpoints.sets)
                rules = remembering_rules(targets, port.hash, seconds)
            self._draft.chains[name] = Chain(rules)
        return name

    def _name(self, kind: str) -> str:
        return f"{kind}-{self._port.hash}-{self._version}"

    def _add_udp(self, address: str, port: int, targets: tuple[Target, ...]) -> None:
        if self._port.protocol == "UDP":
            self._draft.udp.update(
                UdpRoute(address, port, str(target.address), target.port) for target in targets
            )
