"""The telemetry protocols as the core calls them: logs and metrics, in and out, each call with a deadline."""

from typing import cast

from edgeagent.api.delivery import Delivery
from edgeagent.api.logs import LogBatch, LogChunk, LogTarget
from edgeagent.api.metrics import MetricFamily, SampleBatch
from edgeagent.api.usage import NodeUsage
from edgeagent.node.plugins.contract import COLLECTORS, EXPORTERS, LOG_SINKS, LOG_SOURCE
from edgeagent.node.plugins.facades import ANSWER_SECONDS, WORK_SECONDS, Facade

READ_SECONDS = 900.0
"""How long a source waits for a line before it answers with nothing: a sign of life."""


class LogSourceFacade(Facade):
    """``edgeagent.api.logs.LogSource``."""

    hook = LOG_SOURCE

    async def resume(self, positions: dict[str, str]) -> None:
        """Go on from these positions."""
        await self._ask("resume", positions)

    async def reconcile(self, targets: list[LogTarget]) -> None:
        """The containers to follow."""
        await self._ask("reconcile", targets)

    async def read(self) -> LogChunk:
        """The next chunk; empty where nothing came for long."""
        return cast(LogChunk, await self._ask("read", READ_SECONDS, deadline=READ_SECONDS + ANSWER_SECONDS))


class LogSinksFacade(Facade):
    """``edgeagent.api.logs.LogSinks``."""

    hook = LOG_SINKS

    async def names(self) -> list[str]:
        """The configured sinks."""
        return cast(list[str], await self._ask("names"))

    async def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """Send a batch."""
        answer = await self._ask("ship", sink, stream, first, batch, deadline=WORK_SECONDS)
        return cast(Delivery, answer)


class CollectorsFacade(Facade):
    """``edgeagent.api.metrics.Collectors``."""

    hook = COLLECTORS

    async def collect(self, usage: NodeUsage) -> list[MetricFamily]:
        """The metrics as they are now."""
        return cast(list[MetricFamily], await self._ask("collect", usage))


class ExportersFacade(Facade):
    """``edgeagent.api.metrics.Exporters``."""

    hook = EXPORTERS

    async def names(self) -> list[str]:
        """The configured exporters."""
        return cast(list[str], await self._ask("names"))

    async def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """Send a batch."""
        return cast(Delivery, await self._ask("export", exporter, batch, deadline=WORK_SECONDS))
