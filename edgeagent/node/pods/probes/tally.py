"""Counting a probe's results against its thresholds."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What a probe's results in a row amount to.

    ``verdict`` is None until one threshold was reached, and then whether it was that of successes.
    Fewer results in a row than their threshold leave it as it is.
    """

    success_threshold: int
    failure_threshold: int
    verdict: bool | None = None
    _last: bool | None = field(default=None, init=False)
    _run: int = field(default=0, init=False)

    def count(self, success: bool) -> None:
        """Take one more result into account."""
        self._run = self._run + 1 if success is self._last else 1
        self._last = success
        if self._run >= (self.success_threshold if success else self.failure_threshold):
            self.verdict = success
