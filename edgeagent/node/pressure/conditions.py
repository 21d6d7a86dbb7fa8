"""The node's pressure conditions as its status and its events show them.

https://kubernetes.io/docs/reference/node/node-status/#condition
"""

from collections.abc import Mapping

import msgspec

from edgeagent.node.pressure.thresholds import CONDITIONS, ConditionType


class PressureCondition(msgspec.Struct, frozen=True):
    """One condition; ``status``: whether there is pressure. ``reason`` and ``message`` are kubelet's."""

    type: ConditionType
    status: bool
    reason: str
    message: str


_WORDS: Mapping[ConditionType, tuple[tuple[str, str], tuple[str, str]]] = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}
_EVENTS: Mapping[ConditionType, tuple[str, str]] = {
    "MemoryPressure": ("NodeHasSufficientMemory", "NodeHasInsufficientMemory"),
    "DiskPressure": ("NodeHasNoDiskPressure", "NodeHasDiskPressure"),
    "PIDPressure": ("NodeHasSufficientPID", "NodeHasInsufficientPID"),
}


def all_conditions(true: frozenset[ConditionType]) -> list[PressureCondition]:
    """All three, of which those in ``true`` are so."""
    return [PressureCondition(kind, kind in true, *_WORDS[kind][kind in true]) for kind in CONDITIONS]


def event_reason(kind: ConditionType, *, status: bool) -> str:
    """The reason of the event that tells of the change to ``status``."""
    return _EVENTS[kind][status]
