"""The ruleset in force, asked what the kernel asks of it: who brought an element, what a set holds."""

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edgeagent_network.endpoints import parse_address
from edgeagent_network.ruleset import Ruleset


class Found(NamedTuple):
    """An element: the key of the fragment that brought it, and its value."""

    fragment: str
    value: str


class RulesetView:
    """Looks only when it is asked, so that nothing has to be kept beside the ruleset."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset

    def find(self, collection: str, key: str) -> Found | None:
        """The element ``key`` of a set or map."""
        for name, fragment in self._ruleset.items():
            value = fragment.elements.get(collection, {}).get(key)
            if value is not None:
                return Found(name, value)
        return None

    def elements(self, collection: str) -> Iterator[str]:
        """The keys of all elements of a set or map."""
        for fragment in self._ruleset.values():
            yield from fragment.elements.get(collection, ())

    def holds(self, collection: str, address: str) -> bool:
        """Whether a set of addresses, of single ones or of ranges, has ``address`` in it."""
        number = int(ipaddress.ip_address(address))
        return any(first <= number <= last for first, last in map(_span, self.elements(collection)))

    def rules(self, chain: str) -> tuple[str, ...]:
        """A chain's rules; none where there is no such chain."""
        for fragment in self._ruleset.values():
            if (found := fragment.chains.get(chain)) is not None:
                return found.rules
        return ()


def canonical(ips: Iterable[str]) -> list[str]:
    """Addresses as sets have them; what is none is left out."""
    found = []
    for ip in ips:
        with contextlib.suppress(ValueError):
            found.append(parse_address(ip).text)
    return found


def _span(element: str) -> tuple[int, int]:
    first, _, last = element.partition("-")
    if last:
        return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
    network = ipaddress.ip_network(first)
    return int(network.network_address), int(network.broadcast_address)
