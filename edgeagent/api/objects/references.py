"""The ConfigMaps and Secrets that a pod names, whether they exist or not."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.volume import Volume


class Reference(NamedTuple):
    """An object in the pod's own namespace."""

    kind: Literal["ConfigMap", "Secret"]
    namespace: str
    name: str


def references(pod: Pod) -> set[Reference]:
    """All of them: of variables, of volumes, and of pulls."""
    spec, namespace = pod.spec, pod.metadata.namespace
    found = volume_references(pod)
    found |= {Reference("Secret", namespace, secret.name) for secret in spec.image_pull_secrets}
    for container in (*spec.init_containers, *spec.containers):
        found |= {Reference(kind, namespace, name) for kind, name in _of_environment(container)}
    return found


def volume_references(pod: Pod) -> set[Reference]:
    """Those whose content containers see as files, which follow it while they run."""
    namespace = pod.metadata.namespace
    return {
        Reference(kind, namespace, name) for volume in pod.spec.volumes for kind, name in _of_volume(volume)
    }


def _of_environment(container: Container) -> Iterator[tuple[Literal["ConfigMap", "Secret"], str]]:
    for source in container.env_from:
        if source.config_map_ref is not None:
            yield "ConfigMap", source.config_map_ref.name
        if source.secret_ref is not None:
            yield "Secret", source.secret_ref.name
    for variable in container.env:
        if (origin := variable.value_from) is None:
            continue
        if origin.config_map_key_ref is not None:
            yield "ConfigMap", origin.config_map_key_ref.name
        if origin.secret_key_ref is not None:
            yield "Secret", origin.secret_key_ref.name


def _of_volume(volume: Volume) -> Iterator[tuple[Literal["ConfigMap", "Secret"], str]]:
    if volume.config_map is not None:
        yield "ConfigMap", volume.config_map.name
    if volume.secret is not None:
        yield "Secret", volume.secret.secret_name
    for source in volume.projected.sources if volume.projected is not None else ():
        if source.config_map is not None:
            yield "ConfigMap", source.config_map.name
        if source.secret is not None:
            yield "Secret", source.secret.name
