"""Node pressure joined to the pods, images and logs of this node: a part of the composition root."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.objects.base import ObjectReference
from edgeagent.node.config import AgentConfig
from edgeagent.node.events import EventRecorder
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.pods.pressured import PressuredPods
from edgeagent.node.pods.volumes import Volumes
from edgeagent.node.pressure.cgroups import container_usage
from edgeagent.node.pressure.conditions import PressureCondition
from edgeagent.node.pressure.dead import DeadContainers
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.pressure.images import ImageCollector
from edgeagent.node.pressure.logs import LogRotator
from edgeagent.node.pressure.manager import PressureManager, PressureParts
from edgeagent.node.pressure.psi import MemoryStalls, open_trigger
from edgeagent.node.pressure.signals import SignalReader
from edgeagent.node.store.reserve import Reserve


class PressureMeans(msgspec.Struct, frozen=True):
    """What of the agent node pressure works with. ``root`` is where the file system begins."""

    clock: Clock
    root: Path
    signals: SignalReader
    runtime: RuntimeFacade
    manager: PodManager
    volumes: Volumes
    reserve: Reserve
    events: EventRecorder
    node: ObjectReference
    gate: Gate
    on_conditions: Callable[[Sequence[PressureCondition]], None]


def make_pressure_manager(config: AgentConfig, means: PressureMeans) -> PressureManager:
    """The manager, with the collector of images and the rotation of logs."""
    signals = means.signals
    pods = PressuredPods(
        means.manager, means.runtime, means.volumes, lambda: signals.device_of("imagefs.available")
    )
    images = ImageCollector(
        means.runtime,
        config.images,
        clock=means.clock,
        desired_images=pods.desired_images,
        disk=lambda: means.signals.read().get("imagefs.available"),
    )
    parts = PressureParts(
        clock=means.clock,
        signals=means.signals.read,
        measure=lambda container: container_usage(means.root, container.pid, container.id),
        pods=pods,
        logs=LogRotator(
            means.runtime.reopen_log, max_bytes=config.logs.max_bytes, max_files=config.logs.max_files
        ),
        images=images,
        reclaimers=[DeadContainers(means.runtime), images],
        reserve=means.reserve,
        events=means.events,
        node=means.node,
        gate=means.gate,
        on_conditions=means.on_conditions,
        on_relief=means.manager.pressure_changed,
        device_of=signals.device_of,
        stalls=lambda on_stall: MemoryStalls(lambda: open_trigger(means.root), on_stall),
    )
    return PressureManager(config.eviction, parts)
