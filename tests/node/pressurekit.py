"""A machine under pressure, for tests of the manager: its signals are as they are set."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.node.config import EvictionSection
from edgeagent.node.pressure.cgroups import CgroupUsage
from edgeagent.node.pressure.conditions import PressureCondition
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.pressure.logs import LogRotator
from edgeagent.node.pressure.manager import PressureManager, PressureParts
from edgeagent.node.pressure.pods import DiskUsage, RunningContainer, RunningPod
from edgeagent.node.pressure.psi import MemoryStalls
from edgeagent.node.pressure.thresholds import Reading, Readings, Signal
from edgeagent.testing.clock import ManualClock

MI = 1 << 20
ROOMY: dict[Signal, Reading] = {
    "memory.available": Reading(8000 * MI, 8192 * MI),
    "nodefs.available": Reading(90_000 * MI, 100_000 * MI),
    "nodefs.inodesFree": Reading(9e6, 1e7),
    "pid.available": Reading(4_000_000, 4_194_304),
}


@dataclass
class Node:
    """A machine whose signals are as they are set, and whose pods give back what they use when evicted."""

    clock: ManualClock = field(default_factory=ManualClock)
    readings: dict[Signal, Reading] = field(default_factory=lambda: dict(ROOMY))
    pods: dict[str, RunningPod] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    disk: dict[str, DiskUsage] = field(default_factory=dict)
    evicted: list[tuple[str, int]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    shown: list[set[str]] = field(default_factory=list)
    reclaimed: list[str] = field(default_factory=list)
    frees: dict[str, int] = field(default_factory=dict)
    gate: Gate = field(default_factory=lambda: Gate(300.0))
    relieved: int = 0
    looks: int = 0
    measured: int = 0
    restored: int = 0
    two_disks: bool = False
    unreadable: bool = False
    hangs: bool = False
    fails: bool = False
    stall: Callable[[], None] = lambda: None

    def add(self, uid: str, **more: object) -> None:
        """Run a pod of one container."""
        container = RunningContainer("main", f"id-{uid}", 1)
        values = {"uid": uid, "namespace": "default", "name": uid, "containers": [container], **more}
        self.pods[uid] = RunningPod(**values)  # type: ignore[arg-type]

    def set(self, signal: Signal, available: float) -> None:
        """Let so much be available."""
        self.readings[signal] = Reading(available, self.readings[signal].capacity)

    def free(self, signal: Signal, amount: float) -> None:
        """Let so much more be available."""
        self.set(signal, self.readings[signal].available + amount)

    def device_of(self, signal: Signal) -> int | None:
        """Tell disks apart, if they are."""
        return (2 if signal.startswith("imagefs") else 1) if self.two_disks else None

    def signals(self) -> Readings:
        """Read them."""
        self.looks += 1
        if self.unreadable:
            raise OSError(5, "Input/output error")
        return dict(self.readings)

    def measure(self, container: RunningContainer) -> CgroupUsage:
        """Read a cgroup."""
        uid = container.id.removeprefix("id-")
        return CgroupUsage(self.memory.get(uid), self.pids.get(uid))

    def running(self) -> Sequence[RunningPod]:
        """List the pods, without those whose container has ended."""
        return [pod for pod in self.pods.values() if any(one.pid for one in pod.containers)]

    def on_disk(self) -> Sequence[RunningPod]:
        """List the pods."""
        return list(self.pods.values())

    async def disk_usage(self, pods: Sequence[RunningPod]) -> Mapping[str, DiskUsage]:
        """Walk the folders."""
        self.measured += 1
        return {pod.uid: self.disk[pod.uid] for pod in pods if pod.uid in self.disk}

    async def evict(self, uid: str, message: str, grace_seconds: int) -> None:
        """End the pod; all that it used is free."""
        self.evicted.append((uid, grace_seconds))
        self.messages.append(message)
        if self.hangs:
            await self.clock.sleep(1e6)
        if self.fails:
            raise TemporaryError("the runtime does not answer")
        del self.pods[uid]
        self.free("memory.available", self.memory.pop(uid, 0))
        self.free("nodefs.available", self.disk.pop(uid, DiskUsage()).total)

    def record(self, about: ObjectReference, type_: str, reason: str, message: str) -> None:
        """Take an event."""
        self.said.append(f"{about.kind} {reason}")

    def restore(self) -> bool:
        """Count."""
        self.restored += 1
        return True

    def on_conditions(self, conditions: Sequence[PressureCondition]) -> None:
        """Note what is true."""
        assert self.gate.conditions == {one.type for one in conditions if one.status}
        self.shown.append({one.type for one in conditions if one.status})

    def on_relief(self) -> None:
        """Count."""
        assert self.gate.calm
        self.relieved += 1

    def stalls(self, on_stall: Callable[[], None]) -> MemoryStalls:
        """Tell nothing by itself."""
        self.stall = on_stall

        def no_kernel() -> int:
            raise FileNotFoundError(2, "No such file or directory")

        return MemoryStalls(no_kernel, on_stall)


class Step:
    """A reclaimer that frees disk space."""

    def __init__(self, node: Node, name: str, frees: int) -> None:
        self._node, self._name, self._frees = node, name, frees

    async def reclaim(self) -> None:
        """Free it, once."""
        self._node.reclaimed.append(self._name)
        self._node.free("nodefs.available", self._frees)
        self._frees = 0


class Rotator(LogRotator):
    """Has no logs to rotate, and notes when the rotated ones go."""

    def __init__(self, node: Node) -> None:
        async def reopen(container_id: str) -> None:
            raise AssertionError

        super().__init__(reopen, max_bytes=1, max_files=2)
        self._node = node

    def drop_rotated(self, pods: object, device: int | None = None) -> None:
        """Note it."""
        self._node.reclaimed.append("logs")


Scenario = Callable[[Node, PressureManager], Awaitable[None]]


def play(
    scenario: Scenario, node: Node, config: EvictionSection | None = None, steps: Sequence[Step] = ()
) -> None:
    async def whole() -> None:
        parts = PressureParts(
            clock=node.clock, signals=node.signals, measure=node.measure, pods=node, logs=Rotator(node),
            images=None, reclaimers=steps, reserve=node, events=node,
            node=ObjectReference(kind="Node", name="n1"), gate=node.gate, on_conditions=node.on_conditions,
            on_relief=node.on_relief, stalls=node.stalls, device_of=node.device_of,
        )  # fmt: skip
        manager = PressureManager(config or EvictionSection(), parts)
        running = asyncio.create_task(manager.run())
        await node.clock.settle()
        try:
            await scenario(node, manager)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(whole())
