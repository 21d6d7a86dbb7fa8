"""Metrics joined to the plugins and the parts of this node: a part of the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.objects.node import NodeStatus
from edgeagent.node.agentmetrics import AgentParts, agent_families
from edgeagent.node.histogram import Histogram
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.telemetry.gathering import Gathering
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.node.uplinkfigures import UplinkFigures
from edgeagent.node.usage.reader import UsageReader


@dataclass(frozen=True, slots=True)
class MetricsMeans:
    """What of the agent is told of in metrics. ``uplink`` answers None while the node has no cluster."""

    node: str
    root: Path
    clock: Clock
    plugins: PluginHost
    pods: PodManager | None
    status: Callable[[], NodeStatus]
    desired: DesiredState
    outbox: Outbox
    spool: SpoolThread
    logs: LogFlow
    uplink: Callable[[], UplinkFigures | None]


def make_gathering(means: MetricsMeans) -> Gathering:
    """What gathers this node's metrics when somebody asks."""
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
        own=lambda: agent_families(parts),
        read_usage=reader.read,
        clock=means.clock,
    )
