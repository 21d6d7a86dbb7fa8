"""What a Service asks for, checked: its addresses, ports and backends, and what it claims for itself."""

import ipaddress
from collections.abc import Sequence

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import NetworkService, NetworkState, Problem
from edgeagent.api.objects.service import HEADLESS, Protocol, Service, ServicePort
from edgeagent_network.affinity import MAX_AFFINITY_SECONDS, short_hash
from edgeagent_network.config import NetworkConfig
from edgeagent_network.endpoints import MAX_PORT, Address, CheckedBackend, check_backends, parse_address

DEFAULT_AFFINITY_SECONDS = 10_800
MAX_NAMED = 3

Claim = tuple[str, Protocol, int]
"""A port of a cluster IP, or with an empty address of the host's own addresses: one Service has it."""


class PlannedPort(msgspec.Struct, frozen=True):
    """A port of a Service. ``node_port`` is 0 where there is none."""

    port: int
    protocol: Protocol
    node_port: int
    hash: str
    backends: tuple[CheckedBackend, ...]


class ServicePlan(msgspec.Struct, frozen=True):
    """``families`` are the IP versions that it is reached by. ``affinity_seconds`` is 0 without affinity."""

    source: NetworkService
    addresses: tuple[Address, ...] = ()
    families: tuple[int, ...] = ()
    ports: tuple[PlannedPort, ...] = ()
    affinity_seconds: int = 0
    problems: tuple[Problem, ...] = ()

    def claims(self) -> set[Claim]:
        """Everything that it must have for itself alone."""
        found: set[Claim] = {("", port.protocol, port.node_port) for port in self.ports if port.node_port}
        for address in self.addresses:
            found.update((address.text, port.protocol, port.port) for port in self.ports)
        return found


def problem(service: Service, reason: str, message: str) -> Problem:
    """A Problem of ``service``."""
    meta = service.metadata
    return Problem(kind="Service", namespace=meta.namespace, name=meta.name, reason=reason, message=message)


def given_ranges(state: NetworkState) -> Sequence[str]:
    """The ranges of cluster IPs that the hub gave; empty where this node's own configuration says them."""
    return next((node.spec.service_cidrs for node in state.nodes if node.metadata.name == state.node), ())


