"""Short ways to say Services, backends and states in tests."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeagent.api.network import Backend, NetworkService, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.service import Service, ServicePort, ServiceSpec
from edgeagent_network.base import BASE
from edgeagent_network.config import NetworkConfig
from edgeagent_network.ruleset import Fragment
from edgeagent_network.services import Services

CONFIG = NetworkConfig(service_cidrs=["10.43.0.0/16", "fd43::/112"])


def backend(ip: str, port: int = 80, **more: Any) -> Backend:
    return Backend(ip=ip, port=port, **more)


def service(
    name: str,
    ips: Sequence[str] | str,
    backends: Sequence[Backend] | Mapping[str, Sequence[Backend]] = (),
    *,
    ports: Sequence[ServicePort] = (ServicePort(port=80),),
    created: str = "",
    **spec: Any,
) -> NetworkService:
    """A Service in namespace ``default``; backends as a list are those of its only, nameless port."""
    addresses = [ips] if isinstance(ips, str) else list(ips)
    by_port = backends if isinstance(backends, Mapping) else {"": backends}
    return NetworkService(
        service=Service(
            api_version="v1",
            metadata=ObjectMeta(name=name, namespace="default", creation_timestamp=created),
            spec=ServiceSpec(
                cluster_ip=addresses[0] if addresses else "", cluster_ips=addresses, ports=list(ports), **spec
            ),
        ),
        backends={name: list(some) for name, some in by_port.items()},
    )


def state(*services: NetworkService) -> NetworkState:
    return NetworkState(node="here", services=list(services))


def fragments(*services: NetworkService) -> dict[str, Fragment]:
    """What fresh ``Services`` make of these; none may have a problem."""
    made, problems = Services(CONFIG).fragments(state(*services))
    assert problems == []
    return made


def table(pods: Sequence[str] = (), cluster: Sequence[str] = ("10.42.0.0/16", "fd42::/64")) -> Fragment:
    """What the other parts bring: these pods of this node, and the ranges of all pods."""
    elements: dict[str, dict[str, str]] = {}
    for ip in pods:
        version = 6 if ":" in ip else 4
        elements.setdefault(f"local_pods{version}", {})[ip] = ""
        elements.setdefault(f"hairpin{version}", {})[f"{ip} . {ip}"] = ""
    for cidr in cluster:
        elements.setdefault(f"cluster{6 if ':' in cidr else 4}", {})[cidr] = ""
    return Fragment(elements=elements)


def ruleset(made: Mapping[str, Fragment], pods: Sequence[str] = ()) -> dict[str, Fragment]:
    """A whole ruleset."""
    return {"base": BASE, "pods": table(pods), **made}
