"""A Service's fragment.

A port of a cluster IP without session affinity is elements of maps alone: the address leads to the chain
``spread-NUMBER-VERSION``, which all ports with so many backends share, and that chain picks one of them in
``backends4`` or ``backends6``. So a change of backends is a handful of elements and costs nft(8) the same
whatever else there is: it reads every chain, set and named counter of the kernel before it changes anything.

Session affinity, node ports, and ports with more than ``MAX_SPREAD`` backends have chains of their own:

* ``service-HASH-VERSION``: where such a cluster IP leads;
* ``node-port-HASH-VERSION``: where a node port leads;
* ``cluster-HASH-VERSION`` and ``local-HASH-VERSION``: the backends of a traffic policy.
"""

from collections.abc import Set

import msgspec

from edgeagent.api.objects.service import ServiceSpec
from edgeagent_network.affinity import remembered, remembering_rules, spread_rule
from edgeagent_network.base import SET_MASQUERADE
from edgeagent_network.endpoints import Target, choose, serving
from edgeagent_network.ruleset import Chain, Fragment
from edgeagent_network.serviceplan import Claim, PlannedPort, ServicePlan
from edgeagent_network.translation import TranslationFragment, UdpRoute

MAX_SPREAD = 32
"""How many backends a port may have that is elements alone."""


class _Draft(msgspec.Struct):
    """The fragment while it grows."""

    chains: dict[str, Chain] = msgspec.field(default_factory=dict)
    sets: dict[str, str] = msgspec.field(default_factory=dict)
    elements: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    udp: set[UdpRoute] = msgspec.field(default_factory=set)

    def add(self, collection: str, key: str, value: str = "") -> None:
        self.elements.setdefault(collection, {})[key] = value


def service_fragment(plan: ServicePlan, lost: Set[Claim]) -> TranslationFragment:
    """The fragment of ``plan`` without the claims that it ``lost``."""
    draft = _Draft()
    for port in plan.ports:
        for version in plan.families:
            _PortRules(draft, plan, port, version).add(lost)
    return TranslationFragment(
        chains=draft.chains, sets=draft.sets, elements=draft.elements, udp=frozenset(draft.udp)
    )


def shared_fragment() -> Fragment:
    """The maps and chains that all cluster IPs share, for every number of backends there may be.

    They must go to the kernel together: nft 1.0.6 does not take a rule for a map with ``typeof`` that is
    there already ("conflicting protocols specified"), so no chain can be made when it is first needed.
    """
    maps: dict[str, str] = {}
    chains: dict[str, Chain] = {}
    for version in (4, 6):
        family = _family(version)
        # CLUSTER-IP . PROTOCOL . PORT . NUMBER : ADDRESS . PORT, with the backends counted from 0
        maps[f"backends{version}"] = (
            f"typeof {family} daddr . meta l4proto . th dport . numgen random mod {MAX_SPREAD} : "
            f"{family} daddr . th dport;"
        )
        for number in range(1, MAX_SPREAD + 1):
            chains[_spread_name(number, version)] = _spread_chain(number, version)
    return Fragment(chains=chains, maps=maps)


def _spread_name(number: int, version: int) -> str:
    return f"spread-{number}-{version}"


def _spread_chain(number: int, version: int) -> Chain:
    family = _family(version)
    return Chain(
        (
            _masquerade_outsiders(version),
            f"dnat {family} addr . port to {family} daddr . meta l4proto . th dport . "
            f"numgen random mod {number} map @backends{version}",
            # A packet between two generations of the maps may find no backend. It is sent again; let through
            # untranslated, conntrack would leave its whole flow so.
            "drop",
        )
    )


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def _masquerade_outsiders(version: int) -> str:
    """Answers to what is no pod must come back this way, from wherever the backend is."""
    return f"{_family(version)} saddr != @cluster{version} {SET_MASQUERADE}"


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
            if address.version == self._version and (address.text, port.protocol, port.port) not in lost:
                self._add_address(address.text, internal)
        if port.node_port and ("", port.protocol, port.node_port) not in lost:
            self._add_node_port()

    def _add_address(self, address: str, targets: tuple[Target, ...]) -> None:
        version, draft = self._version, self._draft
        key = f"{address} . {self._protocol} . {self._port.port}"
        draft.add(f"service_hits{version}", key)
        if not targets:
            draft.add(f"no_endpoints{version}", key, self._no_endpoint_verdict())
            return
        self._add_udp(address, self._port.port)
        if self._plan.affinity_seconds or len(targets) > MAX_SPREAD:
            name = self._name("service")
            draft.chains[name] = Chain((_masquerade_outsiders(version), f"goto {self._pool_chain(targets)}"))
            draft.add(f"service_ips{version}", key, f"goto {name}")
            return
        draft.add(f"service_ips{version}", key, f"goto {_spread_name(len(targets), version)}")
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
        self._add_udp("", self._port.node_port)
        cluster = self._pool_chain(pools.cluster)
        rules = [f"{SET_MASQUERADE} goto {cluster}"]
        if local:
            # Policy Local is for those elsewhere; this node's pods and the host itself have all backends, for
            # answers to them come back this way.
            rules = [
                f"{_family(version)} saddr @local_pods{version} goto {cluster}",
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

    def _add_udp(self, address: str, port: int) -> None:
        """All that serve, though they may be in no pool: one that is ending finishes what it began."""
        if self._port.protocol == "UDP":
            self._draft.udp.update(
                UdpRoute(address, port, target.address.text, target.port)
                for target in serving(self._port.backends, self._spec, self._version)
            )
