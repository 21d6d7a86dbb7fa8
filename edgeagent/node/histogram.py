"""Histogram: how often something took how long, counted in a handful of numbers."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts by upper bound, as Prometheus' histograms do. ``bounds`` rise; +Inf is there by itself."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound with how many were not above it; the last is ``inf``, with how many there were."""
        total = 0
        found = []
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            total += count
            found.append((bound, total))
        return found
