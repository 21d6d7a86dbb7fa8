"""Which backends of a Service's port take new connections.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions
https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies
"""

import socket
from collections.abc import Iterable
from typing import NamedTuple

from edgeagent.api.network import Backend
from edgeagent.api.objects.service import ServiceSpec

MAX_PORT = 65535
MAX_ADDRESS_CHARACTERS = 45
MAX_BACKENDS = 65535
"""The most that one port of a Service leads to."""
_LENGTHS = {4: 4, 6: 16}


class Address(NamedTuple):
    """An IP address; ``text`` is the canonical form. (``ipaddress`` takes ten times as long to make one,
    which counts where a node has ten thousand endpoints.)
    """

    packed: bytes
    text: str

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.packed) == _LENGTHS[4] else 6

    @property
    def is_unspecified(self) -> bool:
        """Whether it stands for every address."""
        return not any(self.packed)

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves a host."""
        if len(self.packed) == _LENGTHS[4]:
            return self.packed[0] == 127
        return self.packed == bytes(15) + b"\x01"

    @property
    def is_of_endpoints(self) -> bool:
        """Whether an EndpointSlice may have it: not a loopback, link-local or multicast one, or none."""
        packed = self.packed
        if len(packed) == _LENGTHS[4]:
            first = packed[0]
            return first != 127 and first < 224 and any(packed) and packed[:2] != b"\xa9\xfe"
        if packed[0] >= 0xFE:
            return packed[0] == 0xFE and packed[1] & 0xC0 != 0x80
        return any(packed) and not self.is_loopback


class Target(NamedTuple):
    """An address and a port that a packet can be sent to."""

    address: Address
    port: int

    @property
    def element(self) -> str:
        """As the data of a map."""
        return f"{self.address.text} . {self.port}"

    @property
    def statement(self) -> str:
        """As what follows ``dnat ip to``."""
        text = self.address.text
        return f"{text}:{self.port}" if self.address.version == 4 else f"[{text}]:{self.port}"


class CheckedBackend(NamedTuple):
    """A backend whose address and port have been found good."""

    target: Target
    backend: Backend


class Pools(NamedTuple):
    """The backends of one family. ``cluster``: for traffic policy ``Cluster``; ``local``: for ``Local``."""

    cluster: tuple[Target, ...] = ()
    local: tuple[Target, ...] = ()


def parse_address(text: str) -> Address:
    """An IP address. ValueError where it is none, or has an IPv6 zone: a zone may be any text."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        packed = socket.inet_pton(family, text[: MAX_ADDRESS_CHARACTERS + 1])
    except (OSError, ValueError):
        raise ValueError(f"{text[:MAX_ADDRESS_CHARACTERS]!r} is not an IP address") from None
    return Address(packed, socket.inet_ntop(family, packed))


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
        if not address.is_of_endpoints:
            wrong.append(f"{address.text} is not an address of an endpoint")
        elif not 0 < backend.port <= MAX_PORT:
            wrong.append(f"{address.text} has port {backend.port}: ports are 1 to {MAX_PORT}")
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
    length = _LENGTHS[version]
    family = [one for one in backends if len(one.target.address.packed) == length]
    ready = [one for one in family if one.backend.ready or spec.publish_not_ready_addresses]
    ending = [one for one in family if one.backend.serving and one.backend.terminating]
    cluster = ready
    if spec.traffic_distribution:
        cluster = [one for one in ready if not one.backend.node] or ready
    local = [one for one in ready if not one.backend.node]
    return Pools(
        _targets(cluster or ending), _targets(local or [one for one in ending if not one.backend.node])
    )


def serving(backends: Iterable[CheckedBackend], spec: ServiceSpec, version: int) -> set[Target]:
    """All that may still be talked to, whether or not they take new connections."""
    length = _LENGTHS[version]
    return {
        one.target
        for one in backends
        if len(one.target.address.packed) == length
        and (one.backend.ready or one.backend.serving or spec.publish_not_ready_addresses)
    }


def _targets(backends: Iterable[CheckedBackend]) -> tuple[Target, ...]:
    return tuple(sorted({one.target for one in backends})[:MAX_BACKENDS])
