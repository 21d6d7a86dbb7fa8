"""Looking at the node when it is time to, and doing what pressure asks for: reclaim, then evict one pod.

In kubelet's order (its ``synchronize``), but for when it looks and whom it leaves alone: docs/adr/0010, 0011.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.node.config import EvictionSection
from edgeagent.node.patience import within
from edgeagent.node.pressure.conditions import PressureCondition, all_conditions, event_reason
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.pressure.images import ImageCollector
from edgeagent.node.pressure.limits import earliest_excess, exceeded
from edgeagent.node.pressure.logs import LogRotator
from edgeagent.node.pressure.pods import DiskUsage, PodsUnderPressure, Reclaimer, RunningPod
from edgeagent.node.pressure.psi import MemoryStalls
from edgeagent.node.pressure.ranking import eviction_message, grace_for, ranked
from edgeagent.node.pressure.schedule import (
    FASTEST,
    FASTEST_WITH_STALLS,
    LATEST_SECONDS,
    SOONEST_SECONDS,
    earliest_threshold,
    next_look,
)
from edgeagent.node.pressure.thresholds import (
    CONDITIONS,
    RESOURCES,
    ConditionType,
    PressureState,
    Readings,
    Signal,
    Threshold,
    condition_of,
    is_of_images,
    judge,
    resource_of,
)
from edgeagent.node.pressure.usage import Measure, candidates

log = logging.getLogger(__name__)

STALL_PAUSE_SECONDS = 1.0
"""The kernel tells of waiting again and again; within this time of a look it is known already."""
DISK_SECONDS = 60.0
"""The least between two measurements of what pods have on disk, as in kubelet: they walk through folders."""
EVICTION_SECONDS = 60.0
"""How long beyond its grace period an eviction is waited for: the others must not wait for ever."""


class Recorder(Protocol):
    """``edgeagent.node.events.EventRecorder``."""

    def record(
        self, about: ObjectReference, type_: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Something happened to ``about``."""


class StoreReserve(Protocol):
    """``edgeagent.node.store.reserve.Reserve``."""

    def restore(self) -> bool:
        """Take the space again, if there is enough."""


class PressureParts(msgspec.Struct, frozen=True):
    """What the manager works with.

    ``signals`` reads the node's signals and ``measure`` a container's cgroup. ``reclaimers`` run in order
    under disk pressure, until there is enough; rotated logs go after them. ``on_conditions`` gets all
    conditions whenever one changes, ``on_relief`` is called when ``gate`` has become calm. ``stalls`` makes
    the watch of the kernel's memory pressure with what it must call, None for none. ``device_of`` says which
    device a disk's signal is about, None where there is one for all.
    """

    clock: Clock
    signals: Callable[[], Readings]
    measure: Measure
    pods: PodsUnderPressure
    logs: LogRotator
    images: ImageCollector | None
    reclaimers: Sequence[Reclaimer]
    reserve: StoreReserve
    events: Recorder
    node: ObjectReference
    gate: Gate
    on_conditions: Callable[[Sequence[PressureCondition]], None]
    on_relief: Callable[[], None]
    stalls: Callable[[Callable[[], None]], MemoryStalls] | None = None
    device_of: Callable[[Signal], int | None] = lambda _: None


