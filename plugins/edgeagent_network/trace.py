"""The way of a new connection through this node, told from the ruleset in force: ``edgeagent network trace``.

Nothing is decided here that the kernel does not decide: maps and sets are the fragments' own elements, and a
policy's rules are the statements that were put in force.
"""

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import NetworkPod, NetworkState
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent_network.endpoints import MAX_PORT, parse_address
from edgeagent_network.isolation import Key
from edgeagent_network.policyrules import CompiledPolicy, Direction
from edgeagent_network.programs import Runner
from edgeagent_network.ruleset import Ruleset
from edgeagent_network.serviceplan import ServicePlan
from edgeagent_network.traceflow import ALLOWED, DROPPED, MAX_BACKENDS_TOLD, Flow
from edgeagent_network.tracepolicies import PolicyReader
from edgeagent_network.tracetranslation import Translator
from edgeagent_network.view import RulesetView, canonical

_MAX_LISTING_CHARACTERS = 4_000_000


class _End(msgspec.Struct, frozen=True):
    """What was named: its addresses by IP version."""

    name: str
    addresses: Mapping[int, str]


class Tracer:
    """Of one state, and the ruleset that is in force for it. ``plan`` gives a Service's by its key.

    ``host_firewall`` tells what the node's own firewall does with what is for the node itself: whether it
    passes, and why.
    """

    def __init__(
        self,
        state: NetworkState,
        ruleset: Ruleset,
        run: Runner,
        *,
        plan: Callable[[str], ServicePlan | None],
        policies: Mapping[Key, CompiledPolicy],
        host_firewall: Callable[[Flow], tuple[bool, str]],
    ) -> None:
        self._state = state
        self._view = RulesetView(ruleset)
        self._run = run
        self._plan = plan
        self._host_firewall = host_firewall
        self._policies = PolicyReader(self._view, policies, self._name)
        self._pods: dict[str, NetworkPod] = {}
        for pod in (*state.remote_pods, *state.pods):
            if not pod.host_network:
                self._pods |= dict.fromkeys(canonical(pod.ips), pod)
        self._here = {pod.uid for pod in state.pods}
        self._host: frozenset[str] = frozenset()

    def trace(self, source: str, target: str, port: int, protocol: Transport) -> list[str]:
        """See ``edgeagent.api.network.Network``. Ends are addresses, or ``NAMESPACE/NAME`` of a pod or, the
        target, of a Service. The last line begins with ``allowed``, ``dropped`` or ``refused``.

        PermanentError (``NotFound``, ``BadRequest``) where there is no such end, or no family both have.
        """
        if not 0 < port <= MAX_PORT:
            raise _bad(f"port {port}: ports are 1 to {MAX_PORT}")
        start = self._end(source, services=False)
        end = self._end(target, services=True)
        version = next((one for one in (4, 6) if one in start.addresses and one in end.addresses), 0)
        if not version:
            raise _bad(f"{start.name} and {end.name} have no address of one IP family")
        self._host = self._host_addresses()
        flow = Flow(start.addresses[version], end.addresses[version], port, protocol)
        lines = [f"from {self._name(flow.source)} to {self._name(flow.target)}, port {flow.service}"]
        translated = Translator(self._view, self._plan, self._host, self._name).translate(flow)
        if translated is None:
            verdict = self._carry(flow, masquerade=False, lines=lines)
            return [*lines, verdict]
        lines += translated.lines
        if not translated.targets:
            return [*lines, translated.verdict]
        verdicts = []
        for one in translated.targets[:MAX_BACKENDS_TOLD]:
            inner: list[str] = []
            lines.append(f"to {self._name(one.address.text)}, port {one.port}/{protocol}:")
            verdicts.append(self._carry(flow.to(one), masquerade=translated.masquerade, lines=inner))
            lines += [f"  {line}" for line in (*inner, verdicts[-1])]
        return [*lines, _together(verdicts)]

    # Ends

    def _end(self, text: str, *, services: bool) -> _End:
        if "/" not in text:
            try:
                address = parse_address(text)
            except ValueError as error:
                raise _bad(f"{error}, and no NAMESPACE/NAME of a pod or Service") from None
            return _End(address.text, {address.version: address.text})
        namespace, _, name = text.partition("/")
        for one in self._state.services if services else ():
            meta, spec = one.service.metadata, one.service.spec
            if (meta.namespace, meta.name) == (namespace, name):
                plan = self._plan(f"{namespace}/{name}")
                if plan is None or not plan.addresses:
                    raise _bad(
                        f"Service {text} ({spec.type}) has no cluster IP in force: name one of its pods"
                    )
                return _End(f"Service {text}", _first(address.text for address in plan.addresses))
        for pod in (*self._state.pods, *self._state.remote_pods):
            if (pod.namespace, pod.name) == (namespace, name):
                if not (ips := canonical(pod.ips)):
                    raise _bad(f"pod {text} has no address yet")
                return _End(f"pod {text}", _first(ips))
        what = "pod or Service" if services else "pod"
        raise PermanentError(f"this node knows no {what} {text[:520]}", reason="NotFound")

    def _host_addresses(self) -> frozenset[str]:
        text = self._run(["ip", "-j", "address", "show"])
        if len(text) > _MAX_LISTING_CHARACTERS:
            raise _bad("the node has too many addresses")
        links: list[dict[str, Any]] = json.loads(text or "[]")
        return frozenset(
            one["local"] for link in links for one in link.get("addr_info", ()) if "local" in one
        )

    def _name(self, address: str) -> str:
        if (pod := self._pods.get(address)) is not None:
            where = "" if pod.uid in self._here else f" on node {pod.node or 'unknown'}"
            return f"pod {pod.namespace}/{pod.name} ({address}){where}"
        return f"{address} (this node)" if address in self._host else address

    # Policies, and where it leaves

    def _carry(self, flow: Flow, *, masquerade: bool, lines: list[str]) -> str:
        """Tell the way to the (translated) target; the verdict."""
        if flow.target in self._host:
            return self._into_host(flow, lines)
        if flow.source in self._host:
            lines.append("it is the node's own: NetworkPolicies are not asked")
        elif flow.source == flow.target:
            lines.append("the pod reaches itself: NetworkPolicies are not asked")
            masquerade = True
        else:
            for direction in ("egress", "ingress"):
                address = flow.source if direction == "egress" else flow.target
                if (dropped := self._ask(direction, address, flow, lines)) is not None:
                    return dropped
        if masquerade or self._leaves(flow):
            lines.append("its source becomes this node's own address (masquerade)")
        return self._route(flow, lines)

    def _into_host(self, flow: Flow, lines: list[str]) -> str:
        lines.append("it is for this node itself: NetworkPolicies are not asked")
        passes, why = self._host_firewall(flow)
        if why:
            lines.append(why)
        return ALLOWED if passes else f"{DROPPED} by the host's firewall"

    def _ask(self, direction: Direction, address: str, flow: Flow, lines: list[str]) -> str | None:
        """Whether policies drop it, and why."""
        pod = self._pods.get(address)
        if pod is not None and pod.uid not in self._here:
            lines.append(f"{direction} policies of {self._name(address)} are asked there")
            return None
        return self._policies.ask(direction, address, flow, lines)

    def _leaves(self, flow: Flow) -> bool:
        """Whether a pod's packet goes to what is no part of the cluster."""
        view, version = self._view, flow.version
        return (
            view.holds(f"local_pods{version}", flow.source)
            and not view.holds(f"cluster{version}", flow.target)
            and not ipaddress.ip_address(flow.target).is_multicast
        )

    def _route(self, flow: Flow, lines: list[str]) -> str:
        found = self._way(flow.target)
        pod = self._pods.get(flow.target)
        if found is None:
            return f"{DROPPED}: this node has no route to {flow.target}"
        device = str(found.get("dev", "?"))
        via = f" via {found['gateway']}" if "gateway" in found else ""
        if pod is None or pod.uid in self._here:
            lines.append(f"it leaves by {device}{via}")
            return ALLOWED
        own = next((one.spec for one in self._state.nodes if one.metadata.name == self._state.node), None)
        overlay = own.overlay if own is not None else "none"
        lines.append(f"it leaves by {device}{via} to node {pod.node or 'unknown'} (overlay {overlay})")
        return f"{ALLOWED} here; ingress policies are asked on node {pod.node or 'unknown'}"

    def _way(self, target: str) -> dict[str, Any] | None:
        """The kernel's route to ``target``; None where there is none."""
        text = self._run(["ip", "-j", "route", "get", target], check=False)
        routes: list[dict[str, Any]] = json.loads(text[:_MAX_LISTING_CHARACTERS]) if text.strip() else []
        if not routes or routes[0].get("type") in ("unreachable", "blackhole", "prohibit"):
            return None
        return routes[0]


def _together(verdicts: Sequence[str]) -> str:
    """One verdict on all backends."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    good = sum(one.startswith(ALLOWED) for one in verdicts)
    if good == len(verdicts):
        return ALLOWED
    if not good:
        return f"{DROPPED} to every one of these backends"
    return f"{ALLOWED} to {good} of {len(verdicts)} backends, dropped to the others"


def _first(texts: Iterable[str]) -> dict[int, str]:
    """The first address of each IP version."""
    found: dict[int, str] = {}
    for text in texts:
        found.setdefault(6 if ":" in text else 4, text)
    return found


def _bad(message: str) -> PermanentError:
    return PermanentError(message, reason="BadRequest")
