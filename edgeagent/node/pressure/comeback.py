"""When a pod that was evicted may run again. Pure.

docs/adr/0011-evicted-pods-come-back.md
"""

from edgeagent.node.pressure.pods import QosClass
from edgeagent.node.pressure.thresholds import CONDITIONS, ConditionType

CEILING_SECONDS = 3600.0
FORGOTTEN_SECONDS = 86_400.0
"""Evictions that lie further apart are counted anew: the pod got along with the node in between."""


def wait_before_return(evictions: int, transition_seconds: float) -> float:
    """The least number of seconds between a pod's last eviction, its ``evictions``-th, and its return.

    It doubles each time, up to an hour, so that a pod which brings the pressure about does so ever less.
    """
    doublings = min(max(0, evictions - 1), 32)
    return max(transition_seconds, min(transition_seconds * 2.0**doublings, CEILING_SECONDS))


def count_eviction(evictions: int, since_last_seconds: float) -> int:
    """How many evictions count once there is one more, after ``evictions`` that counted before."""
    return evictions + 1 if 0 <= since_last_seconds <= FORGOTTEN_SECONDS else 1


def why_not_admitted(conditions: frozenset[ConditionType], qos: QosClass, *, critical: bool) -> str:
    """In kubelet's words, why a pod that does not run yet must wait; empty where it may start.

    Under memory pressure alone, only BestEffort pods wait. Critical pods never do.
    """
    if critical or (conditions == {"MemoryPressure"} and qos != "BestEffort"):
        return ""
    found = [kind for kind in CONDITIONS if kind in conditions]
    return f"The node had condition: [{', '.join(found)}]. " if found else ""
