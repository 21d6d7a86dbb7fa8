"""``ipBlock`` peers as elements of an interval set: what ``cidr`` holds and no ``except`` takes out."""

import ipaddress
from collections.abc import Iterable, Sequence

from edgeagent.api.objects.policy import IPBlock

Ranges = dict[int, list[tuple[int, int]]]
"""By IP version (4 or 6): first and last address as numbers, sorted, neither touching nor overlapping."""

_ADDRESS = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}
_BITS = {4: 32, 6: 128}


def ranges(blocks: Iterable[IPBlock]) -> Ranges:
    """The addresses of all ``blocks`` together; their CIDRs must have been validated."""
    found: Ranges = {4: [], 6: []}
    for block in blocks:
        outer = ipaddress.ip_network(block.cidr, strict=False)
        holes = merge(_span(text) for text in block.except_)
        at = int(outer.network_address)
        for first, last in holes:
            found[outer.version].append((at, first - 1))
            at = last + 1
        found[outer.version].append((at, int(outer.broadcast_address)))
    return {version: merge(spans) for version, spans in found.items()}


def merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few ranges as can be; a range whose last comes before its first is empty."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(span for span in spans if span[0] <= span[1]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def elements(version: int, spans: Sequence[tuple[int, int]]) -> list[str]:
    """``spans`` as nft(8) writes them: an address, a prefix where there is one, else ``first-last``."""
    return [_element(version, first, last) for first, last in spans]


def holds(spans: Ranges, address: str) -> bool:
    """Whether ``address`` (text that was checked) is in one of the ranges of its version."""
    parsed = ipaddress.ip_address(address)
    return any(first <= int(parsed) <= last for first, last in spans[parsed.version])


def _span(text: str) -> tuple[int, int]:
    network = ipaddress.ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def _element(version: int, first: int, last: int) -> str:
    make = _ADDRESS[version]
    if first == last:
        return str(make(first))
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        return f"{make(first)}/{_BITS[version] - size.bit_length() + 1}"
    return f"{make(first)}-{make(last)}"
