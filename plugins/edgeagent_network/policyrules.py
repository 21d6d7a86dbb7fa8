"""One NetworkPolicy as a fragment that depends on the policy alone: which pods there are is not in it.

The fragment has a chain for each direction that the policy isolates pods in, which accepts what the policy
allows, a counter of the packets that were dropped for want of a rule, and empty sets for the addresses of the
pods that its rules speak of. ``policies`` fills these, a pod at a time.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.network import NamedPort, NetworkPod
from edgeagent.api.objects.policy import (
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    policy_types,
)
from edgeagent.api.objects.selector import LabelSelector, selects
from edgeagent.api.objects.validate import validate_label, validate_name
from edgeagent.api.objects.validate_policy import (
    validate_egress_rule,
    validate_ingress_rule,
    validate_selector,
)
from edgeagent_network.ipblocks import Ranges, elements, holds, merge, ranges
from edgeagent_network.ruleset import Chain, Fragment

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
VERSIONS = (4, 6)
MAX_PORT = 65535

_FAMILY = {4: "ip", 6: "ip6"}
_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


def chain_name(namespace: str, name: str, direction: Direction) -> str:
    """The chain of a policy's direction, which is the name of the counter of its drops too."""
    return f"policy-{direction}-{short_digest(namespace, name)}"


def short_digest(*words: str) -> str:
    """Ten hexadecimal digits that stand for ``words`` in a name."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class PodRule:
    """What of one rule depends on pods: whom it selects, and which ports it has by name.

    ``everyone``: the rule names no peers. ``prefix`` begins the names of its sets.
    """

    direction: Direction
    prefix: str
    path: str
    namespace: str
    everyone: bool
    peers: tuple[NetworkPolicyPeer, ...]
    blocks: Ranges
    named: frozenset[tuple[str, str]]

    def selects(self, pod: NetworkPod, namespace_labels: Mapping[str, str]) -> bool:
        """Whether a selector among the peers selects ``pod``."""
        return any(self._selects(peer, pod, namespace_labels) for peer in self.peers)

    def _selects(self, peer: NetworkPolicyPeer, pod: NetworkPod, namespace_labels: Mapping[str, str]) -> bool:
        if peer.namespace_selector is None:
            if pod.namespace != self.namespace:
                return False
        elif not selects(peer.namespace_selector, namespace_labels):
            return False
        return peer.pod_selector is None or selects(peer.pod_selector, pod.labels)

    def ports_of(self, pod: NetworkPod) -> list[NamedPort]:
        """The ports of ``pod`` that the rule has by name."""
        return [port for port in pod.named_ports if (port.name, port.protocol) in self.named]

    def reaches(self, address: str, *, selected: bool) -> bool:
        """Whether the rule speaks of a pod that is at ``address`` and is, or is not, ``selected``."""
        return self.everyone or selected or holds(self.blocks, address)


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy, checked: ``problems`` says what of it allows nothing because it is no good."""

    policy: NetworkPolicy
    selector: LabelSelector
    directions: tuple[Direction, ...]
    rules: tuple[PodRule, ...]
    fragment: Fragment
    problems: tuple[str, ...]


@dataclass(slots=True)
class _Draft:
    """A fragment while it is made."""

    sets: dict[str, str] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)
    rules: list[PodRule] = field(default_factory=list)


def compile_policy(policy: NetworkPolicy) -> CompiledPolicy:
    """The policy in force as far as it is good. A bad rule allows nothing, and isolates all the same.

    One whose ``podSelector`` is no good isolates every pod of the namespace and allows nothing, for nobody
    knows whom it was to protect.
    """
    meta, spec = policy.metadata, policy.spec
    kinds = policy_types(spec)
    directions = tuple(one for one in DIRECTIONS if one.capitalize() in kinds)
    problems: list[str] = []
    selector = spec.pod_selector
    readable = _holds(partial(validate_selector, selector, "spec.podSelector"), problems)
    draft = _Draft()
    chains: dict[str, Chain] = {}
    for direction in directions:
        statements: list[str] = []
        for index, (path, peers, ports, check) in enumerate(_rules(policy, direction)):
            if _holds(check, problems) and readable:
                prefix = f"{chain_name(meta.namespace, meta.name, direction)}-{index}"
                rule = _pod_rule(policy, direction, prefix, path, peers, ports)
                statements += _statements(rule, ports, draft)
        chains[chain_name(meta.namespace, meta.name, direction)] = Chain(tuple(statements))
    return CompiledPolicy(
        policy=policy,
        selector=selector if readable else LabelSelector(),
        directions=directions,
        rules=tuple(draft.rules),
        fragment=Fragment(chains=chains, sets=draft.sets, counters=tuple(chains), elements=draft.elements),
        problems=tuple(problems),
    )


