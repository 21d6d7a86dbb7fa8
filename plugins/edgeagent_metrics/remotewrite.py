"""RemoteWriteExporters: sends metrics to Prometheus, VictoriaMetrics, Mimir and others by remote_write."""

from collections.abc import Callable, Sequence

from edgeagent import __version__
from edgeagent.api.delivery import Delivery
from edgeagent.api.metrics import SampleBatch
from edgeagent.wire.remotewrite import time_series
from edgeagent.wire.remotewriteclient import (
    RemoteWriteClient,
    RemoteWriteTarget,
    basic_authorization,
    bearer_authorization,
)
from edgeagent_metrics.remotewriteconfig import RemoteWriteConfig

JOB = "edgeagent"


class RemoteWriteExporters:
    """``edgeagent.api.metrics.Exporters``, one exporter for each receiver of the configuration."""

    def __init__(self, configs: Sequence[RemoteWriteConfig], *, node: str) -> None:
        self._labels = {one.name: _labels(one, node) for one in configs}
        self._clients = {
            one.name: RemoteWriteClient(_target(one), agent=f"edgeagent/{__version__}") for one in configs
        }

    def names(self) -> list[str]:
        """Those of the configuration."""
        return list(self._clients)

    def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """Send a batch, in as many requests as it takes."""
        rejected = self._clients[exporter].send(time_series(batch, self._labels[exporter]))
        return Delivery(rejected=rejected)

    def close(self) -> None:
        """End the connections that are kept."""
        for client in self._clients.values():
            client.close()


def _labels(config: RemoteWriteConfig, node: str) -> dict[str, str]:
    return {"job": JOB, "instance": node, **config.external_labels}


def _target(config: RemoteWriteConfig) -> RemoteWriteTarget:
    return RemoteWriteTarget(
        url=config.url,
        headers=config.headers,
        ca_file=config.ca_file,
        certificate_file=config.certificate_file,
        key_file=config.key_file,
        authorization=_authorization(config),
        timeout=config.timeout_seconds,
    )


def _authorization(config: RemoteWriteConfig) -> Callable[[], str]:
    if config.username:
        return lambda: basic_authorization(config.username, config.password_file)
    if config.token_file:
        return lambda: bearer_authorization(config.token_file)
    return lambda: ""
