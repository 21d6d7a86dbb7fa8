"""The way to other nodes' pods through VXLAN (RFC 7348), with no multicast and nothing learnt.

As in Flannel's backend, each peer is a forwarding entry, a permanent neighbour and a route:
https://github.com/flannel-io/flannel/blob/master/pkg/backend/vxlan/vxlan_network.go
A node's MAC address is made of its name, so that no node need tell it.
"""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_network.hostlinks import HostLinks, Link, Route, batch, batch_by_peer, dress
from edgeagent_network.peerplan import Address, Peer, Plan
from edgeagent_network.programs import Runner

DEVICE = "edge-vxlan"


def vtep_mac(node: str) -> str:
    """The address of a node's end: locally administered."""
    return ":".join(["02", *(f"{byte:02x}" for byte in sha256(f"vxlan {node}".encode()).digest()[:5])])


class Vxlan:
    """One device with one identifier; a peer's packets go to ``port`` of its address."""

    device = DEVICE

    def __init__(self, run: Runner, identifier: int, port: int) -> None:
        self._run = run
        self._identifier = identifier
        self._port = port
        self._listening = port  # the device's own, and that of an entry which names none

    def prepare(self, plan: Plan, host: HostLinks, mtu: int, ips: Sequence[str]) -> dict[str, str]:
        """Make the device as it should be, and entries for all peers; why a peer has none, by name.

        A device that is right already is not touched. PermanentError where the kernel has no VXLAN.
        """
        local = self._local(plan, host)
        if local is None:
            said = "this node has no address of that family to reach it from"
            return dict.fromkeys((peer.name for peer in plan.peers), said)
        link = self._ensure(plan, host.links.get(DEVICE), local)
        dress(self._run, DEVICE, link, mtu, ips, vtep_mac(plan.node))
        problems = {
            peer.name: f"its address {peer.address} is not of IPv{local.version}, which this node's is of"
            for peer in plan.peers
            if peer.address.version != local.version
        }
        peers = [peer for peer in plan.peers if peer.name not in problems]
        neighbours, entries = self._neighbours(), self._entries()
        problems |= batch_by_peer(
            self._run,
            "ip",
            {
                peer.name: [
                    f"neigh replace {ip} lladdr {mac} dev {DEVICE} nud permanent"
                    for ip, mac in _wanted_neighbours([peer]).items()
                    if neighbours.get(ip) != mac
                ]
                for peer in peers
            },
        )
        return problems | batch_by_peer(
            self._run,
            "bridge",
            {
                peer.name: [
                    f"fdb replace {mac} dev {DEVICE} dst {address} port {port}"
                    for mac, (address, port) in self._wanted_entries([peer]).items()
                    if entries.get(mac) != (address, port)
                ]
                for peer in peers
            },
        )

    def routes(self, peer: Peer, host: HostLinks) -> list[Route]:
        """A route for each range, through the range's first address, which is no pod's."""
        return [Route(str(cidr), DEVICE, str(cidr.network_address), onlink=True) for cidr in peer.cidrs]

    def forget(self, peers: Iterable[Peer]) -> None:
        """Take away the entries of all others."""
        known = list(peers)
        gone = self._neighbours().keys() - _wanted_neighbours(known).keys()
        batch(self._run, "ip", [f"neigh del {ip} dev {DEVICE}" for ip in sorted(gone)])
        entries = self._entries()
        stale = entries.keys() - self._wanted_entries(known).keys()
        batch(
            self._run,
            "bridge",
            [
                f"fdb del {mac} dev {DEVICE} dst {entries[mac][0]} port {entries[mac][1]}"
                for mac in sorted(stale)
            ],
        )

    def _local(self, plan: Plan, host: HostLinks) -> Address | None:
        """The address to send from: the node's own, or where it is behind a router the one towards it."""
        if plan.address is not None and host.has(plan.address):
            return plan.address
        version = plan.address.version if plan.address is not None else 0
        towards = next((peer.address for peer in plan.peers if version in (0, peer.address.version)), None)
        if towards is None:
            return None
        said: list[dict[str, Any]] = json.loads(
            self._run(["ip", "-j", "route", "get", str(towards)], check=False) or "[]"
        )
        for link in host.links.values():
            for own in link.addresses:
                if said and str(own.ip) == said[0].get("prefsrc"):
                    return own.ip
        raise TemporaryError(f"there is no route to node address {towards}", reason="NetworkFailed")

    def _ensure(self, plan: Plan, link: Link | None, local: Address) -> Link | None:
        """The link as it is afterwards, None where it is new."""
        port = self._listening = plan.port or self._port
        if link is not None:
            six = "local6" in link.info
            wanted = ("vxlan", self._identifier, port, False, local.version == 6)
            held = (link.kind, link.info.get("id"), link.info.get("port"), link.info.get("learning"), six)
            if held == wanted:
                if link.info.get("local6" if six else "local") != str(local):
                    self._run(
                        [
                            *("ip", "link", "set", "dev", DEVICE, "type", "vxlan"),
                            *("id", str(self._identifier), "local", str(local)),
                        ]
                    )
                return link
            self._run(["ip", "link", "del", "dev", DEVICE])
        try:
            self._run(
                [
                    *("ip", "link", "add", "name", DEVICE, "type", "vxlan", "id", str(self._identifier)),
                    *("dstport", str(port), "local", str(local), "nolearning"),
                ]
            )
        except TemporaryError as error:
            if "Unknown device type" in str(error) or "not supported" in str(error):
                raise PermanentError(
                    f"the kernel has no VXLAN (module vxlan): {error}", reason="KernelFeatureMissing"
                ) from None
            raise
        return None

    def _neighbours(self) -> dict[str, str]:
        said = self._run(["ip", "-j", "neigh", "show", "dev", DEVICE, "nud", "permanent"], check=False)
        return {one["dst"]: one["lladdr"] for one in json.loads(said or "[]") if "lladdr" in one}

    def _entries(self) -> dict[str, tuple[str, int]]:
        said = self._run(["bridge", "-j", "fdb", "show", "dev", DEVICE], check=False)
        return {
            one["mac"]: (one["dst"], one.get("port", self._listening))
            for one in json.loads(said or "[]")
            if "dst" in one
        }

    def _wanted_entries(self, peers: Iterable[Peer]) -> dict[str, tuple[str, int]]:
        return {vtep_mac(peer.name): (str(peer.address), peer.port or self._port) for peer in peers}


def _wanted_neighbours(peers: Iterable[Peer]) -> dict[str, str]:
    return {str(cidr.network_address): vtep_mac(peer.name) for peer in peers for cidr in peer.cidrs}
