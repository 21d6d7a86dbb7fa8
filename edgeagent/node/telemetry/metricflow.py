"""MetricFlow: the metrics of a node on their way to all exporters, whether or not these can be reached."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.metrics import MetricFamily
from edgeagent.node.pace import Pace
from edgeagent.node.telemetry.exporting import Exporter, Exporters, PluginExporter
from edgeagent.node.telemetry.metricqueue import MetricQueue
from edgeagent.node.telemetry.metricshipper import MetricShipper
from edgeagent.node.telemetry.metricthinner import CLASS
from edgeagent.node.telemetry.sampler import Sampler
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.wire.jitter import Backoff

log = logging.getLogger(__name__)

RETRY_CEILING_SECONDS = 60.0
BURST_SECONDS = 10.0
"""So many seconds' worth of the rate go at once after a pause."""


class FlowSettings(msgspec.Struct, frozen=True):
    """Seconds, but for ``rate``: bytes of the spool that a second may go to each exporter.

    Metrics are gathered every ``resolution``; those older than ``thin_after`` are thinned to
    ``thinned_resolution``. ``offset`` moves the moments of gathering.
    """

    resolution: float
    thin_after: float
    thinned_resolution: float
    rate: float
    offset: float = 0.0


class MetricFlow:
    """Runs while there is an exporter: without one, nothing is gathered and nothing is written.

    ``own`` are the exporters of the core itself. ``on_refused`` gets an exporter's name and what it said,
    when a person must mend something.
    """

    def __init__(
        self,
        gather: Callable[[], Awaitable[list[MetricFamily]]],
        plugins: Sequence[Exporters],
        own: Sequence[Exporter],
        spool: SpoolThread,
        settings: FlowSettings,
        *,
        clock: Clock,
        rng: random.Random,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._gather = gather
        self._plugins = plugins
        self._own = own
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._on_refused = on_refused
        self.shippers: list[MetricShipper] = []
        self.queue: MetricQueue | None = None
        self.sampler: Sampler | None = None

    @property
    def waiting(self) -> int:
        """Gatherings that not every exporter has."""
        return self.queue.waiting if self.queue is not None else 0

    def connected(self) -> None:
        """There is a connection to the broker: what waits to be tried again by way of it need not wait."""
        for shipper in self.shippers:
            if any(shipper.name == one.name for one in self._own):
                shipper.hurry()

    async def run(self) -> None:
        """Until cancelled; then what waits is put on disk."""
        exporters = [*self._own]
        for plugin in self._plugins:
            turn = asyncio.Lock()
            exporters += [PluginExporter(plugin, name, turn) for name in await self._names(plugin)]
        if not exporters:
            await self._forget()
            return
        settings, clock = self._settings, self._clock
        self.queue = queue = MetricQueue(
            self._spool,
            [one.name for one in exporters],
            stream=f"{self._rng.getrandbits(64):016x}",
            clock=clock,
            resolution=settings.resolution,
            thin_after=settings.thin_after,
            thinned_resolution=settings.thinned_resolution,
        )
        self.sampler = sampler = Sampler(
            self._gather, queue, clock=clock, resolution=settings.resolution, offset=settings.offset
        )
        self.shippers = [self._shipper(one, queue) for one in exporters]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sampler.run())
                tasks.create_task(self._ship(queue, tasks))
        finally:
            await self._keep(queue)

    async def _ship(self, queue: MetricQueue, tasks: asyncio.TaskGroup) -> None:
        await self._until_done(queue.begin)
        for shipper in self.shippers:
            tasks.create_task(shipper.run())

    async def _keep(self, queue: MetricQueue) -> None:
        try:
            await queue.keep()
        except TemporaryError as error:
            log.warning("the metrics of the last minutes are lost: %s", error)

    async def _names(self, exporters: Exporters) -> list[str]:
        """A plugin that will never say has no exporters; one that cannot say now is asked again."""
        retry = Backoff(self._rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        while True:
            try:
                return await exporters.names()
            except TemporaryError as error:
                log.warning("plugin %s does not say where metrics go: %s", exporters.plugin, error)
                await self._clock.sleep(max(error.delay or 0.0, retry.next()))
            except EdgeAgentError as error:
                log.error("plugin %s exports no metrics: %s", exporters.plugin, error)
                return []

    async def _forget(self) -> None:
        """What an earlier run left for exporters that are not configured any more goes."""
        if self._spool.exists:
            await self._until_done(lambda: self._spool.call(lambda spool: spool.set_sinks(CLASS, set())))

    async def _until_done(self, work: Callable[[], Awaitable[None]]) -> None:
        retry = Backoff(self._rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        while True:
            try:
                await work()
                return
            except TemporaryError as error:
                log.warning("metrics on disk cannot be used at the moment: %s", error)
                await self._clock.sleep(retry.next())

    def _shipper(self, exporter: Exporter, queue: MetricQueue) -> MetricShipper:
        rate = self._settings.rate
        return MetricShipper(
            exporter,
            queue,
            pace=Pace(self._clock, rate=rate, burst=rate * BURST_SECONDS),
            clock=self._clock,
            rng=self._rng,
            on_refused=lambda text: self._on_refused(exporter.name, text),
        )
