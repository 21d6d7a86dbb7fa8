"""What Services and host ports make of a new connection's target, read from the ruleset in force."""

import ipaddress
from collections.abc import Callable, Sequence

import msgspec

from edgeagent_network.endpoints import Target, choose, parse_address
from edgeagent_network.serviceplan import PlannedPort, ServicePlan
from edgeagent_network.traceflow import DROPPED, MAX_BACKENDS_TOLD, REFUSED, Flow
from edgeagent_network.view import RulesetView


class Translated(msgspec.Struct):
    """Where a packet goes instead; ``targets`` empty: nowhere, and ``verdict`` says why."""

    lines: list[str] = msgspec.field(default_factory=list)
    targets: Sequence[Target] = ()
    masquerade: bool = False
    verdict: str = ""


class Translator:
    """Of the ruleset in force. ``plan`` gives a Service's by its key, ``host`` are the node's own addresses,
    and ``name`` says whose an address is.
    """

    def __init__(
        self,
        view: RulesetView,
        plan: Callable[[str], ServicePlan | None],
        host: frozenset[str],
        name: Callable[[str], str],
    ) -> None:
        self._view = view
        self._plan = plan
        self._host = host
        self._name = name

    def translate(self, flow: Flow) -> Translated | None:
        """What Services and host ports make of the target; None where it stays as it is."""
        if ipaddress.ip_address(flow.target).is_loopback:
            return None
        view, version = self._view, flow.version
        short = f"{flow.protocol.lower()} . {flow.port}"
        key = f"{flow.target} . {short}"
        if (found := view.find(f"service_ips{version}", key)) is not None:
            owner, plan, port = self._planned(found.fragment, flow, node_port=False)
            internal = plan.source.service.spec.internal_traffic_policy == "Local"
            pools = choose(port.backends, plan.source.service.spec, version)
            targets = pools.local if internal else pools.cluster
            outside = not view.holds(f"cluster{version}", flow.source)
            return _spread(f"Service {owner}", flow, targets, outside, plan)
        if (found := view.find(f"no_endpoints{version}", key)) is not None:
            return _nowhere(found.fragment.partition(" ")[2], found.value)
        if flow.target not in self._host:
            return None
        if (node := self._node_port(flow, short)) is not None:
            return node
        for name, one in ((f"host_ip_ports{version}", key), (f"host_ports{version}", short)):
            if (found := view.find(name, one)) is not None:
                address, _, number = found.value.rpartition(" . ")
                target = _target(address, int(number))
                line = f"host port {flow.service} leads to {self._name(address)}, port {number}"
                return Translated([line], (target,))
        return None

    def _node_port(self, flow: Flow, short: str) -> Translated | None:
        view, version = self._view, flow.version
        found = view.find(f"node_ports{version}", short)
        none = view.find(f"no_endpoint_node_ports{version}", short)
        if found is not None:
            owner, plan, port = self._planned(found.fragment, flow, node_port=True)
            spec = plan.source.service.spec
            pools = choose(port.backends, spec, version)
            local = spec.external_traffic_policy == "Local"
            own_pod = view.holds(f"local_pods{version}", flow.source)
            inside = own_pod or flow.source in self._host
            targets = pools.local if local and not inside else pools.cluster
            if targets:
                masquerade = not own_pod if local and inside else not local
                return _spread(f"node port {flow.port} of Service {owner}", flow, targets, masquerade, plan)
        if none is not None:
            return _nowhere(none.fragment.partition(" ")[2], none.value)
        return None

    def _planned(self, key: str, flow: Flow, *, node_port: bool) -> tuple[str, ServicePlan, PlannedPort]:
        owner = key.partition(" ")[2]
        plan = self._plan(owner)
        for port in plan.ports if plan is not None else ():
            number = port.node_port if node_port else port.port
            if plan is not None and (number, port.protocol) == (flow.port, flow.protocol):
                return owner, plan, port
        raise ValueError(f"{key} is in force without a plan for {flow.service}")


def _spread(
    what: str, flow: Flow, targets: Sequence[Target], masquerade: bool, plan: ServicePlan
) -> Translated:
    shown = ", ".join(target.statement for target in targets[:MAX_BACKENDS_TOLD])
    more = len(targets) - MAX_BACKENDS_TOLD
    sticky = f"; a client keeps its own for {plan.affinity_seconds} s" if plan.affinity_seconds else ""
    line = (
        f"{what} maps {flow.target} port {flow.service} to one of {len(targets)}: {shown}"
        f"{f' and {more} more' if more > 0 else ''}{sticky}"
    )
    return Translated([line], targets, masquerade)


def _nowhere(owner: str, verdict: str) -> Translated:
    if verdict == "drop":
        line = f"Service {owner} has endpoints, but none that its traffic policy Local allows here"
        return Translated([line], verdict=f"{DROPPED}: no local endpoint of Service {owner}")
    line = f"Service {owner} has no endpoint that is ready"
    return Translated([line], verdict=f"{REFUSED}: Service {owner} has no endpoint")


def _target(address: str, port: int) -> Target:
    return Target(parse_address(address), port)
