"""A clock that stands still until it is told to go on."""

import asyncio
import heapq
import itertools


class ManualClock:
    """Time moves by ``advance`` alone; whoever sleeps wakes in the order of their times."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0
        self._count = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Return once ``advance`` has moved the clock by ``seconds``."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + max(0.0, seconds), next(self._count), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own time and letting everything that follows happen."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now += at - self._monotonic
            self._monotonic = at
            future.set_result(None)
            await settle()
        self._now += end - self._monotonic
        self._monotonic = end
        await settle()


async def settle(turns: int = 60) -> None:
    """Let everything that is ready to run, run. Only for code that waits for no thread and no socket."""
    for _ in range(turns):
        await asyncio.sleep(0)
