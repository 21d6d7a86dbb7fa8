"""What ``edgeagent status`` shows: the agent at one glance."""

import msgspec

from edgeagent.api.objects.node import NodeStatus
from edgeagent.node.static.folder import StaticPods
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.metricflow import MetricFlow


class Connection(msgspec.Struct, frozen=True):
    """The broker in use, as ``host:port``, or why there is none."""

    broker: str = ""
    connected: bool = False
    last_error: str = ""


def summary(
    *,
    node: str,
    cluster: str,
    enrolled: bool,
    connection: Connection,
    generation: int,
    outbox: Outbox,
    status: NodeStatus,
    static: StaticPods | None,
    logs: LogFlow,
    metrics: MetricFlow,
) -> dict[str, object]:
    """As it is written to the local socket."""
    return {
        "node": node,
        "cluster": cluster,
        "enrolled": enrolled,
        "broker": connection.broker,
        "connected": connection.connected,
        "lastError": connection.last_error,
        "generation": generation,
        "outbox": len(outbox.first(1000)),
        "logSinks": [
            {
                "name": one.name,
                "delivered": one.sent.delivered,
                "rejected": one.sent.rejected,
                "problem": one.sent.problem,
            }
            for one in logs.shippers
        ],
        "logsWaiting": logs.waiting,
        "metricsExporters": [
            {
                "name": one.name,
                "delivered": one.sent.delivered,
                "rejected": one.sent.rejected,
                "problem": one.sent.problem,
            }
            for one in metrics.shippers
        ],
        "metricsWaiting": metrics.waiting,
        "status": status,
        "staticPods": None
        if static is None
        else {
            "path": str(static.folder),
            "objects": len(static.objects),
            "problems": static.problems,
        },
    }
