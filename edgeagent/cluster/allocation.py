"""What the hub gives out of ranges: cluster IPs and node ports of Services, and the pod range of each node.

May not keep anything: what is taken is told by whoever asks.
https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/
"""

import base64
import hashlib
import ipaddress
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.network import Overlay
from edgeagent.api.objects.service import HEADLESS, Service, ServicePort, ServiceSpec
from edgeagent.api.objects.validate import require

NetworkRange = ipaddress.IPv4Network | ipaddress.IPv6Network

NODE_BITS = {4: 24, 6: 64}
"""The prefix of a node's own range, by IP version."""
TRIES = 65_536
"""How many addresses of a range are looked at before it counts as full."""


class ClusterNetwork(KubernetesStruct, frozen=True):
    """The ranges of a cluster, and how its nodes reach each other's pods. Each list: one range a family."""

    pod_cidrs: list[str] = msgspec.field(default_factory=lambda: ["10.42.0.0/16"])
    service_cidrs: list[str] = msgspec.field(default_factory=lambda: ["10.43.0.0/16"])
    first_node_port: int = 30_000
    last_node_port: int = 32_767
    overlay: Overlay = "vxlan"


def parse_ranges(texts: Iterable[str], path: str) -> list[NetworkRange]:
    """Each as a range; InvalidObjectError names the one that is none, or the second of a family."""
    found: list[NetworkRange] = []
    for index, text in enumerate(texts):
        where = f"{path}[{index}]"
        try:
            one = ipaddress.ip_network(text)
        except ValueError as error:
            raise InvalidObjectError(where, str(error)) from None
        require(all(one.version != other.version for other in found), where, "a second range of that family")
        found.append(one)
    return found


def check_network(network: ClusterNetwork) -> None:
    """InvalidObjectError where the ranges cannot be used: not ranges, too small, or one within another."""
    pods = parse_ranges(network.pod_cidrs, "podCidrs")
    services = parse_ranges(network.service_cidrs, "serviceCidrs")
    for index, one in enumerate(pods):
        bits = NODE_BITS[one.version]
        require(one.prefixlen <= bits, f"podCidrs[{index}]", f"holds no /{bits}, which is what a node gets")
        for other in services:
            if one.version == other.version:
                require(not one.overlaps(other), f"podCidrs[{index}]", f"overlaps the services' {other}")
    first, last = network.first_node_port, network.last_node_port
    require(0 < first <= last <= 65_535, "firstNodePort", f"{first}-{last} is no range of ports")


def pod_ranges(network: ClusterNetwork, taken: Collection[str]) -> list[str]:
    """The ranges of one more node, one a family; PermanentError where there is none left."""
    found = []
    for one in parse_ranges(network.pod_cidrs, "podCidrs"):
        free = next(
            (str(part) for part in one.subnets(new_prefix=NODE_BITS[one.version]) if str(part) not in taken),
            None,
        )
        if free is None:
            raise PermanentError(f"no pod range is left in {one} for one more node", reason="RangeFull")
        found.append(free)
    return found


def check_node_address(address: str, network: ClusterNetwork) -> None:
    """InvalidObjectError where no node can be at ``address``, for pods or Services are there."""
    found = same_address(address)
    for what, texts in (("pods'", network.pod_cidrs), ("services'", network.service_cidrs)):
        for one in parse_ranges(texts, ""):
            require(found not in one, "", f"{address} is in the {what} range {one}")


