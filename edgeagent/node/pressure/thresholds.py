"""Eviction thresholds and what they make of readings: which are met, since when, and the node's conditions.

Pure: time comes in as a number, state goes in and comes out. The rules are kubelet's.
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec

from edgeagent.node.pressure.amounts import NOTHING, Amount

Signal = Literal[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
]
ConditionType = Literal["MemoryPressure", "DiskPressure", "PIDPressure"]
Resource = Literal["memory", "ephemeral-storage", "inodes", "pids"]

SIGNALS: tuple[Signal, ...] = get_args(Signal)
CONDITIONS: tuple[ConditionType, ...] = get_args(ConditionType)
RESOURCES: tuple[Resource, ...] = get_args(Resource)


class Reading(msgspec.Struct, frozen=True):
    """One signal at one moment: what is ``available`` of ``capacity``, in bytes, inodes or processes."""

    available: float
    capacity: float


Readings = Mapping[Signal, Reading]
"""What could be read; a signal that this machine does not have is not there."""


class Threshold(msgspec.Struct, frozen=True):
    """Pressure begins where less than ``amount`` is available, and ends at ``minimum_reclaim`` above it.

    ``grace_seconds``: how long it must last before a pod is evicted; 0 for a hard threshold.
    """

    signal: Signal
    amount: Amount
    hard: bool = True
    grace_seconds: float = 0.0
    minimum_reclaim: Amount = NOTHING

    def limit(self, reading: Reading, *, reclaiming: bool = False) -> float:
        """What must be available; with ``minimum_reclaim`` while pressure that has begun is relieved."""
        reclaim = self.minimum_reclaim.of(reading.capacity) if reclaiming else 0.0
        return self.amount.of(reading.capacity) + reclaim

    def met(self, reading: Reading, *, reclaiming: bool = False) -> bool:
        """Whether there is too little."""
        return reading.available < self.limit(reading, reclaiming=reclaiming)


class PressureState(msgspec.Struct, frozen=True):
    """What is remembered from look to look: since when thresholds are met, when conditions were last true."""

    met_since: Mapping[Threshold, float] = msgspec.field(default_factory=dict)
    last_true: Mapping[ConditionType, float] = msgspec.field(default_factory=dict)


class Judgement(msgspec.Struct, frozen=True):
    """What a look found. ``due``: thresholds to act upon, the most urgent first."""

    state: PressureState
    conditions: frozenset[ConditionType]
    due: tuple[Threshold, ...]


def condition_of(signal: Signal) -> ConditionType:
    """The node condition that a signal stands for."""
    match signal:
        case "memory.available":
            return "MemoryPressure"
        case "pid.available":
            return "PIDPressure"
        case _:
            return "DiskPressure"


def is_of_images(signal: Signal) -> bool:
    """Whether the signal is about the file system of the images."""
    return signal.startswith("imagefs.")


def resource_of(signal: Signal) -> Resource:
    """What a pod uses up when the signal falls."""
    match signal:
        case "memory.available":
            return "memory"
        case "pid.available":
            return "pids"
        case "nodefs.available" | "imagefs.available":
            return "ephemeral-storage"
        case _:
            return "inodes"


def judge(
    state: PressureState,
    thresholds: Sequence[Threshold],
    readings: Readings,
    *,
    now: float,
    transition_seconds: float,
) -> Judgement:
    """The next state. ``now`` is monotonic; a condition stays for ``transition_seconds`` after its cause.

    A threshold that was met counts until ``minimum_reclaim`` above it is available again. One whose signal
    cannot be read is not met.
    """
    met = {
        threshold: state.met_since.get(threshold, now)
        for threshold in thresholds
        if (reading := readings.get(threshold.signal)) is not None
        and threshold.met(reading, reclaiming=threshold in state.met_since)
    }
    last_true = {**state.last_true, **{condition_of(threshold.signal): now for threshold in met}}
    last_true = {kind: at for kind, at in last_true.items() if at == now or now - at < transition_seconds}
    due = [threshold for threshold, since in met.items() if now - since >= threshold.grace_seconds]
    due.sort(key=lambda threshold: (SIGNALS.index(threshold.signal), not threshold.hard))
    return Judgement(PressureState(met, last_true), frozenset(last_true), tuple(due))
