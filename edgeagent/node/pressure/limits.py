"""Pods that use more disk than they may: a reason to evict them whatever the node has left. Pure.

https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#ephemeral-storage-emissions-and-enforcement
"""

from collections.abc import Iterator

from edgeagent.node.pressure.pods import DiskUsage, RunningPod
from edgeagent.node.pressure.ranking import readable
from edgeagent.node.pressure.schedule import FASTEST, until_reached


def exceeded(pod: RunningPod, usage: DiskUsage) -> str:
    """In kubelet's words, the first limit that the pod exceeds; empty where it keeps them all."""
    for used, limit, message in _limited(pod, usage):
        if used > limit:
            return message
    return ""


def earliest_excess(pod: RunningPod, usage: DiskUsage) -> float:
    """Seconds until the pod could exceed a limit; infinite where it has none."""
    rate = FASTEST["ephemeral-storage"]
    waits = (until_reached(limit - used, rate) for used, limit, _ in _limited(pod, usage))
    return min(waits, default=float("inf"))


def _limited(pod: RunningPod, usage: DiskUsage) -> Iterator[tuple[float, float, str]]:
    """What is used, the limit of it, and what to say beyond; in the order in which kubelet looks."""
    for volume, limit in pod.volume_limits.items():
        text = readable(limit, "ephemeral-storage")
        yield (
            usage.volumes.get(volume, 0), limit,
            f'Usage of EmptyDir volume "{volume}" exceeds the limit "{text}". ',
        )  # fmt: skip
    if pod.storage_limit is not None:
        text = readable(pod.storage_limit, "ephemeral-storage")
        yield (
            usage.total, pod.storage_limit,
            f"Pod ephemeral local storage usage exceeds the total limit of containers {text}. ",
        )  # fmt: skip
    for container in pod.containers:
        if container.storage_limit is not None:
            text = readable(container.storage_limit, "ephemeral-storage")
            yield (
                usage.containers.get(container.name, 0), container.storage_limit,
                f'Container {container.name} exceeded its local ephemeral storage limit "{text}". ',
            )  # fmt: skip
