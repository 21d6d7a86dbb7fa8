"""Which pod goes first, and what it is told. Pure functions.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
"""

from collections.abc import Iterable, Mapping

import msgspec

from edgeagent.node.pressure.pods import RunningPod
from edgeagent.node.pressure.thresholds import Reading, Resource, Threshold, resource_of

WORTHWHILE = 0.1
"""A pod is evicted for disk space only if it gives back this share of what is lacking."""


class Usage(msgspec.Struct, frozen=True):
    """What a pod uses of one resource, in bytes, inodes or processes, and each of its containers by name."""

    total: float
    containers: Mapping[str, float] = msgspec.field(default_factory=dict)


class Candidate(msgspec.Struct, frozen=True):
    """A pod and what it uses of the resource that is short."""

    pod: RunningPod
    usage: Usage
    resource: Resource

    @property
    def excess(self) -> float:
        """Usage above the request, negative below it. Inodes and process ids have no requests."""
        return self.usage.total - self.pod.requests.get(self.resource, 0.0)


def ranked(candidates: Iterable[Candidate], *, lacking: float) -> list[Candidate]:
    """Who may be evicted, the first to go first. ``lacking`` is how much must become available.

    Kubernetes' order: usage above requests, then priority, then how far above requests; for process ids
    priority and then usage. Critical pods are left out. So are, other than in Kubernetes, pods whose end
    would not help: those that use nothing, and for disk and inodes those within their requests or with less
    than ``WORTHWHILE`` of what is lacking.
    """
    return sorted((one for one in candidates if _may_go(one, lacking)), key=_order)


def _may_go(one: Candidate, lacking: float) -> bool:
    if one.pod.critical or one.usage.total <= 0:
        return False
    if one.resource in ("ephemeral-storage", "inodes"):
        return one.excess > 0 and one.usage.total >= WORTHWHILE * lacking
    return True


def _order(one: Candidate) -> tuple[bool, int, float, str]:
    within_requests = one.resource != "pids" and one.excess <= 0
    return within_requests, one.pod.priority, -one.excess, one.pod.uid


def grace_for(pod: RunningPod, threshold: Threshold, max_pod_grace_period: int) -> int:
    """Seconds that the pod has to end: none at a hard threshold, else its own, at most ``max_…`` if not 0."""
    if threshold.hard:
        return 0
    return min(pod.grace_seconds, max_pod_grace_period) if max_pod_grace_period else pod.grace_seconds


def eviction_message(one: Candidate, threshold: Threshold, reading: Reading) -> str:
    """Why the pod was evicted, in kubelet's words."""
    resource = resource_of(threshold.signal)
    parts = [
        f"The node was low on resource: {resource}. Threshold quantity: {threshold.amount.text}, "
        f"available: {readable(reading.available, resource)}. "
    ]
    for container in one.pod.containers:
        request = container.requests.get(resource, 0.0)
        used = one.usage.containers.get(container.name, 0.0)
        if used > request:
            parts.append(
                f"Container {container.name} was using {readable(used, resource)}, request is "
                f"{readable(request, resource)}, has larger consumption of {resource}. "
            )
    return "".join(parts)


def readable(amount: float, resource: Resource) -> str:
    """Bytes in Ki as kubelet writes them, anything else as a number."""
    if resource in ("inodes", "pids") or amount < 1024:
        return str(int(amount))
    return f"{int(amount) // 1024}Ki"
