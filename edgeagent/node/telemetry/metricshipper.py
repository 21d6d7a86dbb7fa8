"""MetricShipper: one exporter, fed from the queue in order, at its own pace, for as long as it takes."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.node.pace import Pace
from edgeagent.node.telemetry.exporting import Exporter, only
from edgeagent.node.telemetry.metricqueue import MetricQueue, Waiting
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_CEILING_SECONDS = 120.0
REFUSED_SECONDS = 300.0
"""How long an exporter is left alone that says a person must mend something first."""


class Exported(msgspec.Struct):
    """What became of an exporter's series so far, a series of a batch counted once.

    ``problem``: why nothing goes at the moment, empty where it does; ``refused``: a person must mend
    something first. ``latest``: the time of the newest delivered gathering, in seconds since the epoch.
    """

    delivered: int = 0
    rejected: int = 0
    retries: int = 0
    latest: float = 0.0
    problem: str = ""
    refused: bool = False


class MetricShipper:
    """``pace`` is spent in bytes of the spool: what is new and in memory waits for nothing.

    ``sent`` says how it goes. ``on_refused`` is called with what the exporter said when a person must mend
    something.
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
        self.sent = Exported()
        self._exporter = exporter
        self._queue = queue
        self._pace = pace
        self._clock = clock
        self._rng = rng
        self._on_refused = on_refused
        self._hurry = asyncio.Event()
        self._retry = Backoff(rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)

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
            self.sent.latest = waiting.block.moments[-1].time / 1000
            await self._taken(waiting)

    async def _taken(self, waiting: Waiting) -> None:
        await self._until_done(lambda: self._queue.taken(self.name, waiting))

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await work()
            except TemporaryError as error:
                await self._failed(error)

    async def _deliver(self, piece: Waiting) -> None:
        while True:
            try:
                delivery = await self._exporter.send(piece)
            except EdgeAgentError as error:
                await self._failed(error)
                continue
            again = self._count(delivery, len(piece.block.batch.series))
            if not again:
                self._retry.reset()
                return
            piece = only(piece, again)
            self.sent.retries += 1
            await self._clock.sleep(max(delivery.delay, self._retry.next()))

    def _count(self, delivery: Delivery, offered: int) -> list[int]:
        """The places of the series that are to be sent again."""
        self.sent.problem, self.sent.refused = "", False
        again = sorted({place for place in delivery.retry if 0 <= place < offered})
        rejected = {place for place in delivery.rejected if 0 <= place < offered}
        self.sent.rejected += len(rejected)
        self.sent.delivered += offered - len(rejected | set(again))
        if rejected:
            some = delivery.rejected[min(rejected)]
            log.warning("exporter %s takes %d series never, for: %s", self.name, len(rejected), some)
        return again

    async def _failed(self, error: EdgeAgentError) -> None:
        text, refused = str(error), isinstance(error, PermanentError)
        if text != self.sent.problem:
            level = logging.ERROR if refused else logging.WARNING
            log.log(level, "metrics for exporter %s wait: %s", self.name, text)
            if refused:
                self._on_refused(text)
        self.sent.problem, self.sent.refused = text, refused
        self.sent.retries += 1
        if refused:
            wait = REFUSED_SECONDS * self._rng.uniform(0.5, 1.0)
        else:
            wait = max(getattr(error, "delay", None) or 0.0, self._retry.next())
        await self._pause(wait)

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
