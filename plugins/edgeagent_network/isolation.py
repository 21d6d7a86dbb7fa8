"""The chains that isolated pods are sent through: one for all pods that the same policies isolate.

A packet dropped there counts for each of these policies, since none allowed it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from edgeagent_network.podsets import digest
from edgeagent_network.policyrules import Direction, chain_name
from edgeagent_network.ruleset import Chain, Fragment

Key = tuple[str, str]
"""Namespace and name of a policy."""


class Isolation(NamedTuple):
    """The policies, sorted, that isolate a pod in a direction, and the chain that such pods share."""

    direction: Direction
    chain: str
    policies: tuple[Key, ...]


DROP_CHAIN = "policy_drop"
DROPPED = {4: "dropped4", 6: "dropped6"}
"""Sets of the newest drops, by IP version: ``SOURCE . TARGET . PROTOCOL . PORT`` with a packet counter."""
DROPPED_SIZE = 1024
DROPPED_SECONDS = 3600
LOGS_A_SECOND = 10
COUNTERS_IN_A_RULE = 64
"""The kernel takes 128 expressions in one rule."""


def isolation(direction: Direction, policies: Iterable[Key]) -> Isolation:
    """What the ``policies`` isolate pods as."""
    keys = tuple(sorted(policies))
    return Isolation(direction, f"isolation-{direction}-{digest(*map('/'.join, keys))}", keys)


def isolation_fragment(found: Isolation) -> Fragment:
    """Jumps to the policies' chains, which accept what is allowed; the rest is counted and dropped."""
    names = [chain_name(*key, found.direction) for key in found.policies]
    counters = [f"counter name {name}" for name in names]
    counted = [
        " ".join(counters[start : start + COUNTERS_IN_A_RULE])
        for start in range(0, len(counters), COUNTERS_IN_A_RULE)
    ]
    rules = (*(f"jump {name}" for name in names), *counted, f"goto {DROP_CHAIN}")
    return Fragment(chains={found.chain: Chain(rules)})


def drop_fragment(log_group: int) -> Fragment:
    """The chain that drops, and the sets in which the kernel notes the newest drops.

    ``log_group``: where they are logged too, a group of nfnetlink_log; 0 for nowhere.
    """
    # Each in a rule of its own: a full set ends its rule, and must not keep the packet from being dropped.
    log = f'limit rate {LOGS_A_SECOND}/second log prefix "edgeagent: policy " group {log_group}'
    rules = (
        *((log,) if log_group else ()),
        f"update @{DROPPED[4]} {{ ip saddr . ip daddr . meta l4proto . th dport counter }}",
        f"update @{DROPPED[6]} {{ ip6 saddr . ip6 daddr . meta l4proto . th dport counter }}",
        "drop",
    )
    flags = f"flags dynamic,timeout; size {DROPPED_SIZE}; timeout {DROPPED_SECONDS}s;"
    sets = {
        DROPPED[4]: f"type ipv4_addr . ipv4_addr . inet_proto . inet_service; {flags}",
        DROPPED[6]: f"type ipv6_addr . ipv6_addr . inet_proto . inet_service; {flags}",
    }
    return Fragment(chains={DROP_CHAIN: Chain(rules)}, sets=sets)
