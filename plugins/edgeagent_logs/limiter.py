"""How much one container may write: two token buckets, of lines and of bytes, that share a clock.

The clock is that of the lines: a container that wrote little in an hour may be read in a second.
"""

from edgeagent_logs.config import RateConfig

_NANOSECONDS = 1_000_000_000


class Limiter:
    """``lines`` and ``bytes`` are what may come at the moment ``at`` (nanoseconds since the epoch)."""

    __slots__ = ("_bytes_rate", "_lines_rate", "_max_bytes", "_max_lines", "at", "bytes", "lines")

    def __init__(self, rate: RateConfig) -> None:
        self._lines_rate = rate.lines_per_second / _NANOSECONDS
        self._bytes_rate = rate.bytes_per_second / _NANOSECONDS
        self._max_lines = rate.lines_per_second * rate.burst_seconds
        self._max_bytes = rate.bytes_per_second * rate.burst_seconds
        self.lines = self._max_lines
        self.bytes = self._max_bytes
        self.at = 0

    def refill(self, time: int) -> None:
        """It is ``time`` now. A clock that was set back adds nothing, and counts on from there."""
        passed = time - self.at
        self.at = time
        if passed > 0:
            self.lines = min(self._max_lines, self.lines + passed * self._lines_rate)
            self.bytes = min(self._max_bytes, self.bytes + passed * self._bytes_rate)

    def take(self, time: int, size: int) -> bool:
        """Whether an entry of ``size`` bytes at ``time`` may come, and count it if so. A large one owes."""
        if self.lines < 1 or self.bytes <= 0 or time - self.at > _NANOSECONDS:
            self.refill(time)
            if self.lines < 1 or self.bytes <= 0:
                return False
        self.lines -= 1
        self.bytes -= size
        return True

    def lend(self) -> None:
        """The next entry may come."""
        self.lines = max(self.lines, 1.0)
        self.bytes = max(self.bytes, 1.0)

    def room(self, entry_bytes: float) -> int:
        """How many bytes may come now, in entries of about that size."""
        return max(0, int(min(self.bytes, self.lines * entry_bytes)))
