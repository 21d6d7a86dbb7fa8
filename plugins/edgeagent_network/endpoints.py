"""Which backends of a Service's port take new connections.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions
https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from edgeagent.api.network import Backend
from edgeagent.api.objects.service import ServiceSpec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_PORT = 65535
MAX_ADDRESS_CHARACTERS = 45
MAX_BACKENDS = 65535
"""The most that one port of a Service leads to: what a backend is counted by has 16 bits."""


def parse_address(text: str) -> Address:
    """An IP address. ValueError where it is none, or has an IPv6 zone: a zone may be any text."""
    if len(text) > MAX_ADDRESS_CHARACTERS or "%" in text:
        raise ValueError(f"{text[:MAX_ADDRESS_CHARACTERS]!r} is not an IP address")
    return ipaddress.ip_address(text)


@dataclass(frozen=True, slots=True)
class Target:
    """An address and a port that a packet can be sent to."""

    address: Address
    port: int

    @property
    def element(self) -> str:
        """As the data of a map."""
        return f"{self.address} . {self.port}"

    @property
    def statement(self) -> str:
        """As what follows ``dnat ip to``."""
        return f"{self.address}:{self.port}" if self.address.version == 4 else f"[{self.address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class Pools:
    """The backends of one family. ``cluster``: for traffic policy ``Cluster``; ``local``: for ``Local``."""

    cluster: tuple[Target, ...] = ()
    local: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedBackend:
    """A backend whose address and port have been found good."""

    target: Target
    backend: Backend


def check_backends(backends: Iterable[Backend]) -> tuple[list[CheckedBackend], list[str]]:
    """Those that packets can be sent to, and what is wrong with each of the others."""
    good: list[CheckedBackend] = []
    wrong: list[str] = []
    for backend in backends:
        try:
            address = parse_address(backend.ip)
        except ValueError as error:
            wrong.append(str(error))
            continue
        if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local:
            wrong.append(f"{address} is not an address of an endpoint")
        elif not 0 < backend.port <= MAX_PORT:
            wrong.append(f"{address} has port {backend.port}: ports are 1 to {MAX_PORT}")
        else:
            good.append(CheckedBackend(Target(address, backend.port), backend))
    return good, wrong


def choose(backends: Iterable[CheckedBackend], spec: ServiceSpec, version: int) -> Pools:
    """The pools of the IP family ``version``, each backend once, in an order that does not depend on the
    order they come in.

    Ready ones take connections; where there are none, those that are ending but still serve. With a
    ``trafficDistribution``, local ready ones are preferred (nodes have no zones, so that all of its values
    mean the same).
    """
    family = [one for one in backends if one.target.address.version == version]
    ready = [one for one in family if one.backend.ready or spec.publish_not_ready_addresses]
    ending = [one for one in family if one.backend.serving and one.backend.terminating]
    cluster = ready
    if spec.traffic_distribution:
        cluster = [one for one in ready if not one.backend.node] or ready
    local = [one for one in ready if not one.backend.node]
    return Pools(
        _targets(cluster or ending), _targets(local or [one for one in ending if not one.backend.node])
    )


def _targets(backends: Iterable[CheckedBackend]) -> tuple[Target, ...]:
    distinct = dict.fromkeys(one.target for one in backends)
    return tuple(sorted(distinct, key=lambda target: (target.address.packed, target.port))[:MAX_BACKENDS])
