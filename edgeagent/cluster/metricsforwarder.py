"""MetricsForwarder: passes the metrics of all nodes on by remote_write, in the order in which they came."""

import asyncio
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from edgeagent import __version__
from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.cluster.metricsconfig import RemoteWriteSection
from edgeagent.cluster.metricsnewest import MAX_PLAIN_BYTES
from edgeagent.cluster.metricspage import labels_of, usable
from edgeagent.cluster.metricsqueue import MetricsQueue, Progress, Queued
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.metricblock import MetricBlock, decode_block
from edgeagent.wire.remotewrite import TimeSeries
from edgeagent.wire.remotewriteclient import RemoteWriteClient

log = logging.getLogger(__name__)

BATCH_BYTES = 256 * 1024
RETRY_CEILING_SECONDS = 60.0
REFUSED_SECONDS = 120.0
"""How long a receiver is left alone that says a person must mend something first."""
JOB = "edgeagent"


class Series(NamedTuple):
    """What became of series, one counted once a request."""

    forwarded: int = 0
    rejected: int = 0


class MetricsForwarder:
    """Encoding and waiting are for a thread of its own. ``counts`` and ``problem`` say how it goes."""

    def __init__(
        self, config: RemoteWriteSection, queue: MetricsQueue, *, clock: Clock, rng: random.Random
    ) -> None:
        self._queue = queue
        self._labels = config.external_labels
        self._client = RemoteWriteClient(config.target(), agent=f"edgehub/{__version__}")
        self._clock = clock
        self._rng = rng
        self._retry = Backoff(rng, first=1.0, ceiling=RETRY_CEILING_SECONDS)
        self._news = asyncio.Event()
        self.counts = Series()
        self.problem = ""

    def wake(self) -> None:
        """There is something new."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="remote-write")
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._news.clear()
                messages = self._queue.first(BATCH_BYTES)
                if not messages:
                    await self._news.wait()
                    continue
                try:
                    blocks = await loop.run_in_executor(thread, _decoded, messages)
                    progress: dict[tuple[str, str], Progress] = {}
                    news = self._news_of(blocks, progress)
                    rejected = await loop.run_in_executor(thread, self._send, news)
                    self._queue.done(messages, progress)
                except EdgeAgentError as error:
                    await self._failed(error)
                    continue
                self._count(news, rejected)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)
            self._client.close()

    def _news_of(
        self, blocks: list[tuple[str, MetricBlock]], progress: dict[tuple[str, str], Progress]
    ) -> list[tuple[str, MetricBlock]]:
        """What was not passed on before, by node; ``progress`` is filled with how far that comes."""
        found = []
        for node, block in blocks:
            key = node, block.stream
            if key not in progress:
                progress[key] = self._queue.progress(*key)
            if (news := progress[key].news(block)) is not None:
                found.append((node, news))
        return found

    def _send(self, blocks: list[tuple[str, MetricBlock]]) -> dict[int, str]:
        return self._client.send(self._series(blocks))

    def _series(self, blocks: list[tuple[str, MetricBlock]]) -> list[TimeSeries]:
        found = []
        for node, block in blocks:
            outer = {"job": JOB, "instance": node, **self._labels}
            for one in usable(block):
                name = block.batch.families[one.family].name + one.suffix
                labels = {**outer, **labels_of(one, node), "__name__": name}
                found.append(TimeSeries(labels, one.times, one.values))
        return found

    def _count(self, blocks: list[tuple[str, MetricBlock]], rejected: dict[int, str]) -> None:
        self._retry.reset()
        self.problem = ""
        offered = sum(len(block.batch.series) for _, block in blocks)
        self.counts = Series(
            self.counts.forwarded + offered - len(rejected), self.counts.rejected + len(rejected)
        )
        if rejected:
            some = rejected[min(rejected)]
            log.warning("remote_write takes %d series of nodes never, for: %s", len(rejected), some)

    async def _failed(self, error: EdgeAgentError) -> None:
        text, refused = str(error), isinstance(error, PermanentError)
        if text != self.problem:
            log.log(logging.ERROR if refused else logging.WARNING, "metrics of nodes wait: %s", text)
        self.problem = text
        if refused:
            wait = REFUSED_SECONDS * self._rng.uniform(0.5, 1.0)
        else:
            wait = max(getattr(error, "delay", None) or 0.0, self._retry.next())
        await self._clock.sleep(wait)


def _decoded(messages: list[Queued]) -> list[tuple[str, MetricBlock]]:
    found = []
    for message in messages:
        try:
            found.append((message.node, decode_block(message.body, limit=MAX_PLAIN_BYTES)))
        except InvalidObjectError as error:
            log.warning("metrics of node %s cannot be used: %s", message.node, error)
    return found
