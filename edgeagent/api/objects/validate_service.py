"""The rules for Service and EndpointSlice that types alone cannot state.

https://kubernetes.io/docs/concepts/services-networking/service/
"""

import ipaddress
from collections.abc import Sequence

from edgeagent.api.objects.service import HEADLESS, EndpointSlice, Service, ServicePort, ServiceSpec
from edgeagent.api.objects.validate import (
    require,
    validate_ip,
    validate_label,
    validate_name,
    validate_port,
    validate_qualified_name,
    validate_range,
    validate_unique,
)

MAX_PORTS = 100
MAX_ENDPOINTS = 1_000
MAX_AFFINITY_SECONDS = 86_400


def validate_service(service: Service) -> None:
    """Its name is a DNS label; its ports can be told apart; what is not supported is refused by name."""
    validate_label(service.metadata.name, "metadata.name")
    spec = service.spec
    require(
        spec.type != "LoadBalancer",
        "spec.type",
        "LoadBalancer is not supported: nothing gives out addresses. Use NodePort",
    )
    require(not spec.external_ips, "spec.externalIPs", "not supported by edgeagent: use a NodePort")
    for key in spec.selector:
        validate_qualified_name(key, f"spec.selector.{key[:80]}")
    if spec.type == "ExternalName":
        validate_name(spec.external_name.removesuffix("."), "spec.externalName")
        require(
            not spec.cluster_ip and not spec.cluster_ips, "spec.clusterIP", "must not be set for ExternalName"
        )
        return
    require(not spec.external_name, "spec.externalName", "is for type ExternalName only")
    headless = HEADLESS in (spec.cluster_ip, *spec.cluster_ips)
    require(headless or bool(spec.ports), "spec.ports", "required field is missing")
    require(not headless or spec.type == "ClusterIP", "spec.clusterIP", "must not be None for NodePort")
    _validate_addresses(spec)
    _validate_ports(spec.ports, node_ports=spec.type == "NodePort")
    if spec.session_affinity_config is not None and spec.session_affinity_config.client_ip is not None:
        where = "spec.sessionAffinityConfig"
        require(spec.session_affinity == "ClientIP", where, "is for sessionAffinity ClientIP only")
        seconds = spec.session_affinity_config.client_ip.timeout_seconds
        validate_range(seconds, 1, MAX_AFFINITY_SECONDS, f"{where}.clientIP.timeoutSeconds")


def _validate_addresses(spec: ServiceSpec) -> None:
    named = [("spec.clusterIP", spec.cluster_ip)] if spec.cluster_ip else []
    named += [(f"spec.clusterIPs[{index}]", text) for index, text in enumerate(spec.cluster_ips)]
    for path, text in named:
        if text != HEADLESS:
            validate_ip(text, path)
    versions = [ipaddress.ip_address(text).version for text in spec.cluster_ips if text != HEADLESS]
    require(len(set(versions)) == len(versions), "spec.clusterIPs", "at most one address of each family")
    require(len(spec.ip_families) == len(set(spec.ip_families)), "spec.ipFamilies", "a family is there twice")


def _validate_ports(ports: Sequence[ServicePort], *, node_ports: bool) -> None:
    require(len(ports) <= MAX_PORTS, "spec.ports", f"more than {MAX_PORTS}")
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        require(
            len(ports) == 1 or bool(port.name), f"{path}.name", "required where there is more than one port"
        )
        if port.name:
            validate_label(port.name, f"{path}.name")
        validate_port(port.port, f"{path}.port")
        if port.target_port != 0:
            validate_port(port.target_port, f"{path}.targetPort")
        validate_range(port.node_port, 0, 65_535, f"{path}.nodePort")
        require(node_ports or not port.node_port, f"{path}.nodePort", "is for type NodePort only")
    validate_unique((port.name for port in ports), "spec.ports", "name")
    validate_unique((f"{port.port}/{port.protocol}" for port in ports), "spec.ports", "port")
    if given := [f"{port.node_port}/{port.protocol}" for port in ports if port.node_port]:
        validate_unique(given, "spec.ports", "nodePort")


def validate_endpoint_slice(piece: EndpointSlice) -> None:
    """Its addresses are of its family; its ports can be told apart."""
    version = 6 if piece.address_type == "IPv6" else 4
    require(len(piece.endpoints) <= MAX_ENDPOINTS, "endpoints", f"more than {MAX_ENDPOINTS}")
    for index, endpoint in enumerate(piece.endpoints):
        path = f"endpoints[{index}].addresses"
        require(bool(endpoint.addresses), path, "required field is missing")
        for number, text in enumerate(endpoint.addresses):
            validate_ip(text, f"{path}[{number}]")
            wrong = ipaddress.ip_address(text).version != version
            require(
                not wrong, f"{path}[{number}]", f"{text} is not of the slice's family {piece.address_type}"
            )
        if endpoint.hostname:
            validate_label(endpoint.hostname, f"endpoints[{index}].hostname")
    for index, port in enumerate(piece.ports):
        validate_port(port.port, f"ports[{index}].port")
    validate_unique((f"{port.name}/{port.protocol}" for port in piece.ports), "ports", "name")
