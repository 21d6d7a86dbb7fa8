"""What sends metrics away, as the core sees it: exporters of plugins, and the way to the hub."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import TemporaryError
from edgeagent.api.metrics import SampleBatch
from edgeagent.node.telemetry.metricqueue import Waiting
from edgeagent.wire.metricblock import MetricBlock
from edgeagent.wire.metricparts import split_block, split_series

MAX_BATCH_SAMPLES = 10_000
"""What a plugin is handed at a time."""


class Exporters(Protocol):
    """``edgeagent.api.metrics.Exporters`` as the core calls it. ``plugin``: whose they are."""

    @property
    def plugin(self) -> str:
        """The plugin's name."""

    async def names(self) -> list[str]:
        """The configured exporters."""

    async def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """Send a batch."""


class Exporter(Protocol):
    """One place that metrics go to. ``name`` is the exporter's in the spool."""

    @property
    def name(self) -> str:
        """The name, that of the plugin included."""

    def pieces(self, waiting: Waiting) -> list[Waiting]:
        """What is sent at a time."""

    async def send(self, piece: Waiting) -> Delivery:
        """Send a piece; raises as ``Delivery`` says."""


class PluginExporter:
    """``exporter`` of a plugin. ``turn`` is held while one of the plugin's exporters sends.

    So a receiver that hangs takes one worker of the plugin's lane, and leaves the others to collectors.
    """

    def __init__(self, exporters: Exporters, exporter: str, turn: asyncio.Lock) -> None:
        self._turn = turn
        self.name = f"{exporters.plugin}/{exporter}"
        self._exporters = exporters
        self._exporter = exporter

    def pieces(self, waiting: Waiting) -> list[Waiting]:
        """Of at most ``MAX_BATCH_SAMPLES`` samples."""
        series = waiting.block.batch.series
        samples = sum(len(one.times) for one in series)
        count = min(len(series), -(-samples // MAX_BATCH_SAMPLES)) or 1
        return [Waiting(block) for block in split_series(waiting.block, count)]

    async def send(self, piece: Waiting) -> Delivery:
        """Send a piece."""
        async with self._turn:
            return await self._exporters.export(self._exporter, piece.block.batch)


class HubExporter:
    """Publishes to the hub by way of the cluster's broker; the hub knows a block that comes again.

    ``limit`` is the most bytes that a message may have now, 0 while not connected.
    """

    name = "agent/mqtt"

    def __init__(self, publish: Callable[[bytes], Awaitable[None]], limit: Callable[[], int]) -> None:
        self._publish = publish
        self._limit = limit

    def pieces(self, waiting: Waiting) -> list[Waiting]:
        """All at once: how it is divided depends on the broker of the moment."""
        return [waiting]

    async def send(self, piece: Waiting) -> Delivery:
        """Publish, in as many messages as the broker's limit asks for; a series too large is rejected."""
        if not (limit := self._limit()):
            raise TemporaryError("not connected to the broker", reason="Disconnected")
        if piece.body and len(piece.body) <= limit:
            await self._publish(piece.body)
            return Delivery()
        messages, too_large = split_block(piece.block, limit)
        for message in messages:
            await self._publish(message)
        return Delivery(rejected=dict.fromkeys(too_large, f"does not fit in {limit} bytes"))


def only(piece: Waiting, places: list[int]) -> Waiting:
    """The piece with these of its series alone."""
    batch = piece.block.batch
    series = [batch.series[place] for place in places]
    block: MetricBlock = msgspec.structs.replace(
        piece.block, batch=SampleBatch(families=batch.families, series=series)
    )
    return Waiting(block)
