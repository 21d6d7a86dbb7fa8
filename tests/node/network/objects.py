"""Pods, services and slices for the tests of the network's state."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.pod import Pod, PodIP, PodStatus
from edgeagent.api.objects.service import (
    LABEL_SERVICE_NAME,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Service,
    ServicePort,
    ServiceSpec,
)
from edgeagent.node.network.localpods import LocalPod, LocalPods, pod_on_network
from edgeagent.node.store.pods import PodRecord
from tests.node.podkit import make_pod


def pod(name: str, labels: Mapping[str, str], *ports: dict[str, Any], **spec: Any) -> Pod:
    """A pod in namespace ``shop``; its uid is ``u-<name>``."""
    return make_pod(
        {"ports": list(ports)}, metadata={"name": name, "uid": f"u-{name}", "labels": dict(labels)}, **spec
    )


def status(*ips: str, ready: bool = True, phase: str = "Running") -> PodStatus:
    """The status of a pod with these addresses."""
    said = Condition(type="Ready", status="True" if ready else "False")
    return PodStatus(phase=phase, conditions=[said], pod_ips=[PodIP(ip=ip) for ip in ips])  # type: ignore[arg-type]


def local(found: Pod, *ips: str, ready: bool = True) -> LocalPod:
    """It, as it is told of."""
    (one,) = LocalPods().look([(found, status(ready=ready))], {found.metadata.uid: list(ips)})
    return one


def record(found: Pod, *ips: str, ready: bool = True, phase: str = "") -> PodRecord:
    """What the store remembers of it; ``ips`` where it is on the host's network."""
    meta = found.metadata
    return PodRecord(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        phase=phase,
        host_network=found.spec.host_network,
        network=pod_on_network(found, status(*ips, ready=ready)),
    )


def service(name: str, selector: Mapping[str, str], *ports: ServicePort, **spec: Any) -> Service:
    """A Service in namespace ``shop``."""
    return Service(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="shop", uid=f"s-{name}"),
        spec=msgspec.structs.replace(ServiceSpec(), selector=dict(selector), ports=list(ports), **spec),
    )


def endpoint(ip: str, node: str = "", **conditions: bool | None) -> Endpoint:
    """One endpoint of a slice."""
    return Endpoint(addresses=[ip], node_name=node, conditions=EndpointConditions(**conditions))


def slice_of(name: str, ports: Sequence[EndpointPort], *endpoints: Endpoint) -> EndpointSlice:
    """A slice of the Service ``name``."""
    return EndpointSlice(
        api_version="discovery.k8s.io/v1",
        metadata=ObjectMeta(
            name=f"{name}-1", namespace="shop", uid=f"e-{name}", labels={LABEL_SERVICE_NAME: name}
        ),
        address_type="IPv4",
        ports=list(ports),
        endpoints=list(endpoints),
    )
