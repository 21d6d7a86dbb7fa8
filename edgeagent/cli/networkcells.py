"""The tables of Services, EndpointSlices, NetworkPolicies and what else belongs to the network."""

from collections.abc import Callable, Mapping
from typing import Any

from edgeagent.api.objects.network import HostFirewall, NodeNetwork
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.selector import LabelSelector
from edgeagent.api.objects.service import EndpointSlice, Service

HEADINGS: Mapping[str, tuple[str, ...]] = {
    "Service": ("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "+SELECTOR"),
    "EndpointSlice": ("NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"),
    "NetworkPolicy": ("NAME", "POD-SELECTOR", "AGE"),
    "Namespace": ("NAME", "STATUS", "AGE"),
    "HostFirewall": ("NAME", "NODES", "ALLOWS", "AGE"),
    "NodeNetwork": ("NAME", "POD-CIDRS", "OVERLAY", "ADDRESS"),
}
"""The columns of each kind; those with ``+`` are shown by ``-o wide`` only."""

SHOWN_ENDPOINTS = 3
NONE = "<none>"


def _service(item: Service, age: str) -> list[str]:
    spec = item.spec
    external = spec.external_name if spec.type == "ExternalName" else NONE
    ports = [
        f"{port.port}:{port.node_port}/{port.protocol}" if port.node_port else f"{port.port}/{port.protocol}"
        for port in spec.ports
    ]
    selector = ",".join(f"{key}={value}" for key, value in sorted(spec.selector.items()))
    return [
        item.metadata.name,
        spec.type,
        spec.cluster_ip or NONE,
        external,
        ",".join(ports) or NONE,
        age,
        selector or NONE,
    ]


def _endpoint_slice(item: EndpointSlice, age: str) -> list[str]:
    addresses = [address for endpoint in item.endpoints for address in endpoint.addresses]
    shown = ",".join(addresses[:SHOWN_ENDPOINTS])
    if (more := len(addresses) - SHOWN_ENDPOINTS) > 0:
        shown += f" + {more} more..."
    ports = ",".join(str(port.port) for port in item.ports)
    return [item.metadata.name, item.address_type, ports or "<unset>", shown or "<unset>", age]


def selector_text(selector: LabelSelector) -> str:
    """A selector as kubectl writes it: ``app=web,tier in (a,b),!old``; ``<none>`` for everything."""
    parts = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    for one in selector.match_expressions:
        match one.operator:
            case "Exists":
                parts.append(one.key)
            case "DoesNotExist":
                parts.append(f"!{one.key}")
            case "In":
                parts.append(f"{one.key} in ({','.join(one.values)})")
            case "NotIn":
                parts.append(f"{one.key} notin ({','.join(one.values)})")
    return ",".join(parts) or NONE


def _network_policy(item: NetworkPolicy, age: str) -> list[str]:
    return [item.metadata.name, selector_text(item.spec.pod_selector), age]


def _namespace(item: Namespace, age: str) -> list[str]:
    return [item.metadata.name, "Active", age]


def _host_firewall(item: HostFirewall, age: str) -> list[str]:
    nodes = ",".join(item.spec.node_names) or "<all>"
    return [item.metadata.name, nodes, ",".join(rule.name for rule in item.spec.allow) or NONE, age]


def _node_network(item: NodeNetwork, _age: str) -> list[str]:
    spec = item.spec
    return [item.metadata.name, ",".join(spec.pod_cidrs) or NONE, spec.overlay, spec.address or NONE]


CELLS: Mapping[str, Callable[[Any, str], list[str]]] = {
    "Service": _service,
    "EndpointSlice": _endpoint_slice,
    "NetworkPolicy": _network_policy,
    "Namespace": _namespace,
    "HostFirewall": _host_firewall,
    "NodeNetwork": _node_network,
}
"""An object and its age as the cells of its row, wide ones too."""
