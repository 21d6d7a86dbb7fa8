"""Which backends a Service has, as this node knows: its own pods by itself, the others from EndpointSlices.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import is_

import msgspec

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
"""A namespace, a label's key and its value."""
Name = tuple[str, str]
"""A namespace and the name of a Service."""


class _Inputs(msgspec.Struct):
    service: Service
    pods: list[LocalPod] = msgspec.field(default_factory=list)
    slices: list[EndpointSlice] = msgspec.field(default_factory=list)

    def same(self, other: "_Inputs") -> bool:
        return (
            self.service is other.service
            and _same(self.pods, other.pods)
            and _same(self.slices, other.slices)
        )


class Endpoints:
    """Remembers what it found: a Service of which nothing changed gives the very same object again.

    Where the Services are those of before, only those are looked at whose pods or slices changed: beyond
    comparing identities, the cost of a change is not that of all there is.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._services: list[Service] = []
        self._pods: list[LocalPod] = []
        self._slices: list[EndpointSlice] = []
        self._inputs: dict[str, _Inputs] = {}
        self._by_label: dict[Label, list[_Inputs]] = {}
        self._by_name: dict[Name, _Inputs] = {}
        self._known: dict[str, NetworkService] = {}

    def find(
        self, services: Iterable[Service], pods: Iterable[LocalPod], slices: Iterable[EndpointSlice]
    ) -> list[NetworkService]:
        """Every service with its backends, in the order given."""
        services, pods, slices = list(services), list(pods), list(slices)
        moved = self._moved(slices) if _same(services, self._services) else None
        if moved is None:
            self._take_all(services, pods, slices)
        else:
            self._take_changes(pods, moved)
        self._services, self._pods, self._slices = services, pods, slices
        return list(self._known.values())

    def _moved(self, slices: list[EndpointSlice]) -> list[tuple[EndpointSlice, EndpointSlice]] | None:
        """Which slices are others now, each with the one in its place before; None where more changed."""
        if len(slices) != len(self._slices):
            return None
        moved = [pair for pair in zip(self._slices, slices, strict=True) if pair[0] is not pair[1]]
        return moved if all(_owner(old) == _owner(new) for old, new in moved) else None

    def _take_all(self, services: list[Service], pods: list[LocalPod], slices: list[EndpointSlice]) -> None:
        before, known = self._inputs, self._known
        self._inputs = {service.metadata.uid: _Inputs(service) for service in services}
        self._by_label, self._by_name = {}, {}
        for one in self._inputs.values():
            meta = one.service.metadata
            self._by_name[meta.namespace, meta.name] = one
            if selector := one.service.spec.selector:
                self._by_label.setdefault((meta.namespace, *min(selector.items())), []).append(one)
        for local in pods:
            for one in self._selecting(local):
                one.pods.append(local)
        for piece in slices:
            if (owner := self._by_name.get(_owner(piece))) is not None:
                owner.slices.append(piece)
        self._known = {
            uid: known[uid] if uid in before and before[uid].same(one) else self._found(one)
            for uid, one in self._inputs.items()
        }

    def _take_changes(self, pods: list[LocalPod], moved: list[tuple[EndpointSlice, EndpointSlice]]) -> None:
        touched: dict[str, _Inputs] = {}
        if not _same(pods, self._pods):
            old, new = set(map(id, self._pods)), set(map(id, pods))
            differing = [one for one in (*self._pods, *pods) if (id(one) in old) != (id(one) in new)]
            concerned = {
                one.service.metadata.uid: one for local in differing for one in self._selecting(local)
            }
            for one in concerned.values():
                one.pods = [local for local in pods if _selects(one.service, local)]
            touched |= concerned
        now = {id(before): piece for before, piece in moved}
        for name in {_owner(piece): None for _, piece in moved}:
            if (owner := self._by_name.get(name)) is not None:
                owner.slices = [now.get(id(piece), piece) for piece in owner.slices]
                touched[owner.service.metadata.uid] = owner
        for uid, one in touched.items():
            self._known[uid] = self._found(one)

    def _selecting(self, local: LocalPod) -> Iterator[_Inputs]:
        """The Services that select the pod."""
        for label in local.told.labels.items():
            for one in self._by_label.get((local.told.namespace, *label), ()):
                if _selects(one.service, local):
                    yield one

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


def _same(some: Sequence[object], others: Sequence[object]) -> bool:
    """Whether these are the very same objects in the same order."""
    return len(some) == len(others) and all(map(is_, some, others))


def _owner(piece: EndpointSlice) -> Name:
    meta = piece.metadata
    return meta.namespace, meta.labels.get(LABEL_SERVICE_NAME, "")


def _selects(service: Service, local: LocalPod) -> bool:
    selector, told = service.spec.selector, local.told
    return (
        bool(selector)
        and service.metadata.namespace == told.namespace
        and selector.items() <= told.labels.items()
    )


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
            ready=service.spec.publish_not_ready_addresses or (told.ready and not told.terminating),
            serving=told.ready,
            terminating=told.terminating,
            hostname=local.hostname if local.subdomain == service.metadata.name else "",
        )


def _target(local: LocalPod, port: ServicePort) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    named = local.told.named_ports
    return next((p.port for p in named if (p.name, p.protocol) == (port.target_port, port.protocol)), None)
