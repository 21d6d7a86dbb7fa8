"""Pods, facts and lookups for the tests of the pure rules."""

from collections.abc import Mapping
from typing import Any

from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.pod import Pod
from edgeagent.node.pods.lookup import Lookup, PodFacts


def make_pod(*containers: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:
    """A validated pod ``web``; containers are ``main`` or ``c1``, ``c2``, … where they have no name."""
    named = [
        {"name": "main" if index == 0 else f"c{index}", "image": "busybox:1", **container}
        for index, container in enumerate(containers or ({},))
    ]
    found = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", **(metadata or {})},
            "spec": {"containers": named, **spec},
        }
    )
    assert isinstance(found, Pod)
    return found


def main(pod: Pod) -> Container:
    """The first container."""
    return pod.spec.containers[0]


def make_facts(pod: Pod, **fields: Any) -> PodFacts:
    """A pod on node ``edge-1``."""
    return PodFacts(pod=pod, node_name="edge-1", **fields)


def make_lookup(
    config_maps: Mapping[str, Mapping[str, str]] | None = None, secrets: Mapping[str, Secret] | None = None
) -> Lookup:
    """Finds what is given here."""

    def config_map(name: str) -> ConfigMap | None:
        data = (config_maps or {}).get(name)
        if data is None:
            return None
        found = decode_object(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
        )
        assert isinstance(found, ConfigMap)
        return found

    async def secret(name: str) -> Secret | None:
        return (secrets or {}).get(name)

    return Lookup(config_map=config_map, secret=secret)
