"""What tests of the hub's network say and wait for, with two nodes on a real broker."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.objects.base import Condition
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.pod import PodIP, PodStatus
from edgeagent.api.objects.service import EndpointSlice
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.wire.reports import PodReport
from tests.support.broker import MOSQUITTO
from tests.support.hubrun import HubDirectory, Peer, pod
from tests.support.waiting import wait_for_async

NETWORK = ClusterNetwork(pod_cidrs=["10.42.0.0/16"])


def two_nodes(tmp_path: Path) -> Iterator[HubDirectory]:
    """One whose hub gives addresses, with the members ``gw-1`` and ``gw-2``."""
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")
    with HubDirectory(tmp_path, network=NETWORK) as directory:
        directory.add_node("gw-1")
        directory.add_node("gw-2")
        yield directory


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Service that selects ``app=web``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


def web(name: str, node: str) -> dict[str, Any]:
    """A pod that it selects."""
    found = pod(name, node)
    found["metadata"]["labels"] = {"app": "web"}
    return found


def policy() -> dict[str, Any]:
    """A NetworkPolicy that denies everything."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "default"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


async def report(node: Peer, admin: Peer, name: str, ip: str, *, ready: bool = True) -> None:
    """The pod runs, as its node says."""
    found = await admin.get("Pod", name, "default")
    said = Condition(type="Ready", status="True" if ready else "False")
    status = PodStatus(phase="Running", conditions=[said], pod_ip=ip, pod_ips=[PodIP(ip=ip)])
    await node.pod(name, PodReport(uid=found["metadata"]["uid"], generation=1, status=status))


def slices(objects: Mapping[str, KubernetesObject]) -> dict[str, bool | None]:
    """Readiness by address, over all slices."""
    return {
        endpoint.addresses[0]: endpoint.conditions.ready
        for one in objects.values()
        if isinstance(one, EndpointSlice)
        for endpoint in one.endpoints
    }


async def until_told(node: Peer, expected: Mapping[str, bool]) -> dict[str, KubernetesObject]:
    """What the node is told, once the endpoints are these."""
    found: dict[str, KubernetesObject] = {}

    async def told() -> bool:
        found.clear()
        found.update(await node.objects())
        return slices(found) == expected

    await wait_for_async(told, what=f"the endpoints {expected}")
    return found


async def lacks(node: Peer, key: str) -> bool:
    return key not in await node.objects()


async def has(node: Peer, *keys: str) -> bool:
    return set(keys) <= (await node.objects()).keys()
