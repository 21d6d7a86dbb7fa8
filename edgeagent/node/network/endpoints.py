"""Which backends a Service has, as this node knows: its own pods by itself, the others from EndpointSlices.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from edgeagent.api.network import Backend, NetworkService
from edgeagent.api.objects.service import (
    HEADLESS,
    LABEL_SERVICE_NAME,
    Endpoint,
    EndpointSlice,
    Service,
    ServicePort,
)
from edgeagent.node.network.localpods import LocalPod

ELSEWHERE = "?"
"""The node of an endpoint that no node is named for."""

Label = tuple[str, str, str]


@dataclass(slots=True)
class _Inputs:
    service: Service
    pods: list[LocalPod] = field(default_factory=list)
    slices: list[EndpointSlice] = field(default_factory=list)

    def same(self, other: "_Inputs") -> bool:
        return (
            self.service is other.service
            and len(self.pods) == len(other.pods)
            and len(self.slices) == len(other.slices)
            and all(a is b for a, b in zip(self.pods, other.pods, strict=True))
            and all(a is b for a, b in zip(self.slices, other.slices, strict=True))
        )


class Endpoints:
    """Remembers what it found: a Service of which nothing changed gives the very same object again."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._known: dict[str, tuple[_Inputs, NetworkService]] = {}

    def find(
        self, services: Iterable[Service], pods: Sequence[LocalPod], slices: Iterable[EndpointSlice]
    ) -> list[NetworkService]:
        """Every service with its backends, in the order given."""
        inputs = {service.metadata.uid: _Inputs(service) for service in services}
        by_label: dict[Label, list[_Inputs]] = {}
        by_name: dict[tuple[str, str], _Inputs] = {}
        for one in inputs.values():
            meta = one.service.metadata
            by_name[meta.namespace, meta.name] = one
            if selector := one.service.spec.selector:
                by_label.setdefault((meta.namespace, *min(selector.items())), []).append(one)
        for local in pods:
            told = local.told
            for label in told.labels.items():
                for one in by_label.get((told.namespace, *label), ()):
                    if one.service.spec.selector.items() <= told.labels.items():
                        one.pods.append(local)
        for piece in slices:
            owner = by_name.get((piece.metadata.namespace, piece.metadata.labels.get(LABEL_SERVICE_NAME, "")))
            if owner is not None:
                owner.slices.append(piece)
        known, self._known = self._known, {}
        for uid, one in inputs.items():
            old = known.get(uid)
            same = old is not None and old[0].same(one)
            self._known[uid] = old if same and old is not None else (one, self._found(one))
        return [found for _, found in self._known.values()]

    def _found(self, one: _Inputs) -> NetworkService:
        spec = one.service.spec
        backends: dict[str, list[Backend]] = {}
        # A headless Service may be without ports: its names alone are of use then.
        ports = spec.ports or ([ServicePort(port=0)] if spec.cluster_ip == HEADLESS else [])
        for port in ports:
            own = [backend for local in one.pods for backend in _of_pod(local, port, one.service)]
            others = [backend for piece in one.slices for backend in self._of_slice(piece, port, one.service)]
            backends[port.name] = sorted(own + others, key=lambda backend: (backend.ip, backend.port))
        return NetworkService(service=one.service, backends=backends)

    def _of_slice(self, piece: EndpointSlice, port: ServicePort, service: Service) -> Iterator[Backend]:
        number = next(
            (p.port for p in piece.ports if (p.name, p.protocol) == (port.name, port.protocol)), None
        )
        if number is None:
            if port.port or piece.ports:
                return
            number = 0
        for endpoint in piece.endpoints:
            mine = endpoint.node_name == self._node
            if mine and service.spec.selector:
                continue  # this node knows better
            if endpoint.addresses:
                yield _backend(endpoint, number, "" if mine else endpoint.node_name or ELSEWHERE)


def _backend(endpoint: Endpoint, port: int, node: str) -> Backend:
    said = endpoint.conditions
    ready = said.ready is not False
    return Backend(
        ip=endpoint.addresses[0],
        port=port,
        node=node,
        ready=ready,
        serving=ready if said.serving is None else said.serving,
        terminating=bool(said.terminating),
        hostname=endpoint.hostname,
    )


def _of_pod(local: LocalPod, port: ServicePort, service: Service) -> Iterator[Backend]:
    told = local.told
    number = _target(local, port)
    if number is None:
        return
    for ip in told.ips:
        yield Backend(
            ip=ip,
            port=number,
            ready=told.ready and not told.terminating,
            serving=told.ready,
            terminating=told.terminating,
            hostname=local.hostname if local.subdomain == service.metadata.name else "",
        )


def _target(local: LocalPod, port: ServicePort) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    named = local.told.named_ports
    return next((p.port for p in named if (p.name, p.protocol) == (port.target_port, port.protocol)), None)
