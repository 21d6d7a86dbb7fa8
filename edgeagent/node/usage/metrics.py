"""Two readings as the metrics of Kubernetes' ``metrics.k8s.io``. Pure.

As metrics-server has it: CPU is the mean between the readings, memory the working set of the later one.
https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/
"""

from collections.abc import Mapping

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.usage import ContainerUsage, CpuUsage, MemoryUsage, NodeUsage
from edgeagent.wire.top import ContainerMetrics, NodeMetrics, PodMetrics


class CpuMark(msgspec.Struct, frozen=True):
    """What the next reading is compared with: CPU seconds of the machine, and of containers by id."""

    monotonic: float
    machine: float | None = None
    containers: Mapping[str, float] = msgspec.field(default_factory=dict)


def mark_of(usage: NodeUsage) -> CpuMark:
    """The part of a reading that is worth keeping."""
    machine = usage.machine.cpu
    return CpuMark(
        monotonic=usage.monotonic,
        machine=None if machine is None else machine.usage,
        containers={
            one.id: one.cpu.usage for pod in usage.pods for one in pod.containers if one.cpu is not None
        },
    )


def node_metrics(before: CpuMark, after: NodeUsage) -> NodeMetrics:
    """The whole machine."""
    seconds = after.monotonic - before.monotonic
    machine = after.machine
    return NodeMetrics(
        metadata=ObjectMeta(name=after.node, creation_timestamp=rfc3339(after.time)),
        timestamp=rfc3339(after.time),
        window=duration(seconds),
        usage=_usage(_rate(machine.cpu, before.machine, seconds), machine.memory),
    )


def pod_metrics(before: CpuMark, after: NodeUsage) -> list[PodMetrics]:
    """Every pod of which something runs, in the order of the reading."""
    seconds = after.monotonic - before.monotonic
    return [
        PodMetrics(
            metadata=ObjectMeta(
                name=pod.pod,
                namespace=pod.namespace,
                creation_timestamp=rfc3339(after.time),
                labels=pod.labels,
            ),
            timestamp=rfc3339(after.time),
            window=duration(seconds),
            containers=[
                ContainerMetrics(name=one.container, usage=_of_container(one, before, after, seconds))
                for one in pod.containers
            ],
        )
        for pod in after.pods
    ]


def duration(seconds: float) -> str:
    """As Go writes a ``metav1.Duration`` of less than a minute, in milliseconds."""
    return f"{max(0.0, seconds):.3f}".rstrip("0").rstrip(".") + "s"


def _of_container(
    container: ContainerUsage, before: CpuMark, after: NodeUsage, seconds: float
) -> dict[str, str]:
    known = before.containers.get(container.id)
    if known is None:
        # It began after the first reading: its own life is the window, as far as that is known.
        known, seconds = 0.0, min(seconds, max(0.0, after.time - container.started_at))
    return _usage(_rate(container.cpu, known, seconds), container.memory)


def _rate(cpu: CpuUsage | None, before: float | None, seconds: float) -> float | None:
    """In cores; None where it was not counted, or for no time at all."""
    if cpu is None or before is None or seconds <= 0:
        return None
    return max(0.0, cpu.usage - before) / seconds


def _usage(cores: float | None, memory: MemoryUsage | None) -> dict[str, str]:
    found = {}
    if cores is not None:
        found["cpu"] = f"{round(cores * 1e9)}n"
    if memory is not None:
        found["memory"] = f"{memory.working_set // 1024}Ki"
    return found
