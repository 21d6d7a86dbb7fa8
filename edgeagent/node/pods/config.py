"""From a pod's spec to what a runtime is asked to make, and back from a container's labels to its pod."""

from collections.abc import Sequence
from math import ceil

import msgspec

from edgeagent.api.network import Attachment
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.quantity import parse_quantity
from edgeagent.api.runtime import (
    LABEL_ATTEMPT,
    LABEL_CONTAINER,
    LABEL_PAUSE,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    LABEL_SPEC_HASH,
    LABEL_STATIC,
    ContainerConfig,
    ContainerRecord,
    ContainerSecurity,
    Mount,
)
from edgeagent.node.pods.environment import expand_command
from edgeagent.node.pods.qos import oom_score_adj
from edgeagent.node.pods.sandbox import Sandbox
from edgeagent.node.pods.security import pod_sysctls
from edgeagent.node.store.pods import PodRecord


class Surroundings(msgspec.Struct, frozen=True):
    """What a container gets that its own spec does not say. ``pause`` is the id of the pod's pause container.

    ``memory``: the node's, in bytes.
    """

    sandbox: Sandbox
    attachment: Attachment | None = None
    pause: str = ""
    static: bool = False
    mounts: Sequence[Mount] = ()
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    security: ContainerSecurity = msgspec.field(default_factory=ContainerSecurity)
    pids_limit: int = 0
    memory: int = 0
    unsafe_sysctls: Sequence[str] = ()


def container_config(
    pod: Pod, container: Container, around: Surroundings, *, attempt: int, wanted: str
) -> ContainerConfig:
    """Everything the runtime needs to make run number ``attempt``; ``wanted`` is the hash of its spec."""
    spec, limits, requests = pod.spec, container.resources.limits, container.resources.requests
    command, args = expand_command(container, around.environment)
    lifecycle = container.lifecycle
    return ContainerConfig(
        name=_name(pod, container.name, attempt),
        image=container.image,
        labels=_labels(pod, container.name, attempt, wanted, static=around.static) | _joined(around),
        hostname="" if spec.host_network else around.sandbox.hostname,
        command=command or None,
        args=args or None,
        working_dir=container.working_dir,
        env=around.environment,
        cpu_limit=parse_quantity(limits.get("cpu", 0)),
        cpu_request=parse_quantity(requests.get("cpu", limits.get("cpu", 0))),
        memory_limit=ceil(parse_quantity(limits.get("memory", 0))),
        network=_network(around),
        stop_timeout=spec.termination_grace_period_seconds,
        stop_signal=lifecycle.stop_signal if lifecycle is not None else "",
        mounts=list(around.mounts),
        security=around.security,
        sysctls=pod_sysctls(pod, allowed_unsafe=around.unsafe_sysctls),
        ipc_namespace=around.sandbox.ipc_namespace,
        pid_namespace=_pid_namespace(pod, around),
        pids_limit=around.pids_limit,
        oom_score_adj=oom_score_adj(pod, container, around.memory),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
    )


def pause_config(pod: Pod, name: str, around: Surroundings, *, attempt: int) -> ContainerConfig:
    """The container that holds the pod's process namespace."""
    return ContainerConfig(
        name=_name(pod, name, attempt),
        image="",
        labels=_labels(pod, name, attempt, "", static=around.static),
        hostname="" if pod.spec.host_network else around.sandbox.hostname,
        network=_network(around),
        ipc_namespace=around.sandbox.ipc_namespace,
        sysctls=pod_sysctls(pod, allowed_unsafe=around.unsafe_sysctls),
        oom_score_adj=-998,
        pause=True,
    )


def _name(pod: Pod, container: str, attempt: int) -> str:
    meta = pod.metadata
    return f"edge_{container}_{meta.name}_{meta.namespace}_{meta.uid}_{attempt}"


def _labels(pod: Pod, container: str, attempt: int, wanted: str, *, static: bool) -> dict[str, str]:
    meta = pod.metadata
    labels = {
        LABEL_POD_UID: meta.uid,
        LABEL_POD_NAME: meta.name,
        LABEL_POD_NAMESPACE: meta.namespace,
        LABEL_CONTAINER: container,
        LABEL_ATTEMPT: str(attempt),
        LABEL_SPEC_HASH: wanted,
    }
    return {**labels, LABEL_STATIC: "true"} if static else labels


def _joined(around: Surroundings) -> dict[str, str]:
    return {LABEL_PAUSE: around.pause} if around.pause else {}


def _network(around: Surroundings) -> str:
    return around.attachment.namespace_path if around.attachment is not None else "host"


def _pid_namespace(pod: Pod, around: Surroundings) -> str:
    if pod.spec.host_pid:
        return "host"
    return f"container:{around.pause}" if around.pause else "private"


def record_of(container: ContainerRecord) -> PodRecord | None:
    """What a container's labels tell of its pod."""
    labels = container.labels
    uid, namespace = labels.get(LABEL_POD_UID, ""), labels.get(LABEL_POD_NAMESPACE, "")
    name, static = labels.get(LABEL_POD_NAME, ""), LABEL_STATIC in labels
    if not (uid and namespace and name):
        return None
    return PodRecord(uid=uid, namespace=namespace, name=name, static=static)
