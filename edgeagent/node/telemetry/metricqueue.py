"""MetricQueue: metrics between the sampler and the exporters, in memory, and on disk where they must wait.

What every exporter takes at once is never written. What has waited for ``KEPT_SECONDS`` goes to the spool,
and so does all that waits when the agent ends; a kill loses what was gathered since.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.api.metrics import MetricFamily, SampleBatch
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.metricmemory import MetricMemory
from edgeagent.node.telemetry.metricthinner import CLASS, MetricThinner
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.wire.metricblock import MetricBlock, decode_block, encode_block
from edgeagent.wire.metricparts import without

log = logging.getLogger(__name__)

KEPT_SECONDS = 600.0
"""How long what cannot be delivered is in memory alone."""
KEPT_SAMPLES = 60_000
"""So many go to the disk sooner."""
MAX_SAMPLES = 200_000
"""With a disk that takes nothing, the oldest are dropped where there are more than this."""


class Waiting(msgspec.Struct, frozen=True):
    """What an exporter is to get next. ``body`` is the block as it is on disk, empty where it is not.

    ``end`` is the number of the spool's item after it, None for what is in memory.
    """

    block: MetricBlock
    body: bytes = b""
    size: int = 0
    end: int | None = None


class _Cursor(msgspec.Struct):
    """How far an exporter is: ``number`` in the spool, ``sequence`` in this run's stream."""

    number: int = 0
    sequence: int = 0
    on_disk: bool = False
    news: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class MetricQueue:
    """One exporter takes ``next``, sends it, and says so with ``taken``. All on the loop.

    ``stream`` is a name that no other run of an agent has. ``resolution`` is how often metrics come, in
    seconds; older ones than ``thin_after`` seconds are thinned to ``thinned_resolution``. ``dropped`` counts
    gatherings that were lost, by the reason; what the budget costs, the spool counts.
    """

    def __init__(
        self,
        spool: SpoolThread,
        exporters: Iterable[str],
        *,
        stream: str,
        clock: Clock,
        resolution: float,
        thin_after: float,
        thinned_resolution: float,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._memory = MetricMemory(stream)
        self._cursors = {name: _Cursor() for name in exporters}
        self._thinner = MetricThinner(after=thin_after, resolution=round(thinned_resolution * 1000))
        self._kept_gatherings = max(1, math.ceil(KEPT_SECONDS / resolution))
        self._registered = False
        self._spills = 0
        self._keeping = asyncio.Lock()
        self.dropped: Counter[str] = Counter()

    @property
    def left_out(self) -> Counter[str]:
        """Samples that collectors answered with and that nobody gets, by the reason."""
        return self._memory.left_out

    @property
    def in_memory(self) -> int:
        """Samples that are in memory alone."""
        return self._memory.samples

    @property
    def waiting(self) -> int:
        """Gatherings that not every exporter has."""
        spool = self._spool.opened
        on_disk = spool.usage(CLASS).items if spool is not None else 0
        return on_disk + self._memory.next - self._memory.first

    async def begin(self) -> None:
        """Go on with what an earlier run left on disk. TemporaryError where the disk cannot be read."""
        if self._spool.exists:
            await self._register()

    async def _register(self) -> None:
        names = set(self._cursors)

        def register(spool: Spool) -> dict[str, int]:
            spool.set_sinks(CLASS, names)
            return spool.sinks(CLASS)

        for name, number in (await self._spool.call(register)).items():
            self._cursors[name].number = number
            self._cursors[name].on_disk = True
        self._registered = True

    def add(self, time: int, families: Iterable[MetricFamily]) -> None:
        """A gathering of now, ``time`` in milliseconds since the epoch."""
        self._memory.add(time, families)
        self._wake()

    def _wake(self) -> None:
        for cursor in self._cursors.values():
            cursor.news.set()

    # The exporters' side

    async def next(self, exporter: str) -> Waiting:
        """The oldest that the exporter has not taken, as soon as there is something.

        TemporaryError where the disk cannot be read.
        """
        cursor = self._cursors[exporter]
        while True:
            cursor.news.clear()
            if cursor.on_disk:
                spills = self._spills
                found = await self._spool.call(self._reader(cursor))
                if found is not None:
                    waiting = self._rest(cursor, found)
                    if waiting.block.moments:
                        return waiting
                    await self.taken(exporter, waiting)
                    continue
                if spills != self._spills:
                    continue  # what was put on disk meanwhile may have come after that look at it
                cursor.on_disk = False
            if (block := self._memory.block(cursor.sequence)) is not None:
                return Waiting(block)
            await cursor.news.wait()

    def _reader(self, cursor: _Cursor) -> Callable[[Spool], Waiting | None]:
        number = cursor.number

        def read(spool: Spool) -> Waiting | None:
            chunk = spool.after(CLASS, number)
            if chunk is None:
                return None
            try:
                block = decode_block(chunk.body)
            except InvalidObjectError as error:
                log.error("%d gatherings of metrics on disk are lost: %s", chunk.items, error)
                self.dropped["Unreadable"] += chunk.items
                block = MetricBlock(stream="", first=0, count=1, moments=[], batch=SampleBatch())
            rest = without(block, block.first + max(0, number - chunk.first))
            return Waiting(rest, chunk.body if rest is block else b"", len(chunk.body), chunk.next)

        return read

    def _rest(self, cursor: _Cursor, found: Waiting) -> Waiting:
        """Less what the exporter took from memory before it went to the disk."""
        if found.block.stream != self._memory.stream:
            return found
        rest = without(found.block, cursor.sequence)
        return found if rest is found.block else Waiting(rest, b"", found.size, found.end)

    async def taken(self, exporter: str, waiting: Waiting) -> None:
        """The exporter has it all. TemporaryError where the disk could not take that in: to be said again."""
        cursor, end = self._cursors[exporter], waiting.end
        if waiting.block.stream == self._memory.stream:
            cursor.sequence = max(cursor.sequence, waiting.block.next)
            self._memory.forget(min(one.sequence for one in self._cursors.values()))
        if end is not None:
            await self._spool.call(lambda spool: spool.advance(CLASS, exporter, end))
            cursor.number = max(cursor.number, end)

    # The disk

    async def keep_old(self) -> None:
        """Put on disk what has waited for long, or is much; after each gathering.

        Memory stays bounded where the disk takes nothing.
        """
        held = self._memory.next - self._memory.first
        if held >= self._kept_gatherings or self._memory.samples >= KEPT_SAMPLES:
            try:
                await self.keep()
            except TemporaryError as error:
                log.warning("metrics wait in memory: %s", error)
        while self._memory.samples > MAX_SAMPLES:
            self._memory.forget(self._memory.first + 1)
            self.dropped["NoRoom"] += 1

    async def keep(self) -> None:
        """Put on disk all that waits. TemporaryError where it takes nothing."""
        async with self._keeping:
            while (block := self._memory.block(self._memory.first)) is not None:
                if not self._registered:
                    await self._register()
                await self._keep(block)

    async def _keep(self, block: MetricBlock) -> None:
        now = self._clock.now()
        made = block.moments[-1].time / 1000

        def write(spool: Spool) -> int:
            first = spool.append(CLASS, encode_block(block), block.count, made)
            self._thinner.step(spool, now)
            return first

        first = await self._spool.call(write)
        self._spills += 1
        self._memory.forget(block.next)
        for cursor in self._cursors.values():
            cursor.on_disk = True
        for name, cursor in self._cursors.items():
            if (got := min(cursor.sequence, block.next) - block.first) > 0:
                await self._advance(name, cursor, first + got)
        self._wake()

    async def _advance(self, name: str, cursor: _Cursor, number: int) -> None:
        await self._spool.call(lambda spool: spool.advance(CLASS, name, number))
        cursor.number = max(cursor.number, number)
