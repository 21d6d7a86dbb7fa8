"""What NetworkPolicies make of a new connection: statements that are in force, read as the kernel does.

The statements of ``policyrules`` are the only ones that are read; another is a bug, and raises ValueError.
"""

import re
from collections.abc import Callable, Mapping

from edgeagent_network.isolation import Key
from edgeagent_network.policyrules import DIRECTIONS, CompiledPolicy, Direction, chain_name
from edgeagent_network.traceflow import DROPPED, Flow
from edgeagent_network.view import RulesetView

_VERSION_OF = {"ip": 4, "ip6": 6}
_STATEMENT = re.compile(
    r"(?:(?P<peer>ip6? [sd]addr @\S+) )?"
    r"(?:(?P<named>ip6? daddr) \. meta l4proto \. th dport @(?P<ports>\S+) )?"
    r"(?:meta l4proto (?P<whole>\S+) )?"
    r"(?:(?P<protocol>\S+) dport (?:\{ (?P<several>[^}]+) \}|(?P<one>[\d-]+)) )?accept"
)


class PolicyReader:
    """Of the ruleset in force and the policies in it. ``name`` says whose an address is."""

    def __init__(
        self, view: RulesetView, policies: Mapping[Key, CompiledPolicy], name: Callable[[str], str]
    ) -> None:
        self._view = view
        self._name = name
        self._chains = {
            chain_name(*key, direction): (key, policy)
            for key, policy in policies.items()
            for direction in DIRECTIONS
        }

    def ask(self, direction: Direction, address: str, flow: Flow, lines: list[str]) -> str | None:
        """Why policies of the pod that has ``address`` drop it, None where they do not; adds ``lines``."""
        name = self._name(address)
        found = self._view.find(f"{direction}{flow.version}", address)
        if found is None:
            lines.append(f"no policy isolates {name} for {direction}")
            return None
        chain = found.value.removeprefix("goto ")
        asked = [rule.removeprefix("jump ") for rule in self._view.rules(chain) if rule.startswith("jump ")]
        names = ", ".join("/".join(self._chains[one][0]) for one in asked)
        lines.append(f"{name} is isolated for {direction} by {names}")
        for one in asked:
            key, policy = self._chains[one]
            paths = policy.paths.get(one, ())
            for rule, path in zip(self._view.rules(one), paths, strict=False):
                if self._meets(rule, flow):
                    lines.append(f"NetworkPolicy {'/'.join(key)} allows it by {path}")
                    return None
        return f"{DROPPED}: no {direction} rule of NetworkPolicy {names} allows it"

    def _meets(self, rule: str, flow: Flow) -> bool:
        found = _STATEMENT.fullmatch(rule)
        if found is None:
            raise ValueError(f"no statement of a policy: {rule}")
        if peer := found["peer"]:
            family, side, name = peer.split()
            address = flow.source if side == "saddr" else flow.target
            if _VERSION_OF[family] != flow.version or not self._view.holds(name[1:], address):
                return False
        protocol = flow.protocol.lower()
        if named := found["named"]:
            element = f"{flow.target} . {protocol} . {flow.port}"
            same = _VERSION_OF[named.split()[0]] == flow.version
            if not same or self._view.find(found["ports"], element) is None:
                return False
        if found["whole"] is not None and found["whole"] != protocol:
            return False
        if found["protocol"] is None:
            return True
        spans = (found["several"] or found["one"]).split(", ")
        return found["protocol"] == protocol and any(_has(span, flow.port) for span in spans)


def _has(span: str, port: int) -> bool:
    first, _, last = span.partition("-")
    return int(first) <= port <= int(last or first)