def same_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Equal for two ways to write one address, IPv4 mapped to IPv6 among them (RFC 4291, section 2.5.5.2)."""
    found = ipaddress.ip_address(text)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def same_key(text: str) -> bytes:
    """Equal for two ways to write one public key: the last character of base64 has bits to spare."""
    return base64.b64decode(text)


class Claims:
    """Things that nodes say are theirs. The first that says so of a thing has it until it takes another."""

    def __init__(self) -> None:
        self._of: dict[str, Hashable] = {}
        self._owners: dict[Hashable, str] = {}

    def take(self, claims: Mapping[str, Hashable | None]) -> None:
        """These have these now, by node; None: nothing. What each had is free, should nobody else take it."""
        for node in claims:
            before = self._of.pop(node, None)
            if self._owners.get(before) == node:
                del self._owners[before]
        for node, thing in claims.items():
            if thing is not None:
                self._of[node] = thing
                self._owners.setdefault(thing, node)

    def refused(self, wishes: Mapping[str, Hashable]) -> dict[str, str]:
        """Which of ``wishes`` cannot be, and who has the thing. Two nodes may change places."""
        refused: dict[str, str] = {}
        while True:
            leaving = wishes.keys() - refused.keys()
            given: dict[Hashable, str] = {}
            more: dict[str, str] = {}
            for node in sorted(leaving):
                owner = self._owners.get(wishes[node], node)
                if owner in leaving:
                    owner = given.setdefault(wishes[node], node)
                if owner != node:
                    more[node] = owner
            if not more:
                return refused
            refused |= more


class Taken:
    """What Services have been given. ``owner_of`` an address or a node port is a Service, by name."""

    def __init__(self, services: Iterable[Service]) -> None:
        self.addresses: dict[str, str] = {}
        self.node_ports: dict[tuple[str, int], str] = {}
        for service in services:
            self.add(service)

    def add(self, service: Service) -> None:
        """Count this one in."""
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        for address in service.spec.cluster_ips:
            if address != HEADLESS:
                self.addresses[address] = name
        for port in service.spec.ports:
            if port.node_port:
                self.node_ports[port.protocol, port.node_port] = name


def complete(service: Service, old: Service | None, network: ClusterNetwork, taken: Taken) -> Service:
    """The Service with its addresses and node ports; those that it has, it keeps.

    ``taken`` is without the Service itself. InvalidObjectError where what it asks for cannot be given.
    """
    spec = service.spec
    if spec.type == "ExternalName":
        return service
    before = old.spec if old is not None and old.spec.type != "ExternalName" else None
    spec = _with_addresses(service, spec, before, network, taken)
    if spec.type == "NodePort":
        spec = msgspec.structs.replace(spec, ports=list(_with_node_ports(spec, before, network, taken)))
    return msgspec.structs.replace(service, spec=spec)


def _with_addresses(
    service: Service, spec: ServiceSpec, before: ServiceSpec | None, network: ClusterNetwork, taken: Taken
) -> ServiceSpec:
    wanted = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if spec.cluster_ip and wanted[0] != spec.cluster_ip:
        raise InvalidObjectError("spec.clusterIPs[0]", f"must be the clusterIP, {spec.cluster_ip}")
    if before is not None and before.cluster_ips:
        wanted = wanted or before.cluster_ips
        require(
            wanted[0] == before.cluster_ips[0],
            "spec.clusterIP",
            f"may not change (it is {before.cluster_ips[0]}): delete the Service and create it again",
        )
    if wanted == [HEADLESS]:
        return msgspec.structs.replace(spec, cluster_ip=HEADLESS, cluster_ips=[HEADLESS])
    if spec.ip_family_policy == "SingleStack":
        kept = before is not None and wanted == before.cluster_ips
        require(kept or len(wanted) < 2, "spec.clusterIPs[1]", "is one too many for SingleStack")
        wanted = wanted[:1]
    ranges = parse_ranges(network.service_cidrs, "serviceCidrs")
    for index, text in enumerate(wanted):
        _check_address(text, f"spec.clusterIPs[{index}]", ranges, taken)
    found = [str(ipaddress.ip_address(text)) for text in wanted]
    have = {ipaddress.ip_address(text).version for text in found}
    for one in _families(spec, ranges, first=not found):
        if one.version not in have:
            found.append(_free_address(service, one, taken))
    families: list[Literal["IPv4", "IPv6"]] = ["IPv6" if ":" in text else "IPv4" for text in found]
    asked = spec.ip_families[0] if spec.ip_families else families[0]
    require(asked == families[0], "spec.ipFamilies[0]", f"is {asked}, but the first address is {found[0]}")
    return msgspec.structs.replace(spec, cluster_ip=found[0], cluster_ips=found, ip_families=families)


def _families(spec: ServiceSpec, ranges: Sequence[NetworkRange], *, first: bool) -> list[NetworkRange]:
    """The ranges to take an address of, in order; ``first``: there is none yet."""
    order = {("IPv4", "IPv6")[one.version == 6]: one for one in ranges}
    for index, family in enumerate(spec.ip_families):
        require(family in order, f"spec.ipFamilies[{index}]", f"this cluster has no {family} for services")
    asked = [order[family] for family in spec.ip_families] or list(order.values())
    match spec.ip_family_policy:
        case "PreferDualStack":
            return list(dict.fromkeys([*asked, *order.values()]))
        case "RequireDualStack":
            require(len(order) == 2, "spec.ipFamilyPolicy", "this cluster has one IP family only")
            return list(dict.fromkeys([*asked, *order.values()]))
        case "" if len(spec.ip_families) > 1:
            return asked
        case _:
            return asked[:1] if first else []


def _check_address(text: str, path: str, ranges: Sequence[NetworkRange], taken: Taken) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidObjectError(path, f"{text[:80]!r} is not an IP address") from None
    valid = ", ".join(str(one) for one in ranges)
    require(any(address in one for one in ranges), path, f"{address} is not in the services' range {valid}")
    if (owner := taken.addresses.get(str(address))) is not None:
        raise InvalidObjectError(path, f"{address} is that of Service {owner}")


def _free_address(service: Service, one: NetworkRange, taken: Taken) -> str:
    """By a hash of the name: a Service that is made anew mostly finds its address again."""
    usable = one.num_addresses - 2
    name = f"{service.metadata.namespace}/{service.metadata.name}/{one.version}"
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    for step in range(min(usable, TRIES)):
        text = str(one.network_address + 1 + (start + step) % usable)
        if text not in taken.addresses:
            return text
    raise InvalidObjectError("spec.clusterIP", f"no address is left in {one}")


def _with_node_ports(
    spec: ServiceSpec, before: ServiceSpec | None, network: ClusterNetwork, taken: Taken
) -> Iterator[ServicePort]:
    kept = {(port.name, port.protocol): port.node_port for port in (before.ports if before else ())}
    first, last = network.first_node_port, network.last_node_port
    # All that are asked for or kept come first: a port that gets a new one gets none of these.
    given: dict[tuple[str, int], str] = {}
    numbers: list[int] = []
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}].nodePort"
        number = port.node_port or kept.get((port.name, port.protocol), 0)
        if port.node_port:
            require(first <= number <= last, path, f"{number} is not in the range {first}-{last}")
            if (owner := taken.node_ports.get((port.protocol, number))) is not None:
                raise InvalidObjectError(path, f"{number} is that of Service {owner}")
        if number:
            other = given.get((port.protocol, number))
            require(other is None, path, f"{number} is that of this Service's port {other!r}")
            given[port.protocol, number] = port.name
        numbers.append(number)

    def free(protocol: str) -> Callable[[int], bool]:
        return lambda number: (protocol, number) not in taken.node_ports and (protocol, number) not in given

    for index, (port, number) in enumerate(zip(spec.ports, numbers, strict=True)):
        found = number or next(filter(free(port.protocol), range(first, last + 1)), 0)
        require(bool(found), f"spec.ports[{index}].nodePort", f"no port is left in {first}-{last}")
        given[port.protocol, found] = port.name
        yield msgspec.structs.replace(port, node_port=found)