class ServicePlanner:
    """Checks Services against what this node has: its ranges, and whether it knows SCTP."""

    def __init__(self, config: NetworkConfig, *, sctp: bool, given: Sequence[str] = ()) -> None:
        """``given`` are the ranges that the hub gave, which then gave the node ports too: they may be any.

        Without them those of ``config`` count. PermanentError where one is no range.
        """
        self._sctp = sctp
        if given:
            try:
                self._ranges = [ipaddress.ip_network(cidr[:64]) for cidr in given]
            except ValueError as error:
                raise PermanentError(f"service range: {error}", reason="InvalidServiceCIDR") from None
            self._node_ports = range(1, MAX_PORT + 1)
            return
        try:
            self._ranges = [ipaddress.ip_network(cidr) for cidr in config.service_cidrs]
        except ValueError as error:
            raise PermanentError(
                f"[plugins.network] service_cidrs: {error}", reason="InvalidConfiguration"
            ) from None
        first, _, last = config.node_ports.partition("-")
        self._node_ports = range(int(first), int(last) + 1)
        if not self._node_ports or int(first) < 1 or int(last) > MAX_PORT:
            raise PermanentError(
                f"[plugins.network] node_ports: {config.node_ports} is not a range of ports",
                reason="InvalidConfiguration",
            )

    def plan(self, source: NetworkService) -> ServicePlan:
        """What of the Service can be put in force, and what cannot."""
        service, spec = source.service, source.service.spec
        found: list[Problem] = []
        if spec.external_ips:
            found.append(
                problem(
                    service,
                    "ExternalIPsRefused",
                    "externalIPs are not served: whoever may make a Service could take any address with them",
                )
            )
        if spec.type == "ExternalName" or HEADLESS in (spec.cluster_ip, *spec.cluster_ips):
            return ServicePlan(source, problems=tuple(found))
        if spec.type == "LoadBalancer":
            found.append(
                problem(
                    service,
                    "NoLoadBalancer",
                    "type LoadBalancer gets no address here; it is served as a NodePort",
                )
            )
        addresses = self._addresses(service, found)
        ports = self._ports(source, found)
        families = {address.version for address in addresses} | {
            4 if family == "IPv4" else 6 for family in spec.ip_families
        }
        if not families:
            families = {one.target.address.version for port in ports for one in port.backends}
        return ServicePlan(
            source,
            addresses,
            tuple(sorted(families)),
            ports,
            _affinity_seconds(service, found),
            tuple(found),
        )

    def _addresses(self, service: Service, found: list[Problem]) -> tuple[Address, ...]:
        spec = service.spec
        texts = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
        if not texts:
            found.append(problem(service, "NoClusterIP", "it has no clusterIP: give it one"))
        good: dict[Address, None] = {}
        for text in texts:
            try:
                address = parse_address(text)
            except ValueError as error:
                found.append(problem(service, "InvalidClusterIP", f"clusterIP: {error}"))
                continue
            if any(ipaddress.ip_address(address.text) in cidr for cidr in self._ranges):
                good[address] = None
            else:
                ranges = ", ".join(map(str, self._ranges)) or "no range"
                found.append(
                    problem(service, "ClusterIPOutOfRange", f"clusterIP {address.text} is not in {ranges}")
                )
        return tuple(good)

    def _ports(self, source: NetworkService, found: list[Problem]) -> tuple[PlannedPort, ...]:
        service = source.service
        ports: list[PlannedPort] = []
        taken: set[tuple[Protocol, int]] = set()
        taken_node_ports: set[tuple[Protocol, int]] = set()
        for port in service.spec.ports:
            label = f"port {port.name or port.port}"
            if not 0 < port.port <= MAX_PORT:
                message = f"{label} is {port.port}: ports are 1 to {MAX_PORT}"
                found.append(problem(service, "InvalidPort", message))
                continue
            if (port.protocol, port.port) in taken:
                message = f"{label}: another of its ports is {port.port}/{port.protocol} too"
                found.append(problem(service, "DuplicatePort", message))
                continue
            if port.protocol == "SCTP" and not self._sctp:
                message = f"{label}: this node's kernel does not track SCTP (CONFIG_NF_CT_PROTO_SCTP)"
                found.append(problem(service, "UnsupportedProtocol", message))
                continue
            taken.add((port.protocol, port.port))
            node_port = self._node_port(service, port, label, found)
            if node_port and (port.protocol, node_port) in taken_node_ports:
                message = f"{label}: another of its ports has nodePort {node_port}/{port.protocol} too"
                found.append(problem(service, "DuplicatePort", message))
                node_port = 0
            taken_node_ports.add((port.protocol, node_port))
            backends, wrong = check_backends(source.backends.get(port.name, ()))
            if wrong:
                message = f"{label}: {_some(wrong)}"
                found.append(problem(service, "InvalidEndpoint", message))
            meta = service.metadata
            identity = short_hash(meta.namespace, meta.name, port.protocol, port.port)
            ports.append(PlannedPort(port.port, port.protocol, node_port, identity, tuple(backends)))
        return tuple(ports)

    def _node_port(self, service: Service, port: ServicePort, label: str, found: list[Problem]) -> int:
        if service.spec.type not in ("NodePort", "LoadBalancer"):
            return 0
        if not port.node_port:
            if service.spec.type == "NodePort":
                found.append(problem(service, "NoNodePort", f"{label} has no nodePort: give it one"))
            return 0
        if port.node_port not in self._node_ports:
            message = (
                f"{label}: nodePort {port.node_port} is not in "
                f"{self._node_ports.start}-{self._node_ports.stop - 1}"
            )
            found.append(problem(service, "NodePortOutOfRange", message))
            return 0
        return port.node_port


def _affinity_seconds(service: Service, found: list[Problem]) -> int:
    spec = service.spec
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    if config is None or config.client_ip is None:
        return DEFAULT_AFFINITY_SECONDS
    seconds = config.client_ip.timeout_seconds
    if 0 < seconds <= MAX_AFFINITY_SECONDS:
        return seconds
    message = (
        f"sessionAffinityConfig.clientIP.timeoutSeconds is {seconds}, which is not 1 to "
        f"{MAX_AFFINITY_SECONDS}; {DEFAULT_AFFINITY_SECONDS} is used"
    )
    found.append(problem(service, "InvalidAffinityTimeout", message))
    return DEFAULT_AFFINITY_SECONDS


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_NAMED
    return "; ".join(texts[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
