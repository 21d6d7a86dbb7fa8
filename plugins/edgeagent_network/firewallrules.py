"""A HostFirewall as a fragment: one chain that packets for the host itself pass, and what it asks.

What no rule may take away is there first: the loopback, replies, what IPv6 and path MTU discovery live by,
DHCP, the node's own pods, and the overlay. What leaves the host, and what is forwarded to pods, is not seen.
"""

from collections.abc import Iterator, Sequence

import msgspec

from edgeagent.api.network import NetworkState
from edgeagent.api.objects.network import FirewallRule, HostFirewall
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent_network.config import NetworkConfig
from edgeagent_network.endpoints import parse_address
from edgeagent_network.ipblocks import elements, holds, merge, ranges
from edgeagent_network.podsets import ADDRESS_TYPE, FAMILY, VERSIONS
from edgeagent_network.ruleset import Chain, Fragment

CHAIN = "host_input"
COUNTER = "host_firewall_drops"
_PEERS = "host_firewall_peers"
# RFC 4890, section 4.4: what must not be dropped. Echo requests are for rules to allow.
_ALWAYS = (
    'iifname "lo" accept',
    "ct state established,related accept",
    "iifname @pod_links accept",
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, "
    "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, "
    "mld-listener-report, mld-listener-done, mld2-listener-report } accept",
    # Answers to a request that was broadcast are no replies to conntrack.
    "udp sport 67 udp dport 68 accept",
    "ip6 saddr fe80::/10 udp dport 546 accept",
)


class Overlaid(msgspec.Struct, frozen=True):
    """The node's end of the overlay: ``port`` is 0 where there is none. ``peers`` may send to it."""

    port: int = 0
    peers: tuple[str, ...] = ()
    anyone: bool = False


def overlaid(state: NetworkState, config: NetworkConfig) -> Overlaid:
    """What the firewall lets in for the overlay's sake."""
    own = next((node.spec for node in state.nodes if node.metadata.name == state.node), None)
    if own is None or own.overlay not in ("vxlan", "wireguard"):
        return Overlaid()
    if own.overlay == "wireguard":
        # A peer behind NAT comes from any address. WireGuard proves each packet, and answers nobody else.
        return Overlaid(own.port or config.wireguard_port, anyone=True)
    peers = set()
    for node in state.nodes:
        if node.metadata.name != state.node and node.spec.address:
            try:
                peers.add(parse_address(node.spec.address).text)
            except ValueError:
                continue  # the part that makes ways to other nodes reports it
    return Overlaid(own.port or config.vxlan_port, tuple(sorted(peers)))


def firewall_fragment(firewall: HostFirewall, overlay: Overlaid) -> Fragment:
    """The fragment. ``firewall`` must have been validated."""
    sets: dict[str, str] = {}
    held: dict[str, dict[str, str]] = {}
    rules = list(_ALWAYS)
    if overlay.anyone:
        rules.append(f"udp dport {overlay.port} accept")
    elif overlay.port:
        for version in VERSIONS:
            name = f"{_PEERS}{version}"
            sets[name] = f"type {ADDRESS_TYPE[version]};"
            peers = [one for one in overlay.peers if parse_address(one).version == version]
            held[name] = dict.fromkeys(peers, "")
            rules.append(f"udp dport {overlay.port} {FAMILY[version]} saddr @{name} accept")
    for number, rule in enumerate(firewall.spec.allow):
        found = ranges(rule.sources)
        sides = [] if rule.sources else [""]
        for version in VERSIONS:
            if found[version]:
                name = f"host_firewall_sources-{number}-{version}"
                sets[name] = f"type {ADDRESS_TYPE[version]}; flags interval;"
                held[name] = dict.fromkeys(elements(version, found[version]), "")
                sides.append(f"{FAMILY[version]} saddr @{name} ")
        rules += [f"{_interfaces(rule)}{side}{_what(rule)} accept" for side in sides]
    rules.append(f"counter name {COUNTER} drop")
    hook = "type filter hook input priority filter + 10; policy accept;"
    return Fragment(chains={CHAIN: Chain(tuple(rules), hook)}, sets=sets, counters=(COUNTER,), elements=held)


def admitting(firewall: HostFirewall, source: str, port: int, protocol: Transport) -> Iterator[FirewallRule]:
    """The rules that let a new connection from ``source`` in, by whatever interface it comes."""
    for rule in firewall.spec.allow:
        if rule.protocol != protocol:
            continue
        if rule.sources and not holds(ranges(rule.sources), source):
            continue
        if not rule.ports or any(first <= port <= last for first, last in _spans(rule)):
            yield rule


def _interfaces(rule: FirewallRule) -> str:
    if not rule.interfaces:
        return ""
    names = ", ".join(f'"{name}"' for name in dict.fromkeys(rule.interfaces))
    return f"iifname {{ {names} }} "


def _what(rule: FirewallRule) -> str:
    if rule.protocol == "ICMP":
        return "meta l4proto { icmp, ipv6-icmp }"
    if not rule.ports:
        return f"meta l4proto {rule.protocol.lower()}"
    texts = [f"{first}-{last}" if last > first else str(first) for first, last in _spans(rule)]
    return f"{rule.protocol.lower()} dport {{ {', '.join(texts)} }}"


def _spans(rule: FirewallRule) -> Sequence[tuple[int, int]]:
    spans = []
    for port in rule.ports:
        first, _, last = str(port).partition("-")
        spans.append((int(first), int(last or first)))
    return merge(spans)
