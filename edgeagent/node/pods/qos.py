"""What a pod's requests and limits make of it: its QoS class, its sums, and how soon the kernel ends it.

https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from collections.abc import Callable, Mapping
from typing import Literal

from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.quantity import NANO, nano_quantity

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]
Amounts = dict[str, int]
"""Billionths by resource name."""

CRITICAL_CLASSES = ("system-node-critical", "system-cluster-critical")
CRITICAL_PRIORITY = 2_000_000_000
NODE_CRITICAL_PRIORITY = 2_000_001_000

_GUARANTEED_ADJ = -997
_BEST_EFFORT_ADJ = 1000
_QOS_RESOURCES = ("cpu", "memory")


def is_critical(pod: Pod) -> bool:
    """Whether the node must not do without the pod: a system priority class, or a priority of that height."""
    spec = pod.spec
    return spec.priority_class_name in CRITICAL_CLASSES or (spec.priority or 0) >= CRITICAL_PRIORITY


def qos_class(pod: Pod) -> QosClass:
    """The class, from the CPU and memory of all containers, init containers included."""
    containers = [*pod.spec.containers, *pod.spec.init_containers]
    requests = [_of_qos(_requests(each)) for each in containers]
    limits = [_of_qos(_limits(each)) for each in containers]
    if not any(requests) and not any(limits):
        return "BestEffort"
    if requests == limits and all(len(each) == len(_QOS_RESOURCES) for each in limits):
        return "Guaranteed"
    return "Burstable"


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """``oom_score_adj`` of a container's processes; ``memory_capacity`` is the node's, in bytes.

    https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior
    A sidecar is never ended before the pod's other containers. The least value is kubelet's 3, not the
    page's 2: the page still counts from a Guaranteed pod's former -998.
    """
    spec = pod.spec
    if spec.priority_class_name == CRITICAL_CLASSES[0] or (spec.priority or 0) >= NODE_CRITICAL_PRIORITY:
        return _GUARANTEED_ADJ
    match qos_class(pod):
        case "Guaranteed":
            return _GUARANTEED_ADJ
        case "BestEffort":
            return _BEST_EFFORT_ADJ
    if memory_capacity <= 0:
        return _BEST_EFFORT_ADJ - 1
    memory = _requests(container).get("memory", 0)
    if is_sidecar(container) and container in spec.init_containers:
        memory = max(memory, min(_requests(each).get("memory", 0) for each in spec.containers))
    adjustment = _BEST_EFFORT_ADJ - 1000 * (memory // NANO) // memory_capacity
    return min(max(_BEST_EFFORT_ADJ + _GUARANTEED_ADJ, adjustment), _BEST_EFFORT_ADJ - 1)


def is_sidecar(container: Container) -> bool:
    """Whether an init container goes on running beside the others."""
    return container.restart_policy == "Always"


def pod_requests(pod: Pod) -> dict[str, float]:
    """What a pod needs at most at any time, in base units (cores, bytes) by resource name.

    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    return _peak(pod, _requests)


def pod_limits(pod: Pod) -> dict[str, float]:
    """The same for the limits. A container without a limit adds nothing: see whether each has one."""
    return _peak(pod, _limits)


def _peak(pod: Pod, amounts_of: Callable[[Container], Amounts]) -> dict[str, float]:
    """Each init container runs with the sidecars before it, the others with all sidecars."""
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod.spec.init_containers:
        together = _sum(sidecars, amounts_of(container))
        if is_sidecar(container):
            sidecars = together
        peak = _maximum(peak, together)
    running = sidecars
    for container in pod.spec.containers:
        running = _sum(running, amounts_of(container))
    return {name: amount / NANO for name, amount in _maximum(peak, running).items()}


def _requests(container: Container) -> Amounts:
    """A request that is not set is the limit."""
    resources = container.resources
    return _parsed({**resources.limits, **resources.requests})


def _limits(container: Container) -> Amounts:
    return _parsed(container.resources.limits)


def _parsed(amounts: Mapping[str, str | int | float]) -> Amounts:
    return {name: nano_quantity(text) for name, text in amounts.items()}


def _of_qos(amounts: Amounts) -> Amounts:
    return {name: amount for name, amount in amounts.items() if name in _QOS_RESOURCES and amount}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}


def _maximum(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one | other}
