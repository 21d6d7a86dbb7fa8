"""Pace: a token bucket. What is spent beyond the burst is waited for."""

from edgeagent.api.clock import Clock


class Pace:
    """Lets ``rate`` units a second through, and ``burst`` at once after a pause."""

    def __init__(self, clock: Clock, *, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = clock.monotonic()

    def reserve(self, amount: float) -> float:
        """Take ``amount``; the seconds to wait before it is used. More than the burst may be taken."""
        now = self._clock.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left -= amount
        return max(0.0, -self._left / self._rate)

    async def spend(self, amount: float) -> None:
        """Take ``amount``, once its time has come."""
        if (wait := self.reserve(amount)) > 0:
            await self._clock.sleep(wait)
