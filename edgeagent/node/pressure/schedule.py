"""When to look again: not before a threshold could be reached, so that an idle node is hardly looked at.

docs/adr/0010-watching-pressure-without-polling.md has the reasons for the numbers.
"""

from collections.abc import Iterable, Mapping, Sequence

from edgeagent.node.pressure.thresholds import Readings, Resource, Threshold, resource_of

SOONEST_SECONDS = 10.0
"""kubelet's own interval, which it keeps always."""
LATEST_SECONDS = 300.0

Rates = Mapping[Resource, float]

MIB = 1024 * 1024
FASTEST: Rates = {"memory": 64 * MIB, "ephemeral-storage": 50 * MIB, "inodes": 5_000, "pids": 100}
"""The worst that is assumed of a workload, in units a second."""
FASTEST_WITH_STALLS: Rates = {**FASTEST, "memory": 4 * MIB}
"""Where the kernel tells of tasks that wait for memory, only leaks that are slow need to be looked for."""

LOG_RATE = MIB / 4
"""Bytes a second that one container is assumed to log at most."""


def until_reached(headroom: float, rate: float) -> float:
    """Seconds in which ``headroom`` could be used up."""
    return max(0.0, headroom) / rate


def earliest_threshold(thresholds: Sequence[Threshold], readings: Readings, rates: Rates) -> float:
    """Seconds until the first threshold could be reached: 0 where one is met, infinite where none is."""
    return min(
        (
            until_reached(reading.available - threshold.limit(reading), rates[resource_of(threshold.signal)])
            for threshold in thresholds
            if (reading := readings.get(threshold.signal)) is not None
        ),
        default=float("inf"),
    )


def next_look(waits: Iterable[float]) -> float:
    """The shortest of ``waits`` in seconds, but no sooner and no later than is sensible."""
    return min(max(min(waits, default=LATEST_SECONDS), SOONEST_SECONDS), LATEST_SECONDS)
