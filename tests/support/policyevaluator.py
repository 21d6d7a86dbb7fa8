"""What the policies' fragments do with the first packet of a connection, worked out in Python.

It knows the statements that policies are made of, and no others: anything else is an error.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import cache

from edgeagent_network.ruleset import Ruleset

_STATEMENT = re.compile(
    r"(?:(?P<peer>ip6? [sd]addr @\S+) )?"
    r"(?:(?P<named>ip6? daddr) \. meta l4proto \. th dport @(?P<ports>\S+) )?"
    r"(?:meta l4proto (?P<whole>\S+) )?"
    r"(?:(?P<protocol>\S+) dport (?:\{ (?P<several>[^}]+) \}|(?P<one>[\d-]+)) )?accept"
)


class Evaluator:
    """Answers for one ruleset."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.rules: dict[str, tuple[str, ...]] = {}
        self.elements: dict[str, dict[str, str]] = {}
        for fragment in ruleset.values():
            self.rules |= {name: chain.rules for name, chain in fragment.chains.items()}
            for name, members in fragment.elements.items():
                known = self.elements.setdefault(name, {})
                assert not known.keys() & members.keys(), f"{name} has an element twice"
                known |= members

    def passes(self, source: str, target: str, port: int, protocol: str) -> bool:
        """Whether the forward hook lets it pass: egress and then ingress, each by the base's maps."""
        packet = _Packet(self, source, target, port, protocol.lower())
        return packet.may(f"egress{packet.version}", source) and packet.may(
            f"ingress{packet.version}", target
        )


class _Packet:
    def __init__(self, ruleset: Evaluator, source: str, target: str, port: int, protocol: str) -> None:
        self._ruleset = ruleset
        self._source, self._target, self._port, self._protocol = source, target, port, protocol
        self.version = ipaddress.ip_address(source).version

    def may(self, verdicts: str, address: str) -> bool:
        verdict = self._elements(verdicts).get(address)
        if verdict is None:
            return True
        return self._run(verdict.removeprefix("goto ")) == "accept"

    def _run(self, chain: str) -> str:
        for rule in self._ruleset.rules[chain]:
            word, _, rest = rule.partition(" ")
            if word == "jump":
                if verdict := self._run(rest):
                    return verdict
            elif word == "goto":
                return self._run(rest)
            elif word in ("accept", "drop"):
                return word
            elif word not in ("counter", "update") and self._meets(rule):
                return "accept"
        return ""

    def _meets(self, rule: str) -> bool:
        found = _STATEMENT.fullmatch(rule)
        assert found is not None, rule
        if peer := found["peer"]:
            family, side, name = peer.split()
            address = self._source if side == "saddr" else self._target
            if family != self._family or not self._in_set(name[1:], address):
                return False
        if named := found["named"]:
            element = f"{self._target} . {self._protocol} . {self._port}"
            if named.split()[0] != self._family or element not in self._elements(found["ports"]):
                return False
        if found["whole"] is not None and found["whole"] != self._protocol:
            return False
        if found["protocol"] is None:
            return True
        spans = (found["several"] or found["one"]).split(", ")
        return found["protocol"] == self._protocol and any(map(self._numbered, spans))

    @property
    def _family(self) -> str:
        return "ip6" if self.version == 6 else "ip"

    def _numbered(self, span: str) -> bool:
        first, _, last = span.partition("-")
        return int(first) <= self._port <= int(last or first)

    def _in_set(self, name: str, address: str) -> bool:
        number = int(ipaddress.ip_address(address))
        return any(first <= number <= last for first, last in map(_span, self._elements(name)))

    def _elements(self, name: str) -> Mapping[str, str]:
        return self._ruleset.elements.get(name, {})


@cache
def _span(element: str) -> tuple[int, int]:
    if "-" in element:
        first, last = element.split("-")
        return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
    network = ipaddress.ip_network(element)
    return int(network[0]), int(network[-1])
