"""Metrics joined to the plugins and the parts of this node: a part of the composition root."""

import random
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import TemporaryError
from edgeagent.api.metrics import MetricFamily
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.node import NodeStatus
from edgeagent.node.agentmetrics import AgentParts, agent_families
from edgeagent.node.config import TelemetrySection
from edgeagent.node.events import EventRecorder
from edgeagent.node.histogram import Histogram
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.telemetry.exporting import Exporter, HubExporter
from edgeagent.node.telemetry.exportmetrics import export_families
from edgeagent.node.telemetry.gathering import Gathering
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.metricflow import FlowSettings, MetricFlow
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.node.uplinkfigures import UplinkFigures
from edgeagent.node.usage.reader import UsageReader

GATHER_SECONDS = 10.0
"""How long collectors have when metrics are gathered to be sent."""


class Uplink(UplinkFigures, Protocol):
    """The connection to the broker, as far as metrics need it."""

    @property
    def payload_limit(self) -> int:
        """The most bytes that a message may have; 0 while there is no connection."""

    async def publish_metrics(self, payload: bytes) -> None:
        """Publish on the node's topic for metrics."""


class MetricsMeans(msgspec.Struct, frozen=True):
    """What metrics are made of, and go by. ``uplink`` answers None while the node has no cluster.

    ``time`` knows what day it is.
    """

    node: str
    root: Path
    config: TelemetrySection
    clock: Clock
    time: Clock
    rng: random.Random
    events: EventRecorder
    plugins: PluginHost
    pods: PodManager | None
    status: Callable[[], NodeStatus]
    desired: DesiredState
    outbox: Outbox
    spool: SpoolThread
    logs: LogFlow
    uplink: Callable[[], Uplink | None]


class Metrics:
    """All of this node's metrics: gathered for whoever asks, and sent to the exporters while ``run`` runs."""

    def __init__(self, means: MetricsMeans) -> None:
        self.flow = _make_flow(means, lambda: self._gathering.gather(GATHER_SECONDS))
        self._gathering = _make_gathering(means, self.flow)
        self.run = self.flow.run
        self.from_thread = self._gathering.from_thread
        self.stop = self._gathering.stop


def _make_gathering(means: MetricsMeans, flow: MetricFlow) -> Gathering:
    pods = means.pods
    parts = AgentParts(
        status=means.status,
        plugins=means.plugins.hosted,
        desired=means.desired,
        outbox=means.outbox,
        spool=lambda: means.spool.opened,
        logs=means.logs,
        pods=pods.statuses if pods is not None else list,
        passes=pods.passes if pods is not None else Histogram(()),
        uplink=means.uplink,
    )
    reader = UsageReader(node=means.node, root=means.root, clock=means.clock, pods=pods)
    return Gathering(
        means.plugins.collectors(),
        own=lambda: [*agent_families(parts), *export_families(flow)],
        read_usage=reader.read,
        clock=means.clock,
    )


def _make_flow(means: MetricsMeans, gather: Callable[[], Awaitable[list[MetricFamily]]]) -> MetricFlow:
    config, about = means.config, ObjectReference(kind="Node", name=means.node)

    def refused(exporter: str, text: str) -> None:
        means.events.record(about, "Warning", "MetricsExporterRefused", f"exporter {exporter}: {text}")

    own: list[Exporter] = [_hub_exporter(means.uplink)] if config.metrics_to_hub else []
    return MetricFlow(
        gather,
        means.plugins.exporters(),
        own,
        means.spool,
        FlowSettings(
            resolution=config.resolution_seconds,
            thin_after=config.downsample_after_seconds,
            thinned_resolution=config.downsampled_seconds,
            rate=config.drain_bytes,
            # Each node has its own moment, so that not all of them send at once.
            offset=zlib.crc32(means.node.encode()) / 2**32 * config.resolution_seconds,
        ),
        clock=means.time,
        rng=means.rng,
        on_refused=refused,
    )


def _hub_exporter(uplink: Callable[[], Uplink | None]) -> HubExporter:
    async def publish(payload: bytes) -> None:
        if (connection := uplink()) is None:
            raise TemporaryError("this node has no cluster", reason="Disconnected")
        await connection.publish_metrics(payload)

    def limit() -> int:
        connection = uplink()
        return connection.payload_limit if connection is not None else 0

    return HubExporter(publish, limit)
