"""A clock that stands still until it is told to go on."""

import asyncio
import heapq
import itertools
from collections.abc import Callable


class ManualClock:
    """Time moves by ``advance`` alone; whoever sleeps wakes in the order of their times.

    ``busy`` says whether something is still under way that takes turns of the loop: time waits for it.
    """

    def __init__(self, now: float = 1_800_000_000.0, *, busy: Callable[[], bool] = lambda: False) -> None:
        self._busy = busy
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
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now += at - self._monotonic
            self._monotonic = at
            future.set_result(None)
            await self.settle()
        self._now += end - self._monotonic
        self._monotonic = end
        await self.settle()

    async def settle(self) -> None:
        """Let everything that needs no time happen."""
        await settle()
        while self._busy():
            await settle()

    def set_wall_clock(self, by: float) -> None:
        """Put the wall clock forward, or back, as a time server or a person does; no time passes."""
        self._now += by


async def settle(turns: int = 60) -> None:
    """Let everything that is ready to run, run. Only for code that waits for no thread and no socket."""
    for _ in range(turns):
        await asyncio.sleep(0)
