"""The way to other nodes' pods: an overlay's link, and a route for each range. See ``NodeNetwork``.

What is there is compared with what should be, and only the difference is made, so that a peer that comes or
goes touches no other's packets, and an agent that starts finds its ways as they were.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

import msgspec

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.network import NetworkState, Problem
from edgeagent.api.objects.network import NodeNetwork
from edgeagent_network import vxlan, wireguard
from edgeagent_network.addresses import node_address
from edgeagent_network.config import NetworkConfig
from edgeagent_network.hostlinks import Closed, HostLinks, Route, batch, batch_by_peer, look
from edgeagent_network.peerplan import Peer, Plan, make_plan, node_problem
from edgeagent_network.peertraffic import traffic_fragment, traffic_of
from edgeagent_network.programs import Runner
from edgeagent_network.ruleset import Fragment
from edgeagent_network.vxlan import Vxlan
from edgeagent_network.wireguard import Seen, WireGuard
from edgeagent_network.wireguardkey import NodeKey

LOOK_SECONDS = 60.0
"""How often, at most, ways that nobody changed here are looked at again in a call of ``reconcile``."""
RETRY_SECONDS = 30.0
KEY_FILE = "wireguard.key"
FRAGMENT_KEY = "overlay"
NOTHING = "-"


class PeersReport(msgspec.Struct, frozen=True):
    """``retry_after`` seconds, 0 for never; ``public_key`` as in ``NetworkReport``."""

    problems: tuple[Problem, ...] = ()
    public_key: str = ""
    retry_after: float = 0.0
    fragments: Mapping[str, Fragment] = msgspec.field(default_factory=dict)


class _Overlay(Protocol):
    """One kind of way."""

    device: str

    def prepare(self, plan: Plan, host: HostLinks, mtu: int, ips: Sequence[str]) -> dict[str, str]:
        """Make what routes need; why a peer cannot be reached, by name."""

    def routes(self, peer: Peer, host: HostLinks) -> list[Route]:
        """The peer's routes: one for each range that can have one."""

    def forget(self, peers: Iterable[Peer]) -> None:
        """Take away what is there for others than these, after their routes."""


class _Direct:
    """Nodes on one network need nothing but routes."""

    device = ""

    def prepare(self, plan: Plan, host: HostLinks, mtu: int, ips: Sequence[str]) -> dict[str, str]:
        return {
            peer.name: f"its address {peer.address} is on no network of this node's links, and a plain route "
            "cannot lead there; use the overlay vxlan or wireguard"
            for peer in plan.peers
            if not host.beside(peer.address)
        }

    def routes(self, peer: Peer, host: HostLinks) -> list[Route]:
        link = host.beside(peer.address)
        return [
            Route(str(cidr), link, str(peer.address))
            for cidr in peer.cidrs
            if cidr.version == peer.address.version
        ]

    def forget(self, peers: Iterable[Peer]) -> None:
        pass


