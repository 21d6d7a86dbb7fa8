"""Chains that spread connections over backends, and those that remember each client's.

A backend that clients are remembered for has a set of theirs, and the set goes only with the backend: its
name and declaration depend on nothing else, so that clients of the others stay where they are. The way of
kube-proxy's nftables mode.
"""

import hashlib
from collections.abc import Sequence

from edgeagent.api.objects.service import Protocol
from edgeagent_network.endpoints import Target
from edgeagent_network.ruleset import Chain, Fragment

MAX_AFFINITY_SECONDS = 86_400
NAME_DIGITS = 16


def short_hash(*parts: str | int) -> str:
    """What stands in a name of nftables for names that may hold anything."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:NAME_DIGITS]


def spread_rule(targets: Sequence[Target], protocol: Protocol) -> str:
    """The rule that gives each new connection one of ``targets`` by chance; all are of one family."""
    version = targets[0].address.version
    start = f"meta l4proto {protocol.lower()} dnat {_family(version)}"
    if len(targets) == 1:
        return f"{start} to {targets[0].statement}"
    choices = ", ".join(f"{number} : {target.element}" for number, target in enumerate(targets))
    return f"{start} addr . port to numgen random mod {len(targets)} map {{ {choices} }}"


def remembered(targets: Sequence[Target], protocol: Protocol, port_hash: str, seconds: int) -> Fragment:
    """For each of ``targets`` the chain that leads to it and the set of its clients."""
    chains: dict[str, Chain] = {}
    sets: dict[str, str] = {}
    for target in targets:
        name = _name(target, port_hash, seconds)
        version = target.address.version
        # The set may be full: then the first rule ends and the second still sends the client somewhere.
        chains[f"endpoint-{name}"] = Chain(
            (
                f"update @affinity-{name} {{ {_family(version)} saddr }}",
                spread_rule((target,), protocol),
            )
        )
        sets[f"affinity-{name}"] = (
            f"type ipv{version}_addr; size 65535; flags dynamic,timeout; timeout {seconds}s;"
        )
    return Fragment(chains=chains, sets=sets)


def remembering_rules(targets: Sequence[Target], port_hash: str, seconds: int) -> tuple[str, ...]:
    """The rules that send a client where it was sent before, and a new one to any of ``targets``."""
    names = [_name(target, port_hash, seconds) for target in targets]
    family = _family(targets[0].address.version)
    known = [f"{family} saddr @affinity-{name} goto endpoint-{name}" for name in names]
    if len(names) == 1:
        return (f"goto endpoint-{names[0]}",)
    choices = ", ".join(f"{number} : goto endpoint-{name}" for number, name in enumerate(names))
    return (*known, f"numgen random mod {len(names)} vmap {{ {choices} }}")


def _name(target: Target, port_hash: str, seconds: int) -> str:
    return short_hash(port_hash, target.address.text, target.port, seconds)


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"
