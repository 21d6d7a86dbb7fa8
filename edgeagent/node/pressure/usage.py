"""Measuring what each pod uses of the resource that is short."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from edgeagent.node.pressure.cgroups import CgroupUsage
from edgeagent.node.pressure.pods import DiskUsage, RunningContainer, RunningPod
from edgeagent.node.pressure.ranking import Candidate, Usage
from edgeagent.node.pressure.thresholds import Resource, Signal, is_of_images, resource_of

Measure = Callable[[RunningContainer], CgroupUsage]
"""Reads a container's cgroup."""
MeasureDisk = Callable[[Sequence[RunningPod]], Awaitable[Mapping[str, DiskUsage]]]
"""Finds out what pods have on disk, by uid."""


async def candidates(
    running: Sequence[RunningPod], signal: Signal, measure: Measure, measure_disk: MeasureDisk
) -> list[Candidate]:
    """Every pod of ``running`` that could be measured, with what it uses of what ``signal`` is about."""
    resource = resource_of(signal)
    if resource in ("memory", "pids"):
        usages = {pod.uid: _of_cgroups(pod, resource, measure) for pod in running}
    else:
        on_disk = await measure_disk(running)
        usages = {uid: _of_disk(usage, signal) for uid, usage in on_disk.items()}
    return [Candidate(pod, usages[pod.uid], resource) for pod in running if pod.uid in usages]


def _of_cgroups(pod: RunningPod, resource: Resource, measure: Measure) -> Usage:
    found: dict[str, float] = {}
    for container in pod.containers:
        usage = measure(container)
        amount = usage.memory if resource == "memory" else usage.pids
        if amount is not None:
            found[container.name] = amount
    return Usage(sum(found.values()), found)


def _of_disk(usage: DiskUsage, signal: Signal) -> Usage:
    images = usage.images
    if resource_of(signal) == "inodes":
        # Volumes' alone are counted: of a layer, no runtime tells how many it has.
        return Usage(0 if images is not None and is_of_images(signal) else usage.inodes)
    if images is None:
        return Usage(usage.total, dict(usage.containers))
    if is_of_images(signal):
        return Usage(sum(images.values()), dict(images))
    rest = {name: size - images.get(name, 0) for name, size in usage.containers.items()}
    return Usage(usage.total - sum(images.values()), rest)