class Peers:
    """One for the node. ``run`` runs programs in the host's network.

    ``monotonic`` counts seconds, ``now`` is Unix time, ``root`` is where the machine's files are.
    """

    def __init__(
        self,
        config: NetworkConfig,
        state_dir: Path,
        run: Runner,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        root: Path = Path("/"),
    ) -> None:
        self._config = config
        self._run = run
        self._monotonic = monotonic
        self._now = now
        self._key = NodeKey(run, state_dir / KEY_FILE)
        self._wireguard = WireGuard(
            run, self._key, config.wireguard_port, config.wireguard_keepalive, now, root
        )
        self._overlays: dict[str, _Overlay] = {
            "vxlan": Vxlan(run, config.vxlan_id, config.vxlan_port),
            "wireguard": self._wireguard,
            "route": _Direct(),
        }
        self._nodes: list[NodeNetwork] = []
        self._given: tuple[list[str], int, dict[str, str]] | None = None
        self._looked = 0.0
        self._plan = Plan("")
        self._report = PeersReport()

    def reconcile(
        self,
        state: NetworkState,
        own_cidrs: Sequence[str],
        mtu: int,
        conflicts: Mapping[str, str] | None = None,
    ) -> PeersReport:
        """Make the ways to all nodes of ``state``, and take all others away; no error is raised.

        ``own_cidrs`` are the ranges of this node's pods, ``mtu`` is what its pods' links have,
        ``conflicts`` what ``make_plan`` is to know of the host's own networks. Costs nothing
        where all of it is the very same as before, but for a look now and then.
        """
        now = self._monotonic()
        given = (list(own_cidrs), mtu, dict(conflicts or {}))
        same = (
            self._given == given
            and len(self._nodes) == len(state.nodes)
            and all(one is other for one, other in zip(self._nodes, state.nodes, strict=True))
        )
        is_idle = self._plan.overlay == "none" or now - self._looked < LOOK_SECONDS
        if same and is_idle and not self._report.retry_after:
            return self._report
        if not same:
            self._plan = make_plan(state, own_cidrs, conflicts)
        self._report = self._make(list(own_cidrs), mtu)
        self._nodes, self._given, self._looked = list(state.nodes), given, now
        return self._report

    @property
    def cidrs(self) -> tuple[str, ...]:
        """The ranges of all other nodes' pods, without those that cannot be theirs."""
        return self._plan.cidrs

    def rows(self) -> list[dict[str, str]]:
        """Peers for a person, by name; bytes are those of the overlay's packets, where they are counted."""
        plan = self._plan
        seen = self._wireguard.seen() if plan.overlay == "wireguard" else {}
        counted = traffic_of(self._run) if plan.overlay == "vxlan" else {}
        rows = []
        for peer in plan.peers:
            handshake, (received, sent) = NOTHING, counted.get(str(peer.address), (NOTHING, NOTHING))
            if (one := seen.get(peer.public_key)) is not None:
                handshake, received, sent = self._age(one), str(one.received), str(one.sent)
            rows.append(
                {
                    "node": peer.name,
                    "cidrs": ",".join(map(str, peer.cidrs)),
                    "overlay": plan.overlay,
                    "address": str(peer.address),
                    "handshake": handshake,
                    "rx": received,
                    "tx": sent,
                }
            )
        return rows

    def _age(self, seen: Seen) -> str:
        return f"{max(0, int(self._now()) - seen.handshake)}s" if seen.handshake else "never"

    def _make(self, own_cidrs: list[str], mtu: int) -> PeersReport:
        plan = self._plan
        problems = list(plan.problems)
        public_key, failed = "", False
        overlay = self._overlays.get(plan.overlay)
        try:
            host = look(self._run)
            closed = self._close(plan, host)
            if plan.overlay == "wireguard":
                public_key = self._key.public()
            reached: list[Peer] = []
            routes: dict[str, list[Route]] = {}
            if overlay is not None:
                ips = [node_address(ip_network(cidr)) for cidr in own_cidrs]
                refused = overlay.prepare(plan, host, mtu, ips)
                reached = [peer for peer in plan.peers if peer.name not in refused]
                routes = {peer.name: overlay.routes(peer, host) for peer in reached}
                refused |= _without_route(reached, routes) | self._route(routes, host)
                problems += [node_problem(name, "NotInForce", said) for name, said in refused.items()]
                failed = bool(refused)
            self._tidy(host, overlay, reached, routes)
            batch(self._run, "ip", [one.command("del") for one in sorted(host.closed - closed)])
        except EdgeAgentError as error:
            failed = True
            reason = getattr(error, "reason", "") or "NetworkFailed"
            problems.append(node_problem(plan.node, reason, f"overlay {plan.overlay}: {error}"))
        if self._key.set_aside is not None:
            said = f"{self._key.set_aside} was no key; the node has a new one"
            problems.append(node_problem(plan.node, "KeyUnreadable", said))
        return PeersReport(
            tuple(problems), public_key, RETRY_SECONDS if failed else 0.0, self._fragments(plan)
        )

    def _close(self, plan: Plan, host: HostLinks) -> set[Closed]:
        """Have nothing for other nodes' pods leave in clear where WireGuard is to carry it; what is closed.

        While a peer has no key yet, or the device is gone, the default route would take it.
        """
        if plan.overlay != "wireguard":
            return set()
        closed = {Closed(cidr) for cidr in plan.cidrs if cidr not in host.others}
        batch(self._run, "ip", [one.command("replace") for one in sorted(closed - host.closed)])
        return closed

    def _route(self, routes: Mapping[str, list[Route]], host: HostLinks) -> dict[str, str]:
        """Make the routes that are missing; why a peer's are not all there, by name."""
        taken = {
            name: f"this node has another route to {one.cidr} already"
            for name, some in routes.items()
            for one in some
            if one.cidr in host.others
        }
        commands = {
            name: [one.command("replace") for one in some if host.ours.get(one.cidr) != one]
            for name, some in routes.items()
            if name not in taken
        }
        return taken | batch_by_peer(self._run, "ip", commands)

    def _tidy(
        self,
        host: HostLinks,
        overlay: _Overlay | None,
        reached: Sequence[Peer],
        routes: Mapping[str, list[Route]],
    ) -> None:
        """Take away routes and entries to others, and the links of other overlays, in this order."""
        wanted = {one.cidr for some in routes.values() for one in some if one.cidr not in host.others}
        batch(self._run, "ip", [one.command("del") for cidr, one in host.ours.items() if cidr not in wanted])
        if overlay is not None:
            overlay.forget(reached)
        for device in (vxlan.DEVICE, wireguard.DEVICE):
            if device in host.links and (overlay is None or device != overlay.device):
                self._run(["ip", "link", "del", "dev", device])

    def _fragments(self, plan: Plan) -> Mapping[str, Fragment]:
        if plan.overlay != "vxlan":
            return {}
        made = traffic_fragment(plan, self._config.vxlan_port)
        old = self._report.fragments.get(FRAGMENT_KEY)
        return {FRAGMENT_KEY: old if old == made else made}


def _without_route(peers: Iterable[Peer], routes: Mapping[str, Sequence[Route]]) -> dict[str, str]:
    """Of which ranges there is no way, by the peer's name."""
    found = {}
    for peer in peers:
        routed = {one.cidr for one in routes[peer.name]}
        if left := [str(cidr) for cidr in peer.cidrs if str(cidr) not in routed]:
            found[peer.name] = (
                f"no plain route to {', '.join(left)} can lead through its address {peer.address}, which is "
                "of the other family; use the overlay vxlan or wireguard"
            )
    return found
