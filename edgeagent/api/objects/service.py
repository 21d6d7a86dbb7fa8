"""Service and EndpointSlice: one address for many pods.

https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
"""

from typing import Literal

import msgspec

from edgeagent.api.objects.base import KubernetesStruct, ObjectMeta, ObjectReference

Protocol = Literal["TCP", "UDP", "SCTP"]
HEADLESS = "None"
"""The ``clusterIP`` of a Service that has none."""


class ServicePort(KubernetesStruct, frozen=True):
    """A port of a Service. ``target_port``: a number, the name of a pod's port, or 0 for ``port`` itself."""

    port: int
    name: str = ""
    protocol: Protocol = "TCP"
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


class ClientIPConfig(KubernetesStruct, frozen=True):
    """How long a client is remembered."""

    timeout_seconds: int = 10_800


class SessionAffinityConfig(KubernetesStruct, frozen=True):
    """What goes with ``sessionAffinity: ClientIP``."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(KubernetesStruct, frozen=True):
    """What a Service offers. ``cluster_ips`` holds an address of each family; the first is ``cluster_ip``."""

    type: Literal["ClusterIP", "NodePort", "ExternalName", "LoadBalancer"] = "ClusterIP"
    selector: dict[str, str] = {}
    ports: list[ServicePort] = []
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] = msgspec.field(default_factory=list, name="clusterIPs")
    ip_families: list[Literal["IPv4", "IPv6"]] = []
    ip_family_policy: Literal["", "SingleStack", "PreferDualStack", "RequireDualStack"] = ""
    external_name: str = ""
    external_ips: list[str] = msgspec.field(default_factory=list, name="externalIPs")
    session_affinity: Literal["", "None", "ClientIP"] = ""
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: Literal["", "Cluster", "Local"] = ""
    external_traffic_policy: Literal["", "Cluster", "Local"] = ""
    traffic_distribution: Literal["", "PreferClose", "PreferSameZone", "PreferSameNode"] = ""
    publish_not_ready_addresses: bool = False


class Service(KubernetesStruct, frozen=True, tag_field="kind", tag="Service"):
    """A Kubernetes Service."""

    api_version: Literal["v1"]
    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: dict[str, object] = {}


class EndpointConditions(KubernetesStruct, frozen=True):
    """``ready`` is what gets new connections; ``serving`` says the same of an endpoint that is ending."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(KubernetesStruct, frozen=True):
    """One backend, by its addresses, of which the first counts."""

    addresses: list[str]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    target_ref: ObjectReference | None = None


class EndpointPort(KubernetesStruct, frozen=True):
    """A port that every endpoint of the slice has; ``name`` is that of the Service's port."""

    port: int
    name: str = ""
    protocol: Protocol = "TCP"


class EndpointSlice(KubernetesStruct, frozen=True, tag_field="kind", tag="EndpointSlice"):
    """Endpoints of the Service that its label ``kubernetes.io/service-name`` names."""

    api_version: Literal["discovery.k8s.io/v1"]
    metadata: ObjectMeta
    address_type: Literal["IPv4", "IPv6"]
    endpoints: list[Endpoint] = []
    ports: list[EndpointPort] = []


LABEL_SERVICE_NAME = "kubernetes.io/service-name"
