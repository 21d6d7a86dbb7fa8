"""The ``edgeagent_*`` metrics: what the agent knows of itself, read off its parts when somebody asks."""

import platform
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from edgeagent import __version__
from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.histogram import Histogram
from edgeagent.node.plugins.hosted import HostedPlugin
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.families import counter, gauge, histogram
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.process import process_families
from edgeagent.node.uplinkfigures import UplinkFigures

PHASES = ("Pending", "Running", "Succeeded", "Failed", "Unknown")
SPOOL_CLASSES = ("logs", "metrics")


class AgentParts(msgspec.Struct, frozen=True):
    """What is looked at. ``pods`` and ``passes`` are empty without a runtime, ``uplink`` answers None without
    a cluster, ``spool`` before something was kept there.
    """

    status: Callable[[], NodeStatus]
    plugins: Callable[[], Collection[HostedPlugin]]
    desired: DesiredState
    outbox: Outbox
    spool: Callable[[], Spool | None]
    logs: LogFlow
    pods: Callable[[], Sequence[tuple[Pod, PodStatus]]]
    passes: Histogram
    uplink: Callable[[], UplinkFigures | None]


def agent_families(parts: AgentParts) -> list[MetricFamily]:
    """All of them. To be called on the loop; asks nobody and waits for nothing."""
    status = parts.status()
    return [
        _build(),
        *process_families(),
        *_node(status),
        *_plugins(status, parts.plugins()),
        *_pods(parts.pods(), parts.passes),
        *_sync(parts.desired, parts.uplink()),
        *_outbox(parts.outbox),
        *_spool(parts.spool()),
        *_logs(parts.logs),
    ]


def _build() -> MetricFamily:
    labels = {"version": __version__, "python": platform.python_version()}
    return gauge("edgeagent_build_info", "Which agent this is; always 1.", [Sample(1, labels)])


def _node(status: NodeStatus) -> Iterable[MetricFamily]:
    yield gauge(
        "edgeagent_node_condition",
        "The conditions of the node's status: 1 for True, 0 for False.",
        [Sample(float(one.status == "True"), {"condition": one.type}) for one in status.conditions],
    )


def _plugins(status: NodeStatus, hosted: Collection[HostedPlugin]) -> Iterable[MetricFamily]:
    yield gauge(
        "edgeagent_plugin_state",
        "The state of each plugin that was found: 1 for the one that it is in.",
        [Sample(1, {"plugin": one.name, "state": one.state}) for one in status.plugins],
    )
    lanes = [({"plugin": one.name}, one, one.lane.load()) for one in hosted]
    yield gauge(
        "edgeagent_lane_queued_calls",
        "Calls that wait in the plugin's lane.",
        [Sample(load.queued, labels) for labels, _, load in lanes],
    )
    yield gauge(
        "edgeagent_lane_running_calls",
        "Calls that run in the plugin's lane.",
        [Sample(load.busy, labels) for labels, _, load in lanes],
    )
    yield gauge(
        "edgeagent_lane_abandoned_threads",
        "Threads of the plugin's lane that were given up because a call hangs in them.",
        [Sample(load.abandoned, labels) for labels, _, load in lanes],
    )
    yield counter(
        "edgeagent_lane_calls_total",
        "Calls that the plugin's lane was given.",
        [Sample(one.calls, labels) for labels, one, _ in lanes],
    )
    yield counter(
        "edgeagent_lane_faults_total",
        "Calls in which the plugin itself failed: an exception, a hang, a wrong answer, a full lane.",
        [Sample(one.faults, labels) for labels, one, _ in lanes],
    )


def _pods(pods: Sequence[tuple[Pod, PodStatus]], passes: Histogram) -> Iterable[MetricFamily]:
    counts = dict.fromkeys(PHASES, 0)
    restarts = []
    for pod, status in pods:
        counts[status.phase if status.phase in counts else "Unknown"] += 1
        for one in (*status.init_container_statuses, *status.container_statuses):
            labels = {
                "namespace": pod.metadata.namespace,
                "pod": pod.metadata.name,
                "uid": pod.metadata.uid,
                "container": one.name,
            }
            restarts.append(Sample(one.restart_count, labels))
    yield gauge(
        "edgeagent_pods",
        "Desired pods by phase.",
        [Sample(count, {"phase": phase}) for phase, count in counts.items()],
    )
    yield counter(
        "edgeagent_container_restarts_total",
        "How often the container was restarted, as in the pod's status.",
        restarts,
    )
    yield histogram(
        "edgeagent_pod_reconcile_duration_seconds",
        "How long one look at a pod took, with the steps that were waited for.",
        passes,
    )


