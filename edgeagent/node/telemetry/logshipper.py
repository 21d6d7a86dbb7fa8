"""LogShipper: one sink, fed from the spool in order, at its own pace, for as long as it takes."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol, TypeVar

from edgeagent.api.clock import Clock
from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.logs import LogBatch
from edgeagent.node.pace import Pace
from edgeagent.node.store.spool import Chunk, Spool
from edgeagent.node.telemetry.logchunks import join, part, size, unpack
from edgeagent.node.telemetry.logshares import APART, CLASSES, SHARED, stream_of
from edgeagent.node.telemetry.outlet import Outlet, Shipped
from edgeagent.node.telemetry.spoolthread import SpoolThread

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_BYTES = 256 * 1024
"""Chunks of up to so much text in all are shipped together."""
MAX_RUNS = 8
"""Where more separate pieces than this are to be sent again, what lies between them is sent again too."""


class Sinks(Protocol):
    """``edgeagent.api.logs.LogSinks`` as the core calls it. ``plugin``: whose they are."""

    @property
    def plugin(self) -> str:
        """The plugin's name."""

    async def names(self) -> list[str]:
        """The configured sinks."""

    async def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """Send a batch."""


class LogShipper:
    """Ships to ``sink`` of ``sinks``, at ``pace`` (bytes of text). ``sent`` says how that goes.

    ``name`` is the sink's in the spool: two plugins may each have one that they call the same.
    ``on_refused`` is called with what the sink said when a person must mend something.
    """

    def __init__(
        self,
        sinks: Sinks,
        sink: str,
        spool: SpoolThread,
        *,
        pace: Pace,
        clock: Clock,
        rng: random.Random,
        on_refused: Callable[[str], None],
    ) -> None:
        self.name = f"{sinks.plugin}/{sink}"
        self._sink = sink
        self._outlet = Outlet(f"logs for sink {self.name}", clock=clock, rng=rng, on_refused=on_refused)
        self._sinks = sinks
        self._spool = spool
        self._pace = pace
        self._clock = clock
        self._news = asyncio.Event()
        self._next: dict[str, int] = {}
        self._apart_is_next = False
        self._served = 0

    @property
    def sent(self) -> Shipped:
        """How it goes, by records."""
        return self._outlet.sent

    def wake(self) -> None:
        """There is something new in the spool."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._next = await self._spooled(
            lambda spool: {name: spool.sinks(name)[self.name] for name in CLASSES}
        )
        while True:
            await self._step()

    async def _step(self) -> None:
        """Ship what is next, or wait for something."""
        self._news.clear()
        found = await self._spooled(self._look)
        if found is None:
            await self._news.wait()
            return
        name, chunks = found
        await self._pace.spend(sum(_weight(chunk) for chunk in chunks))
        await self._deliver(name, chunks)
        self._next[name] = end = chunks[-1].next
        await self._spooled(lambda spool: spool.advance(name, self.name, end))

    def _look(self, spool: Spool) -> tuple[str, list[Chunk]] | None:
        """What is next: by turns of the class that all share, and of one of those apart.

        What was put apart later than what waits in the former is not before it: so each container's lines
        stay in order.
        """
        shared = self._waiting_in(spool, SHARED)
        for place in range(self._served + 1, self._served + 1 + len(APART)):
            name = APART[place % len(APART)]
            if not spool.usage(name).chunks or not (chunks := self._waiting_in(spool, name)):
                continue
            if shared and (not self._apart_is_next or shared[0].made <= chunks[0].made):
                break
            self._served, self._apart_is_next = place % len(APART), False
            return name, chunks
        self._apart_is_next = True
        return (SHARED, shared) if shared else None

    def _waiting_in(self, spool: Spool, name: str) -> list[Chunk]:
        return spool.run_after(name, self._next[name], BATCH_BYTES, _weight)

    async def _spooled(self, work: Callable[[Spool], T]) -> T:
        while True:
            try:
                return await self._spool.call(work)
            except TemporaryError as error:
                await self._clock.sleep(self._outlet.failed(error))

    async def _deliver(self, name: str, chunks: list[Chunk]) -> None:
        stream = stream_of(await self._spooled(lambda spool: spool.stream), name)
        count = sum(chunk.items for chunk in chunks)
        try:
            batch = join([unpack(chunk.body) for chunk in chunks])
        except PermanentError as error:
            log.error("%d log records for sink %s are lost: %s", count, self.name, error)
            self.sent.rejected += count
            return
        waiting = [(0, len(batch.records))]
        while waiting:
            start, end = waiting.pop(0)
            try:
                delivery = await self._sinks.ship(
                    self._sink, stream, chunks[0].first + start, part(batch, start, end)
                )
            except EdgeAgentError as error:
                waiting.insert(0, (start, end))
                await self._clock.sleep(self._outlet.failed(error))
                continue
            again, pause = self._outlet.answered(delivery, end - start)
            waiting = _runs([start + place for place in again]) + waiting
            if again:
                await self._clock.sleep(pause)


def _weight(chunk: Chunk) -> int:
    return size(chunk.body)


def _runs(places: list[int]) -> list[tuple[int, int]]:
    """Neighbours as one piece each, from and up to; all in one piece where there would be too many."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs if len(runs) <= MAX_RUNS else [(places[0], places[-1] + 1)]
