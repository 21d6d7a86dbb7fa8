"""What a pod asks for that this program cannot give: fields and values, each by its path.

Kubernetes' own rules are in ``validate``; an object that breaks those is no Pod at all. What is named here is
a good Pod elsewhere, so the node takes it, runs nothing of it, and says why.
"""

from collections.abc import Iterator
from typing import NamedTuple

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.objects.support import refused_fields

RESOURCES = ("cpu", "memory", "ephemeral-storage")
"""The resource names that limits and requests may hold."""


class Unsupported(NamedTuple):
    """``field`` is a path such as ``spec.volumes[0].nfs``; ``why`` is a clause for a person."""

    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.field}: {self.why}"


def unsupported(pod: Pod) -> list[Unsupported]:
    """Everything in ``pod`` that keeps it from being run, in the order of its fields."""
    found = [Unsupported(path, "not supported by edgeagent") for path in refused_fields(pod.spec, "spec")]
    return found + list(_values(pod.spec))


def _values(spec: PodSpec) -> Iterator[Unsupported]:
    if spec.os is not None and spec.os.name != "linux":
        yield Unsupported("spec.os.name", "only linux is supported")
    if spec.host_users is False:
        yield Unsupported("spec.hostUsers", "user namespaces are not supported, only true")
    for index, volume in enumerate(spec.volumes):
        if volume.empty_dir is not None and volume.empty_dir.medium not in ("", "Memory"):
            yield Unsupported(f"spec.volumes[{index}].emptyDir.medium", "huge pages are not supported")
    for field, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            yield from _container_values(container, f"spec.{field}[{index}]")


def _container_values(container: Container, path: str) -> Iterator[Unsupported]:
    for side, amounts in (("limits", container.resources.limits), ("requests", container.resources.requests)):
        for name in amounts:
            if name not in RESOURCES:
                why = f"only {', '.join(RESOURCES)} are supported"
                yield Unsupported(f"{path}.resources.{side}.{name}", why)
    for index, mount in enumerate(container.volume_mounts):
        if mount.recursive_read_only == "Enabled":
            where = f"{path}.volumeMounts[{index}].recursiveReadOnly"
            yield Unsupported(where, "recursive read-only mounts are not supported, only IfPossible")