class PressureManager:
    """Watches the node until cancelled. One pod is evicted at a look, so that its end can show effect."""

    def __init__(self, config: EvictionSection, parts: PressureParts) -> None:
        self._config = config
        self._thresholds = config.thresholds()
        self._parts = parts
        self._state = PressureState()
        self._rates = FASTEST
        self._woken, self._news = asyncio.Event(), asyncio.Event()
        self._started = self._looked = parts.clock.monotonic()
        self._next_limits = float("inf")
        self._limited: frozenset[str] = frozenset()
        self._left_alone: dict[str, float] = {}
        self._in_vain: dict[Signal, float] = {}
        self._said: set[str] = set()

    @property
    def conditions(self) -> list[PressureCondition]:
        """All three, as they are now."""
        return all_conditions(self._parts.gate.conditions)

    def wake(self) -> None:
        """Look now: memory is short, say, or a write failed for want of space."""
        self._news.set()
        self._woken.set()

    def started(self) -> None:
        """A container has started: look soon, though no sooner after the last look than always."""
        self._news.set()

    async def run(self) -> None:
        """Look and act, for ever."""
        stalls = self._parts.stalls(self._stalled) if self._parts.stalls is not None else None
        try:
            if stalls is not None:
                if problem := stalls.start():
                    log.info("%s; it is looked at more often instead", problem)
                else:
                    self._rates = FASTEST_WITH_STALLS
            while True:
                self._woken.clear()
                self._news.clear()
                try:
                    wait = await self._look()
                except OSError as error:
                    log.warning("the node could not be looked at: %s", error)
                    wait = DISK_SECONDS
                await within(self._parts.clock, wait - SOONEST_SECONDS, self._news.wait())
                await within(self._parts.clock, SOONEST_SECONDS, self._woken.wait())
        finally:
            if stalls is not None:
                stalls.close()

    def _stalled(self) -> None:
        if self._parts.clock.monotonic() - self._looked >= STALL_PAUSE_SECONDS:
            self.wake()

    async def _look(self) -> float:
        """Look once and do what is to do; seconds until the next look."""
        readings = self._parts.signals()
        due = self._judge(readings)
        acted = await self._relieve(due) or await self._enforce_limits()
        await self._collect_images()
        log_wait = await self._parts.logs.check(self._parts.pods.running())
        self._parts.reserve.restore()
        self._looked = self._parts.clock.monotonic()
        if acted:
            return SOONEST_SECONDS
        return next_look([log_wait, self._next_limits - self._looked, self._until_change(readings)])

    def _judge(self, readings: Readings) -> tuple[Threshold, ...]:
        now = self._parts.clock.monotonic()
        period = self._config.transition_seconds
        found = judge(self._state, self._thresholds, readings, now=now, transition_seconds=period)
        self._state = found.state
        gate = self._parts.gate
        before, was_calm = gate.conditions, gate.calm
        gate.conditions = found.conditions
        gate.calm = not found.conditions and (was_calm or bool(before) or now - self._started >= period)
        if before != gate.conditions:
            for kind in CONDITIONS:
                if (kind in before) != (kind in gate.conditions):
                    self._say_changed(kind)
            self._parts.on_conditions(self.conditions)
        short = {resource_of(threshold.signal) for threshold in found.due}
        for resource in RESOURCES:
            problem = f"Attempting to reclaim {resource}" if resource in short else ""
            self._say_once("EvictionThresholdMet", problem, key=resource)
        if gate.calm and not was_calm:
            self._parts.on_relief()
        return found.due

    def _say_changed(self, kind: ConditionType) -> None:
        status = kind in self._parts.gate.conditions
        name = self._parts.node.name
        reason = event_reason(kind, status=status)
        self._parts.events.record(self._parts.node, "Normal", reason, f"Node {name} status is now: {reason}")

    def _until_change(self, readings: Readings) -> float:
        """Seconds until a threshold may be reached, or a condition or the time before relief ends."""
        if self._state.met_since:
            return SOONEST_SECONDS
        now, period = self._parts.clock.monotonic(), self._config.transition_seconds
        ends = [at + period - now for at in self._state.last_true.values()]
        if not ends and not self._parts.gate.calm:
            ends = [self._started + period - now]
        return min([earliest_threshold(self._thresholds, readings, self._rates), *ends])

    async def _collect_images(self) -> None:
        if self._parts.images is None:
            return
        try:
            self._say_once("FreeDiskSpaceFailed", await self._parts.images.check())
        except EdgeAgentError as error:
            log.warning("images are not collected: %s", error)

    def _say_once(self, reason: str, problem: str, key: str = "") -> None:
        """An event when a problem arises, not again while it stays: a full disk is no place for repeats."""
        key = key or reason
        if problem and key not in self._said:
            self._said.add(key)
            self._parts.events.record(self._parts.node, "Warning", reason, problem)
        elif not problem:
            self._said.discard(key)

    async def _enforce_limits(self) -> bool:
        """Evict a pod that uses more disk than it may; whether there was one."""
        pods = self._evictable(self._parts.pods.on_disk())
        limited = [pod for pod in pods if pod.has_storage_limits and not pod.critical]
        uids = frozenset(pod.uid for pod in limited)
        now = self._parts.clock.monotonic()
        if not uids <= self._limited:
            self._next_limits = min(self._next_limits, now + DISK_SECONDS)
        self._limited = uids
        if not limited:
            self._next_limits = float("inf")
        if now < self._next_limits:
            return False
        usages = await self._disk_usage(limited)
        measured = [(pod, usages[pod.uid]) for pod in limited if pod.uid in usages]
        for pod, usage in measured:
            if message := exceeded(pod, usage):
                await self._evict(pod, message, 0)
                return True
        earliest = min((earliest_excess(pod, usage) for pod, usage in measured), default=LATEST_SECONDS)
        self._next_limits = now + max(DISK_SECONDS, earliest)
        return False

    def _evictable(self, pods: Sequence[RunningPod]) -> list[RunningPod]:
        """``pods`` without those whose eviction was tried a moment ago and did not work."""
        now = self._parts.clock.monotonic()
        self._left_alone = {uid: until for uid, until in self._left_alone.items() if until > now}
        return [pod for pod in pods if pod.uid not in self._left_alone]

    async def _disk_usage(self, pods: Sequence[RunningPod]) -> Mapping[str, DiskUsage]:
        try:
            return await self._parts.pods.disk_usage(pods)
        except EdgeAgentError as error:
            log.warning("the disk usage of pods is not known: %s", error)
            return {}

    async def _relieve(self, due: Sequence[Threshold]) -> bool:
        """Reclaim, and evict a pod if that is not enough; whether one was evicted.

        The most urgent threshold comes first. Where no pod's end would help, the next one has its turn.
        """
        for threshold in due:
            if (
                self._parts.clock.monotonic()
                < self._in_vain.get(threshold.signal, -DISK_SECONDS) + DISK_SECONDS
            ):
                continue
            await self._reclaim(threshold)
            resource = resource_of(threshold.signal)
            pods = self._parts.pods
            users = pods.running() if resource in ("memory", "pids") else pods.on_disk()
            found = await candidates(
                self._evictable(users), threshold.signal, self._parts.measure, self._disk_usage
            )
            reading = self._parts.signals().get(threshold.signal)
            if reading is None or not threshold.met(reading, reclaiming=True):
                continue
            lacking = threshold.limit(reading, reclaiming=True) - reading.available
            if order := ranked(found, lacking=lacking):
                pod = order[0].pod
                grace = grace_for(pod, threshold, self._config.max_pod_grace_period)
                await self._evict(pod, eviction_message(order[0], threshold, reading), grace)
                return True
            if condition_of(threshold.signal) == "DiskPressure":
                self._in_vain[threshold.signal] = self._parts.clock.monotonic()
        return False

    async def _reclaim(self, threshold: Threshold) -> None:
        """Free what no running container needs: what the reclaimers know of, and then rotated logs."""
        if condition_of(threshold.signal) != "DiskPressure":
            return
        device = self._parts.device_of(threshold.signal)
        steps: list[Callable[[], Awaitable[None]]] = []
        if device is None or is_of_images(threshold.signal):
            # Layers and images: nothing of them lies on a disk that the node keeps for itself.
            steps = [reclaimer.reclaim for reclaimer in self._parts.reclaimers]
        steps.append(lambda: self._drop_rotated_logs(device))
        for step in steps:
            reading = self._parts.signals().get(threshold.signal)
            if reading is None or not threshold.met(reading, reclaiming=True):
                return
            try:
                await step()
            except EdgeAgentError as error:
                log.warning("disk space could not be reclaimed: %s", error)

    async def _drop_rotated_logs(self, device: int | None) -> None:
        self._parts.logs.drop_rotated(self._parts.pods.running(), device)

    async def _evict(self, pod: RunningPod, message: str, grace_seconds: int) -> None:
        self._parts.events.record(pod.reference, "Warning", "Evicted", message)
        clock = self._parts.clock
        eviction = self._parts.pods.evict(pod.uid, message, grace_seconds)
        try:
            ended = await within(clock, grace_seconds + EVICTION_SECONDS, eviction)
            problem = "" if ended else "it does not end"
        except EdgeAgentError as error:
            problem = str(error)
        if problem:
            log.warning("pod %s/%s could not be evicted: %s", pod.namespace, pod.name, problem)
            self._left_alone[pod.uid] = clock.monotonic() + LATEST_SECONDS
