"""Objects that nobody applies: EndpointSlices from Services and pods, and where pods of other nodes are.

Pure. May not know who gets them, nor when.
https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

import hashlib
import ipaddress
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from edgeagent.api.objects.base import ObjectMeta, ObjectReference
from edgeagent.api.objects.network import PodAddress, PodAddressSpec
from edgeagent.api.objects.pod import Pod, PodIP
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


def endpoint_slices(
    service: Service, pods: Iterable[Pod], gone: Callable[[str], bool]
) -> Iterator[EndpointSlice]:
    """The slices of a Service with a selector, of ``pods`` of its namespace. ``gone``: of nodes by name."""
    found: dict[tuple[Family, tuple[EndpointPort, ...]], list[Endpoint]] = {}
    selector = service.spec.selector
    for pod in pods:
        if not selector.items() <= pod.metadata.labels.items() or pod.status.phase in ("Succeeded", "Failed"):
            continue
        ports = tuple(_ports(service.spec.ports, pod))
        if not ports and service.spec.ports:
            continue
        for one in pod.status.pod_ips:
            endpoint = _endpoint(service, pod, one.ip, gone(pod.spec.node_name))
            found.setdefault((_family(one.ip), ports), []).append(endpoint)
    for (family, ports), endpoints in sorted(found.items(), key=lambda item: str(item[0])):
        endpoints.sort(key=lambda one: one.addresses)
        for start in range(0, len(endpoints), MAX_ENDPOINTS):
            key = f"{family}/{ports}/{start}"
            yield _slice(service, key, family, ports, endpoints[start : start + MAX_ENDPOINTS])


def _ports(ports: Iterable[ServicePort], pod: Pod) -> Iterator[EndpointPort]:
    named = named_ports(pod)
    for port in ports:
        target = port.target_port
        number = target or port.port if isinstance(target, int) else named.get(f"{target}/{port.protocol}", 0)
        if number:
            yield EndpointPort(port=number, name=port.name, protocol=port.protocol)


def named_ports(pod: Pod) -> dict[str, int]:
    """The ports that the pod's containers name, by ``name/PROTOCOL``."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return {
        f"{port.name}/{port.protocol}": port.container_port
        for container in containers
        for port in container.ports
        if port.name
    }


def _family(ip: str) -> Family:
    return "IPv6" if ipaddress.ip_address(ip).version == 6 else "IPv4"


def _endpoint(service: Service, pod: Pod, ip: str, gone: bool) -> Endpoint:
    meta, spec = pod.metadata, pod.spec
    serving = not gone and any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions)
    terminating = bool(meta.deletion_timestamp)
    return Endpoint(
        addresses=[ip],
        conditions=EndpointConditions(
            ready=serving and not terminating, serving=serving, terminating=terminating
        ),
        hostname=spec.hostname if spec.subdomain == service.metadata.name else "",
        node_name=spec.node_name,
        target_ref=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
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


def with_own_addresses(pod: Pod, ranges: Iterable[str], host: str) -> tuple[Pod, list[str]]:
    """The pod with those addresses that it can have, one a family as in Kubernetes, and the others.

    ``ranges`` are its node's, empty where they are not known. ``host`` is its node's own address: the only
    one of a pod on the host's network.
    """
    own = [ipaddress.ip_network(text) for text in ranges]
    kept: dict[int, PodIP] = {}
    others: list[str] = []
    for one in pod.status.pod_ips:
        address = _address(one.ip)
        if pod.spec.host_network:
            fits = address is not None and address == _address(host)
        else:
            fits = address is not None and (not own or any(address in part for part in own))
        if address is None or not fits:
            others.append(one.ip)
        else:
            kept.setdefault(address.version, PodIP(ip=str(address)))
    status = msgspec.structs.replace(pod.status, pod_ips=list(kept.values()))
    return msgspec.structs.replace(pod, status=status), others


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None where it is none that others can send to."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    # As ValidateNonSpecialIP has it in Kubernetes; a zone says that it is an address of one link.
    special = found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified
    return None if special or getattr(found, "scope_id", None) else found


def pod_address(pod: Pod) -> PodAddress | None:
    """Where the pod is, for the policies of other nodes; None while it has no address of its own."""
    meta = pod.metadata
    if pod.spec.host_network or not pod.status.pod_ips or pod.status.phase in ("Succeeded", "Failed"):
        return None
    return PodAddress(
        api_version="edgeagent/v1",
        metadata=ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            uid=str(uuid.uuid5(NAMES, f"address/{meta.uid}")),
            labels=meta.labels,
        ),
        spec=PodAddressSpec(
            node_name=pod.spec.node_name,
            ips=[one.ip for one in pod.status.pod_ips],
            named_ports=named_ports(pod),
        ),
    )


def network_facts(pod: Pod) -> tuple[object, ...]:
    """All of the pod that endpoints and addresses are made of: where it is equal, these are."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    return (
        meta.uid,
        meta.labels,
        bool(meta.deletion_timestamp),
        (spec.node_name, spec.host_network, spec.hostname, spec.subdomain),
        named_ports(pod),
        status.phase,
        status.pod_ips,
        [one.status for one in status.conditions if one.type == "Ready"],
    )


def by_namespace(pods: Iterable[Pod]) -> Mapping[str, list[Pod]]:
    """The pods of each namespace."""
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        found.setdefault(pod.metadata.namespace, []).append(pod)
    return found
