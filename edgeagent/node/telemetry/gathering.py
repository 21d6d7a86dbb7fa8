"""Gathering: all metrics there are, asked of every collector in its plugin's lane, within a deadline.

A collector that fails, is late or answers with what no page of metrics can hold is left out, and counted.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any, Protocol

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent.api.usage import NodeUsage
from edgeagent.node.telemetry.families import counter, gauge
from edgeagent.node.telemetry.metricpage import FitNames, MetricPage

log = logging.getLogger(__name__)

GRACE_SECONDS = 1.0
"""What a caller waits longer than the collectors have: for the loop to get round to it."""


class Collector(Protocol):
    """``edgeagent.api.metrics.Collectors`` as the core calls it. ``plugin``: whose it is."""

    @property
    def plugin(self) -> str:
        """The plugin's name."""

    async def collect(self, usage: NodeUsage) -> list[MetricFamily]:
        """The metrics as they are now."""


_Answer = asyncio.Task[tuple[list[MetricFamily], float]]


class Gathering:
    """Gathers when asked; between questions nothing runs. ``own``: the core's metrics. Made on the loop."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        *,
        own: Callable[[], list[MetricFamily]],
        read_usage: Callable[[], Awaitable[NodeUsage]],
        clock: Clock,
    ) -> None:
        self._collectors = collectors
        self._own = own
        self._read_usage = read_usage
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[str, _Answer] = {}
        self._shared: asyncio.Task[list[MetricFamily]] | None = None
        self._reading: asyncio.Task[NodeUsage] | None = None
        self._problems: dict[str, str] = {}
        self._names = FitNames()
        self.failures: Counter[str] = Counter()

    def from_thread(self, seconds: float) -> list[MetricFamily]:
        """``gather`` for a thread that is not the loop's, as ``edgeagent.api.metrics.Gather``."""
        work = self.gather(seconds)
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise TemporaryError("the agent has stopped", reason="Stopping") from error
        try:
            return future.result(max(0.0, seconds) + GRACE_SECONDS)
        except (CancelledError, TimeoutError) as error:
            future.cancel()
            raise TemporaryError("the agent is stopping, or too busy", reason="Stopping") from error

    async def gather(self, seconds: float) -> list[MetricFamily]:
        """All families that are there within ``seconds``. Whoever asks meanwhile gets the same."""
        if self._shared is None:
            self._shared = self._loop.create_task(self._gather(seconds), name="gather")
            self._shared.add_done_callback(self._gathered)
        return list(await asyncio.shield(self._shared))

    def _gathered(self, task: "asyncio.Task[list[MetricFamily]]") -> None:
        self._shared = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; there may be nobody

    async def _gather(self, seconds: float) -> list[MetricFamily]:
        began = self._clock.monotonic()
        usage = await self._usage(seconds)
        asked: dict[str, _Answer] = {}
        for collector in self._collectors:
            if usage is not None and (name := collector.plugin) not in self._under_way:
                asked[name] = self._loop.create_task(self._ask(collector, usage), name=f"collect-{name}")
        self._under_way.update(asked)
        if asked:
            left = seconds - (self._clock.monotonic() - began)
            await asyncio.wait(asked.values(), timeout=max(0.0, left))
        page = MetricPage(self._names)
        page.add(self._own())
        took = {}
        for collector in self._collectors:
            name = collector.plugin
            if (answer := self._answer(name, asked.get(name), seconds, page)) is not None:
                took[name] = answer
        page.add(self._about(took))
        return page.families()

    async def _usage(self, seconds: float) -> NodeUsage | None:
        """None where it is not there in time. One reading at a time: a thread that hangs cannot be ended."""
        if self._reading is None or self._reading.done():  # what came too late is too old
            self._reading = self._loop.create_task(_awaited(self._read_usage()), name="read-usage")
        await asyncio.wait((self._reading,), timeout=max(0.0, seconds))
        if not self._reading.done():
            self._reading.add_done_callback(_forget)
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def _ask(self, collector: Collector, usage: NodeUsage) -> tuple[list[MetricFamily], float]:
        began = self._clock.monotonic()
        try:
            families = await collector.collect(usage)
        finally:
            del self._under_way[collector.plugin]
        return families, self._clock.monotonic() - began

    def _answer(self, name: str, task: _Answer | None, seconds: float, page: MetricPage) -> float | None:
        """Put a collector's answer on the page; how long it took, None where it is left out."""
        try:
            if task is None:
                if name not in self._under_way:
                    raise TemporaryError(f"what the node uses was not read within {seconds:g} s")
                raise TemporaryError("it has not come back since it was asked before")
            if not task.done():
                task.add_done_callback(_forget)
                raise TemporaryError(f"it did not answer within {seconds:g} s")
            families, took = task.result()
            page.add(families)
        except EdgeAgentError as error:
            self.failures[name] += 1
            if self._problems.get(name) != str(error):
                log.warning("metrics of plugin %s are left out: %s", name, error)
            self._problems[name] = str(error)
            return None
        self._problems.pop(name, None)
        return took

    def _about(self, took: dict[str, float]) -> list[MetricFamily]:
        """How the collectors themselves did."""
        names = [{"plugin": one.plugin} for one in self._collectors]
        return [
            gauge(
                "edgeagent_collector_success",
                "Whether the plugin's metrics are on this page.",
                [Sample(float(one["plugin"] not in self._problems), one) for one in names],
            ),
            gauge(
                "edgeagent_collector_duration_seconds",
                "How long the plugin's collector took, the time it waited for its lane included.",
                [Sample(took[one["plugin"]], one) for one in names if one["plugin"] in took],
            ),
            counter(
                "edgeagent_collector_failures_total",
                "How often the plugin's metrics were left out: it failed, was late, or told of no metrics.",
                [Sample(self.failures[one["plugin"]], one) for one in names],
            ),
        ]

    async def stop(self) -> None:
        """Nobody is answered any more."""
        tasks: list[asyncio.Task[Any]] = [*self._under_way.values()]
        if self._shared is not None:
            tasks.append(self._shared)
        if self._reading is not None:
            tasks.append(self._reading)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _awaited(usage: Awaitable[NodeUsage]) -> NodeUsage:
    return await usage


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
