"""Full-jitter back-off: many that fail together do not come back together.

https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

import random


class Backoff:
    """Delays drawn evenly from 0 to a window that doubles with every failure, up to a ceiling. Seconds."""

    def __init__(self, rng: random.Random, *, first: float, ceiling: float) -> None:
        self._rng = rng
        self._first = first
        self._ceiling = ceiling
        self.failures = 0

    def next(self) -> float:
        """The delay after one more failure."""
        window = min(self._ceiling, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return self._rng.uniform(0, window)

    def reset(self) -> None:
        """Forget the failures."""
        self.failures = 0
