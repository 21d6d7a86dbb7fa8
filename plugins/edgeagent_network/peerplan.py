"""Which other nodes this one is to have a way to, and which of them cannot be: no kernel is asked here."""

import base64
import binascii
from bisect import bisect
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import NetworkState, Problem
from edgeagent.api.objects.network import NodeNetwork, Overlay
from edgeagent_network.addresses import Range, parse_range

Address = IPv4Address | IPv6Address
KEY_BYTES = 32


class Peer(msgspec.Struct, frozen=True):
    """Another node: the ranges of its pods of the families that this node has too, and where it is.

    ``port`` is 0 for the one that all nodes have.
    """

    name: str
    cidrs: tuple[Range, ...]
    address: Address
    port: int = 0
    public_key: str = ""


class Plan(msgspec.Struct, frozen=True):
    """Peers by name, and what keeps others from being one. ``address`` is this node's, if it has one;
    ``cidrs`` are the ranges of all other nodes that are good ones, peers or not.
    """

    node: str
    overlay: Overlay = "none"
    address: Address | None = None
    port: int = 0
    peers: tuple[Peer, ...] = ()
    problems: tuple[Problem, ...] = ()
    cidrs: tuple[str, ...] = ()


def node_problem(node: str, reason: str, message: str) -> Problem:
    """What is wrong with a ``NodeNetwork``."""
    return Problem(kind="NodeNetwork", namespace="", name=node, reason=reason, message=message)


class _Claims(msgspec.Struct):
    """Ranges of which no two overlap, and whose they are."""

    starts: list[tuple[int, int]] = msgspec.field(default_factory=list)  # version, first address
    held: list[tuple[Range, str]] = msgspec.field(default_factory=list)

    def overlapping(self, within: Range) -> tuple[Range, str] | None:
        """A range that has an address of this one too."""
        place = bisect(self.starts, (within.version, int(within.network_address)))
        for one, owner in self.held[max(0, place - 1) : place + 1]:
            if one.version == within.version and one.overlaps(within):
                return one, owner
        return None

    def holder(self, address: Address) -> tuple[Range, str] | None:
        """The range that the address is in."""
        place = bisect(self.starts, (address.version, int(address)))
        one = self.held[place - 1] if place else None
        return one if one is not None and address in one[0] else None

    def add(self, within: Range, owner: str) -> None:
        start = (within.version, int(within.network_address))
        place = bisect(self.starts, start)
        self.starts.insert(place, start)
        self.held.insert(place, (within, owner))


def make_plan(
    state: NetworkState, own_cidrs: Sequence[str], conflicts: Mapping[str, str] | None = None
) -> Plan:
    """Of two nodes that want one range, this one has it before others, and then the first by name.

    ``conflicts`` are ranges that the host is on itself, with the network that they overlap, in words.
    A node that has no range, address or (for WireGuard) key yet is left out without a word.
    """
    own = next((node for node in state.nodes if node.metadata.name == state.node), None)
    claims = _Claims()
    for cidr in own_cidrs:
        claims.add(parse_range(cidr), state.node)
    families = {parse_range(cidr).version for cidr in own_cidrs}
    problems: list[Problem] = []
    address: Address | None = None
    try:
        address = _address(own.spec.address) if own is not None and own.spec.address else None
    except PermanentError as error:
        problems.append(node_problem(state.node, error.reason, str(error)))
    ranges: dict[str, tuple[NodeNetwork, list[Range]]] = {}
    for node in sorted(state.nodes, key=lambda one: one.metadata.name):
        name = node.metadata.name
        if name != state.node and name not in ranges:
            try:
                ranges[name] = (node, _claim(node, claims, state.node, address, conflicts or {}))
            except PermanentError as error:
                problems.append(node_problem(name, error.reason, str(error)))
    cidrs_of_all = tuple(str(cidr) for _, cidrs in ranges.values() for cidr in cidrs)
    if own is None or own.spec.overlay == "none":
        return Plan(state.node, cidrs=cidrs_of_all, problems=tuple(problems))
    peers: list[Peer] = []
    keys: dict[str, str] = {}
    for node, cidrs in ranges.values():
        try:
            peer = _peer(node, [cidr for cidr in cidrs if cidr.version in families], claims)
            if own.spec.overlay == "wireguard" and peer is not None:
                peer = _with_key(peer, keys)
        except PermanentError as error:
            problems.append(node_problem(node.metadata.name, error.reason, str(error)))
            continue
        if peer is not None:
            peers.append(peer)
    return Plan(
        state.node,
        own.spec.overlay,
        address,
        _port(own.spec.port),
        tuple(peers),
        tuple(problems),
        cidrs_of_all,
    )


def _claim(
    node: NodeNetwork,
    claims: _Claims,
    own: str,
    own_address: Address | None,
    conflicts: Mapping[str, str],
) -> list[Range]:
    found: list[Range] = []
    for cidr in node.spec.pod_cidrs:
        within = parse_range(cidr)
        first = within.network_address
        if within.prefixlen == 0 or first.is_loopback or first.is_multicast or first.is_link_local:
            raise PermanentError(f"pod range {cidr} can be no node's", reason="InvalidPodCIDR")
        if own_address is not None and own_address in within:
            raise PermanentError(
                f"pod range {cidr} holds this node's own address {own_address}", reason="PodCIDRConflict"
            )
        if (taken := conflicts.get(cidr)) is not None:
            raise PermanentError(f"pod range {cidr} overlaps {taken}", reason="PodCIDRConflict")
        if (other := claims.overlapping(within)) is not None:
            whose = "this node's own range" if other[1] == own else f"the range of node {other[1]},"
            raise PermanentError(f"pod range {cidr} overlaps {whose} {other[0]}", reason="PodCIDRConflict")
        found.append(within)
    for one, within in enumerate(found):
        if any(within.version == other.version for other in found[:one]):
            raise PermanentError(
                f"pod ranges {', '.join(map(str, found))[:200]}: one of each family at most",
                reason="InvalidPodCIDR",
            )
    for within in found:
        claims.add(within, node.metadata.name)
    return found


def _peer(node: NodeNetwork, cidrs: Sequence[Range], claims: _Claims) -> Peer | None:
    spec = node.spec
    if not cidrs or not spec.address:
        return None
    address = _address(spec.address)
    if (held := claims.holder(address)) is not None:
        # The way to the node would lead through itself.
        raise PermanentError(
            f"address {address} lies in the pod range {held[0]} of node {held[1]}", reason="InvalidAddress"
        )
    return Peer(node.metadata.name, tuple(cidrs), address, _port(spec.port), spec.public_key)


def _with_key(peer: Peer, keys: dict[str, str]) -> Peer | None:
    key = peer.public_key
    if not key:
        return None
    try:
        valid = len(key) == 44 and len(base64.b64decode(key, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise PermanentError("its public key is none of WireGuard", reason="InvalidPublicKey")
    if (other := keys.setdefault(key, peer.name)) != peer.name:
        raise PermanentError(
            f"it has the public key of node {other}: remove wireguard.key on one of them",
            reason="PublicKeyConflict",
        )
    return peer


def _address(text: str) -> Address:
    try:
        address = ip_address(text)
        bad = address.is_unspecified or address.is_multicast or address.is_loopback
        if bad or getattr(address, "scope_id", None):
            raise ValueError(f"{text[:64]!r} is no address that another node could reach")
    except ValueError as error:
        raise PermanentError(f"address: {str(error)[:200]}", reason="InvalidAddress") from None
    return address


def _port(port: int) -> int:
    return port if 0 < port <= 65_535 else 0
