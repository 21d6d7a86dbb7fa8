"""What the node can be asked joined to its parts: a part of the composition root."""

from collections.abc import Callable
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import NodeStatus
from edgeagent.node.networkreads import Plugin
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.reads import NodeReads
from edgeagent.node.store.audit import AuditLog
from edgeagent.node.usage.reader import UsageReader
from edgeagent.node.usage.window import UsageWindow
from edgeagent.node.usagereads import UsageReads


def make_reads(
    name: str,
    root: Path,
    clock: Clock,
    *,
    pods: PodManager | None,
    status: Callable[[], NodeStatus],
    events: Callable[[], list[Event]],
    network: Plugin | None,
    audit: Callable[[], AuditLog | None],
) -> NodeReads:
    """The reads of node ``name``, whose file system begins at ``root``; the rest as ``NodeReads``."""
    reader = UsageReader(node=name, root=root, clock=clock, pods=pods)
    return NodeReads(
        name=name,
        pods=pods,
        status=status,
        usage=UsageReads(UsageWindow(reader, clock)),
        events=events,
        network=network,
        audit=audit,
        now=clock.now,
    )
