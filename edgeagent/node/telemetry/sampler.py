"""Sampler: has all metrics gathered at the chosen resolution, for as long as there is an exporter."""

import logging
from collections.abc import Awaitable, Callable

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.metrics import MetricFamily
from edgeagent.node.telemetry.metricqueue import MetricQueue

log = logging.getLogger(__name__)


class Sampler:
    """Gathers at multiples of ``resolution`` and ``offset`` seconds by the wall clock.

    So a restart goes on in the same rhythm, and ``offset`` has many nodes not all do it at once.
    ``missed`` counts the times when nothing could be gathered.
    """

    def __init__(
        self,
        gather: Callable[[], Awaitable[list[MetricFamily]]],
        queue: MetricQueue,
        *,
        clock: Clock,
        resolution: float,
        offset: float,
    ) -> None:
        self._gather = gather
        self._queue = queue
        self._clock = clock
        self._resolution = resolution
        self._offset = offset
        self.missed = 0

    async def run(self) -> None:
        """Until cancelled."""
        last = -self._resolution
        while True:
            wait = self._resolution - (self._clock.now() - self._offset) % self._resolution
            if self._clock.monotonic() + wait - last < self._resolution / 2:
                wait += self._resolution  # the sleep was a little short, or the clock was put back
            await self._clock.sleep(wait)
            last = self._clock.monotonic()
            await self._sample()

    async def _sample(self) -> None:
        time = round(self._clock.now() * 1000)
        try:
            families = await self._gather()
        except EdgeAgentError as error:
            self.missed += 1
            log.warning("metrics are not gathered: %s", error)
            return
        self._queue.add(time, families)
        await self._queue.keep_old()
