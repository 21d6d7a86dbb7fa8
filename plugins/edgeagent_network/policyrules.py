"""One NetworkPolicy as a fragment that depends on the policy alone: which pods there are is not in it.

The fragment has a chain for each direction that the policy isolates pods in, which accepts what the policy
allows, and a counter of the packets that were dropped for want of a rule. The sets of pods that its chains
ask are ``podsets``' and other fragments.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.policy import NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, policy_types
from edgeagent.api.objects.selector import LabelSelector
from edgeagent.api.objects.validate import validate_label, validate_name
from edgeagent.api.objects.validate_policy import (
    validate_egress_rule,
    validate_ingress_rule,
    validate_selector,
)
from edgeagent_network.ipblocks import elements, merge, ranges
from edgeagent_network.podsets import (
    ADDRESS_TYPE,
    FAMILY,
    VERSIONS,
    PodSet,
    digest,
    peer_ports,
    peer_set,
    selected_ports,
)
from edgeagent_network.ruleset import Chain, Fragment

Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")


def chain_name(namespace: str, name: str, direction: Direction) -> str:
    """The chain of a policy's direction, which is the name of the counter of its drops too."""
    return f"policy-{direction}-{digest(namespace, name)}"


class CompiledPolicy(msgspec.Struct, frozen=True):
    """A policy, checked: ``problems`` says what of it allows nothing because it is no good.

    ``paths`` says of each statement of a chain which rule it is of, such as ``spec.ingress[0]``. ``sets`` are
    those that the fragment's chains ask; ``named`` those of them that hold ports by name, with
    the path of the rule that does and whose ports they are.
    """

    policy: NetworkPolicy
    selector: LabelSelector
    directions: tuple[Direction, ...]
    sets: Mapping[str, PodSet]
    named: tuple[tuple[str, str, PodSet], ...]
    fragment: Fragment
    paths: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]


class _Rule(msgspec.Struct, frozen=True):
    """A rule of either direction. ``check`` raises InvalidObjectError where it is no good."""

    direction: Direction
    path: str
    prefix: str
    peers: Sequence[NetworkPolicyPeer]
    ports: Sequence[NetworkPolicyPort]
    check: Callable[[], None]


class _Draft(msgspec.Struct):
    """What is put together while the rules of a policy are read."""

    policy: NetworkPolicy
    pod_sets: dict[str, PodSet] = msgspec.field(default_factory=dict)
    named: list[tuple[str, str, PodSet]] = msgspec.field(default_factory=list)
    sets: dict[str, str] = msgspec.field(default_factory=dict)
    elements: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)

    def ask(self, pods: PodSet, version: int) -> str:
        """The name of a set of pods that a statement asks."""
        self.pod_sets[pods.name] = pods
        return f"@{pods.of_version(version)}"


def compile_policy(policy: NetworkPolicy) -> CompiledPolicy:
    """The policy in force as far as it is good. A bad rule allows nothing, and isolates all the same.

    One whose ``podSelector`` is no good isolates every pod of the namespace and allows nothing, for nobody
    knows whom it was to protect.
    """
    kinds = policy_types(policy.spec)
    directions = tuple(one for one in DIRECTIONS if one.capitalize() in kinds)
    problems: list[str] = []
    selector = policy.spec.pod_selector
    readable = _holds(partial(validate_selector, selector, "spec.podSelector"), problems)
    draft = _Draft(policy)
    chains: dict[str, Chain] = {}
    paths: dict[str, tuple[str, ...]] = {}
    for direction in directions:
        statements: list[str] = []
        of_rules: list[str] = []
        for rule in _rules(policy, direction):
            if _holds(rule.check, problems) and readable:
                statements += _statements(rule, draft)
                of_rules += [rule.path] * (len(statements) - len(of_rules))
        chain = chain_name(policy.metadata.namespace, policy.metadata.name, direction)
        chains[chain] = Chain(tuple(statements))
        paths[chain] = tuple(of_rules)
    return CompiledPolicy(
        policy=policy,
        selector=selector if readable else LabelSelector(),
        directions=directions,
        sets=draft.pod_sets,
        named=tuple(draft.named),
        fragment=Fragment(chains=chains, sets=draft.sets, counters=tuple(chains), elements=draft.elements),
        paths=paths,
        problems=tuple(problems),
    )