def _sync(desired: DesiredState, uplink: UplinkFigures | None) -> Iterable[MetricFamily]:
    yield gauge(
        "edgeagent_observed_generation",
        "The generation of the desired state that is in force; 0 for none.",
        desired.generation,
    )
    if uplink is None:
        return
    yield gauge(
        "edgeagent_desired_generation",
        "The highest generation of an index that was signed for this node, as far as is known here.",
        max(uplink.newest_generation, desired.generation),
    )
    yield gauge(
        "edgeagent_sync_lag_seconds",
        "For how long an index from the hub has been waiting to be in force; 0 where none does.",
        uplink.sync_lag,
    )
    yield counter(
        "edgeagent_sync_failures_total",
        "How often an index could not be put in force, by the reason.",
        [Sample(count, {"reason": reason}) for reason, count in sorted(uplink.sync_failures.items())],
    )
    yield gauge(
        "edgeagent_mqtt_connected", "Whether there is a session with a broker.", float(uplink.connected)
    )
    yield counter(
        "edgeagent_mqtt_connections_total",
        "How often a broker has accepted the session.",
        uplink.connections,
    )
    yield counter(
        "edgeagent_mqtt_sent_bytes_total",
        "Bytes that brokers have acknowledged, with TLS, without the headers of TCP and below.",
        uplink.traffic.sent,
    )
    yield counter(
        "edgeagent_mqtt_received_bytes_total",
        "Bytes that came from brokers, with TLS, without the headers of TCP and below.",
        uplink.traffic.received,
    )


def _outbox(outbox: Outbox) -> Iterable[MetricFamily]:
    classes = [({"class": one.name}, one) for one in outbox.usage()]
    yield gauge(
        "edgeagent_outbox_bytes",
        "What waits for the broker on disk.",
        [Sample(one.bytes, labels) for labels, one in classes],
    )
    yield gauge(
        "edgeagent_outbox_budget_bytes",
        "What may wait for the broker on disk.",
        [Sample(one.budget, labels) for labels, one in classes],
    )
    yield gauge(
        "edgeagent_outbox_items",
        "How many items wait for the broker.",
        [Sample(one.items, labels) for labels, one in classes],
    )
    yield counter(
        "edgeagent_outbox_dropped_items_total",
        "Items that were lost because the budget was used up.",
        [Sample(one.dropped, labels) for labels, one in classes],
    )


def _spool(spool: Spool | None) -> Iterable[MetricFamily]:
    if spool is None:
        return
    classes = [({"class": name}, spool.held(name)) for name in SPOOL_CLASSES]
    yield gauge(
        "edgeagent_spool_bytes",
        "Telemetry that waits for its sinks on disk.",
        [Sample(one.bytes, labels) for labels, one in classes],
    )
    yield gauge(
        "edgeagent_spool_items",
        "Log records or collections of metrics that wait for their sinks on disk.",
        [Sample(one.items, labels) for labels, one in classes],
    )
    yield counter(
        "edgeagent_spool_dropped_items_total",
        "Telemetry that was lost because the budget was used up.",
        [Sample(spool.dropped[labels["class"]], labels) for labels, _ in classes],
    )


def _logs(logs: LogFlow) -> Iterable[MetricFamily]:
    yield counter(
        "edgeagent_log_records_total",
        "Log records that were read and kept.",
        [Sample(sum(one.kept for one in logs.followers))] if logs.followers else [],
    )
    dropped: dict[str, int] = {}
    for follower in logs.followers:
        for reason, count in follower.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    yield counter(
        "edgeagent_log_dropped_records_total",
        "Log records that were left out on purpose, by the reason.",
        [Sample(count, {"reason": reason}) for reason, count in sorted(dropped.items())],
    )
    sinks = [({"sink": one.name}, one.sent) for one in logs.shippers]
    yield counter(
        "edgeagent_log_sink_delivered_records_total",
        "Log records that the sink has taken.",
        [Sample(sent.delivered, labels) for labels, sent in sinks],
    )
    yield counter(
        "edgeagent_log_sink_rejected_records_total",
        "Log records that the sink will never take.",
        [Sample(sent.rejected, labels) for labels, sent in sinks],
    )
    yield counter(
        "edgeagent_log_sink_retries_total",
        "How often something had to be sent to the sink again.",
        [Sample(sent.retries, labels) for labels, sent in sinks],
    )
    yield gauge(
        "edgeagent_log_sink_ok",
        "Whether the sink takes log records at the moment, as far as is known.",
        [Sample(float(not sent.problem), labels) for labels, sent in sinks],
    )
