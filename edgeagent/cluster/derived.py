"""Objects that nobody applies: EndpointSlices from Services and pods, and where pods of other nodes are.

Pure. May not know who gets them, nor when.
https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

import hashlib
import ipaddress
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta, ObjectReference
from edgeagent.api.objects.network import PodAddress, PodAddressSpec
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.service import (
    LABEL_SERVICE_NAME,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Service,
    ServicePort,
)

MAX_ENDPOINTS = 100
"""In one slice, as in Kubernetes."""
NAMES = uuid.UUID("6f0a3a52-2f0e-4f3c-9a52-0b1d2f6f7c11")
"""The root of the uids of what is derived: the same name has the same uid again."""

Family = Literal["IPv4", "IPv6"]


class PodFacts(KubernetesStruct, frozen=True):
    """All of a pod that endpoints and addresses are made of: where it is equal, these are.

    ``ips`` are as its node says. ``named_ports`` are by ``name/PROTOCOL``. ``ended``: none of its containers
    will run again. ``mirror``: it is a static pod, which is known from its node's report alone.
    """

    namespace: str
    name: str
    uid: str
    labels: dict[str, str] = {}
    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    named_ports: dict[str, int] = {}
    terminating: bool = False
    ended: bool = False
    ready: bool = False
    ips: list[str] = []
    mirror: bool = False


def pod_facts(pod: Pod, *, mirror: bool = False) -> PodFacts:
    """Those of ``pod`` with the status that its node reports."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    return PodFacts(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        labels=meta.labels,
        node_name=spec.node_name,
        host_network=spec.host_network,
        hostname=spec.hostname,
        subdomain=spec.subdomain,
        named_ports=_named_ports(pod),
        terminating=bool(meta.deletion_timestamp),
        ended=status.phase in ("Succeeded", "Failed"),
        ready=any(one.type == "Ready" and one.status == "True" for one in status.conditions),
        ips=[one.ip for one in status.pod_ips],
        mirror=mirror,
    )


def _named_ports(pod: Pod) -> dict[str, int]:
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return {
        f"{port.name}/{port.protocol}": port.container_port
        for container in containers
        for port in container.ports
        if port.name
    }


def endpoint_slices(
    service: Service, pods: Iterable[PodFacts], gone: Callable[[str], bool]
) -> Iterator[EndpointSlice]:
    """The slices of a Service with a selector, of ``pods`` of its namespace. ``gone``: of nodes by name."""
    found: dict[tuple[Family, tuple[EndpointPort, ...]], list[Endpoint]] = {}
    selector = service.spec.selector
    for pod in pods:
        if not selector.items() <= pod.labels.items() or pod.ended:
            continue
        ports = tuple(_ports(service.spec.ports, pod))
        if not ports and service.spec.ports:
            continue
        for ip in pod.ips:
            endpoint = _endpoint(service, pod, ip, gone(pod.node_name))
            found.setdefault((_family(ip), ports), []).append(endpoint)
    for (family, ports), endpoints in sorted(found.items(), key=lambda item: str(item[0])):
        endpoints.sort(key=_place)
        for start in range(0, len(endpoints), MAX_ENDPOINTS):
            key = f"{family}/{ports}/{start}"
            yield _slice(service, key, family, ports, endpoints[start : start + MAX_ENDPOINTS])


def _place(endpoint: Endpoint) -> tuple[list[str], str]:
    """In a slice. Pods on the host's network share an address."""
    return endpoint.addresses, endpoint.target_ref.name if endpoint.target_ref else ""


def _ports(ports: Iterable[ServicePort], pod: PodFacts) -> Iterator[EndpointPort]:
    for port in ports:
        target = port.target_port
        if isinstance(target, int):
            number = target or port.port
        else:
            number = pod.named_ports.get(f"{target}/{port.protocol}", 0)
        if number:
            yield EndpointPort(port=number, name=port.name, protocol=port.protocol)


def _family(ip: str) -> Family:
    return "IPv6" if ":" in ip else "IPv4"


def _endpoint(service: Service, pod: PodFacts, ip: str, gone: bool) -> Endpoint:
    serving = pod.ready and not gone
    return Endpoint(
        addresses=[ip],
        conditions=EndpointConditions(
            ready=service.spec.publish_not_ready_addresses or (serving and not pod.terminating),
            serving=serving,
            terminating=pod.terminating,
        ),
        hostname=pod.hostname if pod.subdomain == service.metadata.name else "",
        node_name=pod.node_name,
        target_ref=ObjectReference(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid),
    )


def _slice(
    service: Service, key: str, family: Family, ports: Iterable[EndpointPort], endpoints: list[Endpoint]
) -> EndpointSlice:
    meta = service.metadata
    suffix = hashlib.sha256(key.encode()).hexdigest()[:8]
    return EndpointSlice(
        api_version="discovery.k8s.io/v1",
        metadata=ObjectMeta(
            name=f"{meta.name}-{suffix}",
            namespace=meta.namespace,
            uid=str(uuid.uuid5(NAMES, f"{meta.uid}/{key}")),
            labels={LABEL_SERVICE_NAME: meta.name},
        ),
        address_type=family,
        endpoints=endpoints,
        ports=list(ports),
    )


def with_own_addresses(pod: PodFacts, ranges: Iterable[str], host: str) -> tuple[PodFacts, list[str]]:
    """The pod with those addresses that it can have, one a family as in Kubernetes, and the others.

    ``ranges`` are its node's, empty where they are not known. ``host`` is its node's own address: the only
    one of a pod on the host's network.
    """
    own = [ipaddress.ip_network(text) for text in ranges]
    kept: dict[int, str] = {}
    others: list[str] = []
    for ip in pod.ips:
        address = _address(ip)
        if pod.host_network:
            fits = address is not None and address == _address(host)
        else:
            fits = address is not None and (not own or any(address in part for part in own))
        if address is None or not fits:
            others.append(ip)
        else:
            kept.setdefault(address.version, str(address))
    return msgspec.structs.replace(pod, ips=list(kept.values())), others


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None where it is none that others can send to."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    # As ValidateNonSpecialIP has it in Kubernetes; a zone says that it is an address of one link.
    special = found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified
    return None if special or getattr(found, "scope_id", None) else found


def pod_address(pod: PodFacts) -> PodAddress | None:
    """Where the pod is, for the policies of other nodes; None while it has no address of its own.

    The same pod has the same uid, whatever its labels become. A pod of another name never has: a node says
    the uids of its static pods itself, and two objects of one uid would be one to those who are told.
    """
    if pod.host_network or not pod.ips or pod.ended:
        return None
    return PodAddress(
        api_version="edgeagent/v1",
        metadata=ObjectMeta(
            name=pod.name,
            namespace=pod.namespace,
            uid=str(uuid.uuid5(NAMES, f"address/{pod.namespace}/{pod.name}/{pod.uid}")),
            labels=pod.labels,
        ),
        spec=PodAddressSpec(node_name=pod.node_name, ips=pod.ips, named_ports=pod.named_ports),
    )
