"""What of the host's links, addresses and routes is there, and the routes that lead to other nodes' pods.

Those routes have a protocol number of their own, so that nobody else's are ever touched.
"""

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import Any

import msgspec

from edgeagent.api.errors import TemporaryError
from edgeagent_network.peerplan import Address
from edgeagent_network.programs import Runner

PROTOCOL = "237"
"""Of the routes that are made here; rt_protos of iproute2 has no name for it."""
_UNREACHABLE = "7"
"""RTN_UNREACHABLE, the type of a route that leads nowhere."""
_LAST_METRIC = 4_000_000_000
"""Of routes that count only where there is no other."""
_MAX_LISTING_CHARACTERS = 64_000_000


class Link(msgspec.Struct, frozen=True):
    """``info`` is what its kind says of it; ``addresses`` have the prefix of the network they are on."""

    name: str
    kind: str
    mtu: int
    is_up: bool
    mac: str
    info: Mapping[str, Any]
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


class Route(msgspec.Struct, frozen=True):
    """To a range of pods. ``via`` may be an address that is on no link's network if ``onlink``."""

    cidr: str
    device: str
    via: str = ""
    onlink: bool = False

    def command(self, verb: str) -> str:
        """For ip(8), without its first word."""
        via = f" via {self.via}" if self.via else ""
        return (
            f"route {verb} {self.cidr}{via} dev {self.device}"
            f"{' onlink' if self.onlink else ''} proto {PROTOCOL}"
        )


class Closed(msgspec.Struct, frozen=True, order=True):
    """A route that has packets to a range refused where no other route of that range is there."""

    cidr: str

    def command(self, verb: str) -> str:
        """For ip(8), without its first word."""
        return f"route {verb} unreachable {self.cidr} metric {_LAST_METRIC} proto {PROTOCOL}"


class HostLinks(msgspec.Struct, frozen=True):
    """``ours`` are the routes that were made here, by range; ``others``: the ranges of all other routes.

    ``connected`` are the ranges and links of those others that lead through no router; ``closed`` those that
    were made here lest packets to them go another way.
    """

    links: Mapping[str, Link]
    ours: Mapping[str, Route]
    others: frozenset[str]
    connected: frozenset[tuple[str, str]] = frozenset()
    closed: frozenset[Closed] = frozenset()

    def has(self, address: Address) -> bool:
        """Whether the address is this host's."""
        return any(own.ip == address for link in self.links.values() for own in link.addresses)

    def beside(self, address: Address) -> str:
        """The link on whose network the address is; empty where there is none."""
        networks = [
            (own.network.prefixlen, link.name)
            for link in self.links.values()
            for own in link.addresses
            if link.is_up and link.name != "lo" and address in own.network and own.ip != address
        ]
        return max(networks, default=(0, ""))[1]


def look(run: Runner) -> HostLinks:
    """What is there now. TemporaryError where the kernel does not say it."""
    links = {one["ifname"]: _link(one) for one in _listing(run, ["ip", "-j", "-d", "address", "show"])}
    ours: dict[str, Route] = {}
    others: set[str] = set()
    connected: set[tuple[str, str]] = set()
    closed: set[Closed] = set()
    for family in ("-4", "-6"):
        for one in _listing(run, ["ip", "-j", "-N", family, "route", "show", "table", "main"]):
            cidr = _whole(one["dst"])
            if str(one.get("protocol", "")) != PROTOCOL:
                others.add(cidr)
                if cidr != "default" and "dev" in one and not one.keys() & {"gateway", "via"}:
                    connected.add((cidr, one["dev"]))
            elif one.get("type", "") == _UNREACHABLE:
                closed.add(Closed(cidr))
            else:
                ours[cidr] = Route(
                    cidr, one.get("dev", ""), one.get("gateway", ""), "onlink" in one.get("flags", ())
                )
    return HostLinks(links, ours, frozenset(others), frozenset(connected), frozenset(closed))


def _whole(destination: str) -> str:
    """ip(8) leaves the prefix of a single address away."""
    if "/" in destination or destination == "default":
        return destination
    return f"{destination}/{128 if ':' in destination else 32}"


def _listing(run: Runner, argv: Sequence[str]) -> list[dict[str, Any]]:
    text = run(argv, check=False)
    if len(text) > _MAX_LISTING_CHARACTERS:
        raise TemporaryError(f"{' '.join(argv)}: far too many lines", reason="NetworkFailed")
    return [one for one in json.loads(text or "[]") if one]


def _link(said: Mapping[str, Any]) -> Link:
    info = said.get("linkinfo", {})
    addresses = [
        # Of a point-to-point link, the prefix is that of the other end.
        ip_interface(one["local"] if "address" in one else f"{one['local']}/{one['prefixlen']}")
        for one in said.get("addr_info", ())
        if "local" in one and one.get("scope") != "link"
    ]
    return Link(
        said["ifname"],
        info.get("info_kind", ""),
        said["mtu"],
        "UP" in said["flags"],
        said.get("address", ""),
        info.get("info_data", {}),
        tuple(addresses),
    )


def dress(run: Runner, device: str, link: Link | None, mtu: int, ips: Sequence[str], mac: str = "") -> None:
    """Give an overlay's link what it should have, and bring it up. ``link``: what it is now.

    ``ips``: the host's own addresses in pods' ranges. The host speaks from them to other nodes' pods.
    """
    if link is None or link.mtu != mtu:
        # First of all: a link of less than 1280 has no IPv6 to set anything of.
        batch(run, "ip", [f"link set dev {device} mtu {mtu}"])
    commands = []
    if link is None or not link.is_up:
        # Packets of the host's own other addresses come this way too, and no router is to be found here.
        run(
            [
                *("sysctl", "-e", "-q", "-w", f"net.ipv4.conf.{device}.rp_filter=2"),
                f"net.ipv6.conf.{device}.accept_ra=0",
            ]
        )
        commands += [f"link set dev {device} addrgenmode none"]
    if mac and (link is None or link.mac != mac):
        commands += [f"link set dev {device} address {mac}"]
    if link is None or not link.is_up:
        commands += [f"link set dev {device} up"]
    wanted = {f"{ip}/{ip_network(ip).max_prefixlen}" for ip in ips}
    held = {str(one) for one in link.addresses} if link is not None else set()
    commands += [
        f"address replace {ip} dev {device}{' nodad' if ':' in ip else ''}" for ip in sorted(wanted - held)
    ]
    commands += [f"address del {ip} dev {device}" for ip in sorted(held - wanted)]
    if commands:
        batch(run, "ip", commands)


def batch(run: Runner, program: str, commands: Sequence[str]) -> None:
    """Run several commands of ip(8) or bridge(8) in one process. TemporaryError where one fails."""
    if commands:
        run([program, "-batch", "-"], "\n".join(commands) + "\n")


def batch_by_peer(run: Runner, program: str, commands: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Run each peer's commands, which may be run again; why those of a peer failed, by its name."""
    try:
        batch(run, program, [one for some in commands.values() for one in some])
    except TemporaryError:
        failed = {}
        for name, some in commands.items():
            try:
                batch(run, program, some)
            except TemporaryError as error:
                failed[name] = str(error)
        return failed
    return {}