def check_identity(policy: NetworkPolicy) -> None:
    """InvalidObjectError unless the policy has a name and a namespace that can be one's."""
    validate_name(policy.metadata.name, "metadata.name")
    validate_label(policy.metadata.namespace, "metadata.namespace")


def _rules(policy: NetworkPolicy, direction: Direction) -> Iterator[_Rule]:
    meta, spec = policy.metadata, policy.spec
    chain = chain_name(meta.namespace, meta.name, direction)
    if direction == "ingress":
        for index, incoming in enumerate(spec.ingress):
            path = f"spec.ingress[{index}]"
            check = partial(validate_ingress_rule, incoming, path)
            yield _Rule(direction, path, f"{chain}-{index}", incoming.from_, incoming.ports, check)
    else:
        for index, outgoing in enumerate(spec.egress):
            path = f"spec.egress[{index}]"
            check = partial(validate_egress_rule, outgoing, path)
            yield _Rule(direction, path, f"{chain}-{index}", outgoing.to, outgoing.ports, check)


def _holds(check: Callable[[], None], problems: list[str]) -> bool:
    try:
        check()
    except InvalidObjectError as error:
        problems.append(str(error))
        return False
    return True


def _statements(rule: _Rule, draft: _Draft) -> list[str]:
    """What accepts the packets that the rule allows; the sets that it asks are put into ``draft``."""
    selecting = [peer for peer in rule.peers if peer.ip_block is None]
    blocks = ranges(peer.ip_block for peer in rule.peers if peer.ip_block is not None)
    names = frozenset((port.port, port.protocol) for port in rule.ports if isinstance(port.port, str))
    by_number = [f"{match} " for match in _port_matches(rule.ports)] if rule.ports else [""]
    if not rule.peers and not names:
        return [f"{ports}accept" for ports in by_number]
    meta = draft.policy.metadata
    pods = peer_set(meta.namespace, selecting) if selecting else None
    named: PodSet | None = None
    if names:
        if rule.direction == "egress":
            named = peer_ports(meta.namespace, selecting, blocks, names)
        else:
            selected = NetworkPolicyPeer(pod_selector=draft.policy.spec.pod_selector)
            named = selected_ports(meta.namespace, selected, names)
        draft.named.append((rule.path, rule.direction, named))
    found: list[str] = []
    side = "saddr" if rule.direction == "ingress" else "daddr"
    for version in VERSIONS:
        peers = [] if rule.peers else [""]
        if pods is not None:
            peers.append(f"{FAMILY[version]} {side} {draft.ask(pods, version)} ")
        if blocks[version]:
            name = f"{rule.prefix}-blocks{version}"
            draft.sets[name] = f"type {ADDRESS_TYPE[version]}; flags interval;"
            draft.elements[name] = dict.fromkeys(elements(version, blocks[version]), "")
            peers.append(f"{FAMILY[version]} {side} @{name} ")
        found += [f"{peer}{ports}accept" for peer in peers for ports in by_number]
        if named is not None:
            match = f"{FAMILY[version]} daddr . meta l4proto . th dport {draft.ask(named, version)} accept"
            # On the way out the set says whose port it is, so it holds those of the rule's peers alone.
            found += [match] if rule.direction == "egress" else [f"{peer}{match}" for peer in peers]
    return list(dict.fromkeys(found))


def _port_matches(ports: Iterable[NetworkPolicyPort]) -> Iterator[str]:
    """A match for each protocol, of the ports that are no names."""
    spans: dict[str, list[tuple[int, int]]] = {}
    whole: set[str] = set()
    for port in ports:
        if port.port is None:
            whole.add(port.protocol)
        elif isinstance(port.port, int):
            spans.setdefault(port.protocol, []).append((port.port, port.end_port or port.port))
    for protocol in sorted(spans.keys() | whole):
        if protocol in whole:
            yield f"meta l4proto {protocol.lower()}"
            continue
        texts = [f"{first}-{last}" if last > first else str(first) for first, last in merge(spans[protocol])]
        together = texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"
        yield f"{protocol.lower()} dport {together}"