def check_identity(policy: NetworkPolicy) -> None:
    """InvalidObjectError unless the policy has a name and a namespace that can be one's."""
    validate_name(policy.metadata.name, "metadata.name")
    validate_label(policy.metadata.namespace, "metadata.namespace")


_Rule = tuple[str, list[NetworkPolicyPeer], list[NetworkPolicyPort], Callable[[], None]]


def _rules(policy: NetworkPolicy, direction: Direction) -> Iterator[_Rule]:
    """Path, peers, ports and check of each rule of a direction."""
    if direction == "ingress":
        for index, incoming in enumerate(policy.spec.ingress):
            path = f"spec.ingress[{index}]"
            yield path, incoming.from_, incoming.ports, partial(validate_ingress_rule, incoming, path)
    else:
        for index, outgoing in enumerate(policy.spec.egress):
            path = f"spec.egress[{index}]"
            yield path, outgoing.to, outgoing.ports, partial(validate_egress_rule, outgoing, path)


def _holds(check: Callable[[], None], problems: list[str]) -> bool:
    try:
        check()
    except InvalidObjectError as error:
        problems.append(str(error))
        return False
    return True


def _pod_rule(
    policy: NetworkPolicy,
    direction: Direction,
    prefix: str,
    path: str,
    peers: Sequence[NetworkPolicyPeer],
    ports: Sequence[NetworkPolicyPort],
) -> PodRule:
    return PodRule(
        direction=direction,
        prefix=prefix,
        path=path,
        namespace=policy.metadata.namespace,
        everyone=not peers,
        peers=tuple(peer for peer in peers if peer.ip_block is None),
        blocks=ranges(peer.ip_block for peer in peers if peer.ip_block is not None),
        named=frozenset((port.port, port.protocol) for port in ports if isinstance(port.port, str)),
    )


def _statements(rule: PodRule, ports: Sequence[NetworkPolicyPort], draft: _Draft) -> list[str]:
    """What accepts the packets that the rule allows; the sets that it asks are put into ``draft``."""
    if rule.peers or rule.named:
        draft.rules.append(rule)
    numbered = _numbered(ports)
    by_number = f"meta l4proto . th dport {{ {', '.join(numbered)} }} " if numbered else ""
    found: list[str] = []
    if rule.everyone and (numbered or not ports):
        found.append(f"{by_number}accept")
    for version in VERSIONS:
        peers = [""] if rule.everyone else [f"{match} " for match in _peer_matches(rule, version, draft)]
        if not rule.everyone and (numbered or not ports):
            found += [f"{peer}{by_number}accept" for peer in peers]
        if rule.named:
            name = f"{rule.prefix}-ports{version}"
            draft.sets[name] = f"type {_TYPE[version]} . inet_proto . inet_service;"
            by_name = f"{_FAMILY[version]} daddr . meta l4proto . th dport @{name} accept"
            # On the way out the set says whose port it is, so it holds those of the rule's peers alone.
            found += [by_name] if rule.direction == "egress" else [f"{peer}{by_name}" for peer in peers]
    return found


def _peer_matches(rule: PodRule, version: int, draft: _Draft) -> Iterator[str]:
    match = f"{_FAMILY[version]} {'saddr' if rule.direction == 'ingress' else 'daddr'}"
    if rule.peers:
        name = f"{rule.prefix}-pods{version}"
        draft.sets[name] = f"type {_TYPE[version]};"
        yield f"{match} @{name}"
    if rule.blocks[version]:
        name = f"{rule.prefix}-blocks{version}"
        draft.sets[name] = f"type {_TYPE[version]}; flags interval;"
        draft.elements[name] = dict.fromkeys(elements(version, rule.blocks[version]), "")
        yield f"{match} @{name}"


def _numbered(ports: Iterable[NetworkPolicyPort]) -> list[str]:
    """Elements of ``PROTOCOL . PORTS`` for the ports that are no names, none overlapping another."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for port in ports:
        if port.port is None:
            spans.setdefault(port.protocol, []).append((0, MAX_PORT))
        elif isinstance(port.port, int):
            spans.setdefault(port.protocol, []).append((port.port, port.end_port or port.port))
    return [
        f"{protocol.lower()} . {first if first == last else f'{first}-{last}'}"
        for protocol in sorted(spans)
        for first, last in merge(spans[protocol])
    ]
