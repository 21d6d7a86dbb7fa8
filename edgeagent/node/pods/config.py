"""From a pod's spec to what a runtime is asked to make, and back from a container's labels to its pod."""

from edgeagent.api.network import Attachment
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.quantity import parse_quantity
from edgeagent.api.runtime import (
    LABEL_ATTEMPT,
    LABEL_CONTAINER,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    LABEL_SPEC_HASH,
    ContainerConfig,
    ContainerRecord,
)
from edgeagent.node.store.pods import PodRecord


def container_config(
    pod: Pod,
    container: Container,
    *,
    attempt: int,
    wanted: str,
    environment: dict[str, str],
    attachment: Attachment | None,
) -> ContainerConfig:
    """Everything the runtime needs to make run number ``attempt``; ``wanted`` is the hash of its spec."""
    meta, limits, requests = pod.metadata, container.resources.limits, container.resources.requests
    return ContainerConfig(
        name=f"edge_{container.name}_{meta.name}_{meta.namespace}_{meta.uid}_{attempt}",
        image=container.image,
        labels={
            LABEL_POD_UID: meta.uid,
            LABEL_POD_NAME: meta.name,
            LABEL_POD_NAMESPACE: meta.namespace,
            LABEL_CONTAINER: container.name,
            LABEL_ATTEMPT: str(attempt),
            LABEL_SPEC_HASH: wanted,
        },
        hostname="" if pod.spec.host_network else meta.name[:63],
        command=container.command or None,
        args=container.args or None,
        working_dir=container.working_dir,
        env=environment,
        cpu_limit=parse_quantity(limits.get("cpu", 0)),
        cpu_request=parse_quantity(requests.get("cpu", limits.get("cpu", 0))),
        memory_limit=int(parse_quantity(limits.get("memory", 0))),
        network=attachment.namespace_path if attachment is not None else "host",
        stop_timeout=pod.spec.termination_grace_period_seconds,
    )


def record_of(container: ContainerRecord) -> PodRecord | None:
    """What a container's labels tell of its pod."""
    labels = container.labels
    uid, namespace = labels.get(LABEL_POD_UID, ""), labels.get(LABEL_POD_NAMESPACE, "")
    name = labels.get(LABEL_POD_NAME, "")
    return PodRecord(uid=uid, namespace=namespace, name=name) if uid and namespace and name else None
