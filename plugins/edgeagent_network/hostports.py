"""Ports of the host that lead to ports of its pods (``hostPort``), as fragments of the table.

They are elements of four maps, which ``base`` asks after those of Services, so that a node port wins. The
client's address is kept: a pod of this host answers through this host.
"""

from collections.abc import Collection, Iterable

import msgspec

from edgeagent.api.network import HostPort, NetworkPod, NetworkState, Problem
from edgeagent.api.objects.service import Protocol
from edgeagent_network.endpoints import MAX_PORT, Address, Target, parse_address
from edgeagent_network.ruleset import Fragment
from edgeagent_network.translation import TranslationFragment, UdpRoute


class _Place(msgspec.Struct, frozen=True):
    """A port of the host in one IP family; ``address`` is None for all of the host's addresses."""

    version: int
    protocol: Protocol
    port: int
    address: Address | None = None

    @property
    def element(self) -> tuple[str, str]:
        """The map and the key in it."""
        key = f"{self.protocol.lower()} . {self.port}"
        if self.address is None:
            return f"host_ports{self.version}", key
        return f"host_ip_ports{self.version}", f"{self.address.text} . {key}"


class _Kept(msgspec.Struct, frozen=True):
    """What was made of a pod, and of what: the pod, and the places that it did not get."""

    pod: NetworkPod
    wanted: dict[_Place, Target]
    invalid: tuple[Problem, ...]
    refused: dict[_Place, str]
    fragment: TranslationFragment


class HostPorts:
    """Makes fragments of pods' host ports. Not safe to share between threads.

    A place goes to the pod that was here first, and of those that are new to the first in the state's order.
    """

    def __init__(self) -> None:
        self._pods: list[NetworkPod] = []
        self._kept: dict[str, _Kept] = {}
        self._node_ports: frozenset[tuple[Protocol, int]] = frozenset()

    def fragments(
        self, state: NetworkState, node_ports: Collection[tuple[Protocol, int]] = ()
    ) -> tuple[dict[str, Fragment], list[Problem]]:
        """The fragments of ``state``'s pods by key (``host-ports UID``), and what is not in force.

        ``node_ports`` are what Services have, as protocol and port.
        """
        pods = [pod for pod in state.pods if pod.host_ports and not pod.node and not pod.host_network]
        services = frozenset(node_ports)
        if services != self._node_ports or pods != self._pods:
            self._make({pod.uid: pod for pod in pods}, services)
            self._pods, self._node_ports = pods, services
        kept = self._kept.values()
        problems = [problem for one in kept for problem in (*one.invalid, *_refusals(one))]
        return {f"host-ports {one.pod.uid}": one.fragment for one in kept if one.wanted}, problems

    def _make(self, pods: dict[str, NetworkPod], node_ports: frozenset[tuple[Protocol, int]]) -> None:
        before = self._kept
        seniority = dict.fromkeys((*(uid for uid in before if uid in pods), *pods))
        taken: dict[tuple[Protocol, int], dict[_Place, str]] = {}
        made: dict[str, _Kept] = {}
        for pod in (pods[uid] for uid in seniority):
            kept = before.get(pod.uid)
            if kept is not None and kept.pod is pod:
                wanted, invalid = kept.wanted, kept.invalid
            else:
                wanted, invalid = _wanted(pod)
            refused: dict[_Place, str] = {}
            for place in wanted:
                others = taken.setdefault((place.protocol, place.port), {})
                if (place.protocol, place.port) in node_ports:
                    refused[place] = "a Service has it as its nodePort"
                elif (owner := _owner(place, others)) is not None:
                    refused[place] = f"pod {owner} has it"
                else:
                    others[place] = f"{pod.namespace}/{pod.name}"
            if kept is not None and kept.pod is pod and kept.refused == refused:
                made[pod.uid] = kept
            else:
                made[pod.uid] = _Kept(pod, wanted, invalid, refused, _fragment(wanted, refused))
        self._kept = made


def _wanted(pod: NetworkPod) -> tuple[dict[_Place, Target], tuple[Problem, ...]]:
    """Where the pod's host ports are and lead to, and what is wrong with the others."""
    wanted: dict[_Place, Target] = {}
    problems: list[Problem] = []
    addresses: list[Address] = []
    for ip in pod.ips:
        try:
            addresses.append(parse_address(ip))
        except ValueError as error:
            problems.append(_problem(pod, "InvalidAddress", f"pod address: {error}"))
    for port in pod.host_ports:
        try:
            host_ip = _host_ip(port)
        except ValueError as error:
            problems.append(_problem(pod, "InvalidHostPort", f"hostPort {port.host_port}: {error}"))
            continue
        for address in addresses:
            if host_ip is not None and host_ip.version != address.version:
                continue
            exact = None if host_ip is None or host_ip.is_unspecified else host_ip
            place = _Place(address.version, port.protocol, port.host_port, exact)
            # Of two addresses of one family the first is the primary one.
            wanted.setdefault(place, Target(address, port.container_port))
    return wanted, tuple(problems)


def _host_ip(port: HostPort) -> Address | None:
    """The ``hostIP``, None where there is none. ValueError says what is wrong with the port."""
    if not 0 < port.host_port <= MAX_PORT or not 0 < port.container_port <= MAX_PORT:
        raise ValueError(f"leads to port {port.container_port}: ports are 1 to {MAX_PORT}")
    if port.protocol == "SCTP":
        raise ValueError("SCTP is not served; use TCP or UDP")
    if not port.host_ip:
        return None
    address = parse_address(port.host_ip)
    if address.is_loopback:
        raise ValueError(
            f"hostIP {address.text}: packets from the loopback cannot reach a pod; use another address"
        )
    return address


def _owner(place: _Place, taken: dict[_Place, str]) -> str | None:
    """Who has ``place``: itself, or all addresses of it, or where it is all of them one of those."""
    for other, owner in taken.items():
        if other.version == place.version and (
            other.address == place.address or other.address is None or place.address is None
        ):
            return owner
    return None


def _fragment(wanted: dict[_Place, Target], refused: Collection[_Place]) -> TranslationFragment:
    elements: dict[str, dict[str, str]] = {}
    udp: set[UdpRoute] = set()
    for place, target in wanted.items():
        if place in refused:
            continue
        collection, key = place.element
        elements.setdefault(collection, {})[key] = target.element
        if place.protocol == "UDP":
            address = "" if place.address is None else place.address.text
            udp.add(UdpRoute(address, place.port, target.address.text, target.port))
    return TranslationFragment(elements=elements, udp=frozenset(udp))


def _refusals(kept: _Kept) -> Iterable[Problem]:
    """A Problem for each port that the pod did not get, once for both families."""
    messages = {f"hostPort {_text(place)}: {why}" for place, why in kept.refused.items()}
    return [_problem(kept.pod, "HostPortConflict", message) for message in sorted(messages)]


def _text(place: _Place) -> str:
    address = "" if place.address is None else f"{place.address.text} "
    return f"{address}{place.port}/{place.protocol}"


def _problem(pod: NetworkPod, reason: str, message: str) -> Problem:
    return Problem(kind="Pod", namespace=pod.namespace, name=pod.name, reason=reason, message=message)
