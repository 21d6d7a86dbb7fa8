"""Exporters: where this plugin sends metrics. Without a receiver, nothing for sending them is imported."""

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError
from edgeagent.api.metrics import Exporters, SampleBatch
from edgeagent_metrics.config import MetricsConfig


class NoExporters:
    """``edgeagent.api.metrics.Exporters`` of who has no receiver."""

    def names(self) -> list[str]:
        """None."""
        return []

    def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """PermanentError: nothing can be sent."""
        del batch
        raise PermanentError(f"there is no receiver {exporter}", reason="NoSuchExporter")


def make_exporters(config: MetricsConfig, *, node: str) -> Exporters:
    """Those of the configuration."""
    if not config.remote_write:
        return NoExporters()
    from edgeagent_metrics.remotewrite import RemoteWriteExporters

    return RemoteWriteExporters(config.remote_write, node=node)
