"""Two readings some time apart, made when somebody asks: between questions nothing is read."""

from edgeagent.api.clock import Clock
from edgeagent.api.usage import NodeUsage
from edgeagent.node.usage.metrics import CpuMark, mark_of
from edgeagent.node.usage.reader import UsageReader

SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
"""A reading that is older says more of the past than of now."""


class UsageWindow:
    """Keeps a mark of the last reading, so that whoever asks again and again waits only once."""

    def __init__(self, reader: UsageReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._last: CpuMark | None = None

    async def measure(self) -> tuple[CpuMark, NodeUsage]:
        """The mark of a reading from 1 to 30 seconds ago, and one of now. May take a second."""
        before = self._last
        if before is None or self._age(before) > LONGEST_SECONDS:
            before = self._last = mark_of(await self._reader.read())
        if (early := SHORTEST_SECONDS - self._age(before)) > 0:
            await self._clock.sleep(early)
        after = await self._reader.read()
        self._last = mark_of(after)
        return before, after

    def _age(self, mark: CpuMark) -> float:
        return self._clock.monotonic() - mark.monotonic
