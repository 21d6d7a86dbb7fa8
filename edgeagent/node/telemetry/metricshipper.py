"""MetricShipper: one exporter, fed from the queue in order, at its own pace, for as long as it takes."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.node.pace import Pace
from edgeagent.node.telemetry.exporting import Exporter, only
from edgeagent.node.telemetry.metricqueue import MetricQueue, Waiting
from edgeagent.node.telemetry.outlet import Outlet, Shipped

log = logging.getLogger(__name__)

T = TypeVar("T")


class MetricShipper:
    """``pace`` is spent in bytes of the spool: what is new and in memory waits for nothing.

    ``sent`` says how it goes, ``latest`` the time of the newest gathering that was delivered, in seconds
    since the epoch. ``on_refused`` is called with what the exporter said when a person must mend something.
    """

    def __init__(
        self,
        exporter: Exporter,
        queue: MetricQueue,
        *,
        pace: Pace,
        clock: Clock,
        rng: random.Random,
        on_refused: Callable[[str], None],
    ) -> None:
        self.name = exporter.name
        self.latest = 0.0
        self._outlet = Outlet(
            f"metrics for exporter {self.name}", clock=clock, rng=rng, on_refused=on_refused
        )
        self._exporter = exporter
        self._queue = queue
        self._pace = pace
        self._clock = clock
        self._hurry = asyncio.Event()

    @property
    def sent(self) -> Shipped:
        """How it goes, a series of a batch counted once."""
        return self._outlet.sent

    def hurry(self) -> None:
        """Try again now: there is reason to think that it goes."""
        self._hurry.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            waiting = await self._until_done(lambda: self._queue.next(self.name))
            await self._pace.spend(waiting.size)
            for piece in self._exporter.pieces(waiting):
                await self._deliver(piece)
            self.latest = waiting.block.moments[-1].time / 1000
            await self._taken(waiting)

    async def _taken(self, waiting: Waiting) -> None:
        await self._until_done(lambda: self._queue.taken(self.name, waiting))

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await work()
            except TemporaryError as error:
                await self._pause(self._outlet.failed(error))

    async def _deliver(self, piece: Waiting) -> None:
        while True:
            try:
                delivery = await self._exporter.send(piece)
            except EdgeAgentError as error:
                await self._pause(self._outlet.failed(error))
                continue
            again, pause = self._outlet.answered(delivery, len(piece.block.batch.series))
            if not again:
                return
            piece = only(piece, again)
            await self._clock.sleep(pause)

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        tasks = [
            asyncio.ensure_future(self._clock.sleep(seconds)),
            asyncio.ensure_future(self._hurry.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
