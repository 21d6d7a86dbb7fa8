"""What the agent says of its metrics on their way."""

from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent.node.telemetry.families import counter, gauge
from edgeagent.node.telemetry.metricflow import MetricFlow


def export_families(flow: MetricFlow) -> list[MetricFamily]:
    """None while metrics go nowhere."""
    queue, sampler = flow.queue, flow.sampler
    if queue is None or sampler is None:
        return []
    sent = [({"exporter": shipper.name}, shipper.sent) for shipper in flow.shippers]
    return [
        counter(
            "edgeagent_metrics_delivered_series_total",
            "Series that arrived, counted once a batch.",
            [Sample(one.delivered, labels) for labels, one in sent],
        ),
        counter(
            "edgeagent_metrics_rejected_series_total",
            "Series of which the receiver will never take something, counted once a batch.",
            [Sample(one.rejected, labels) for labels, one in sent],
        ),
        counter(
            "edgeagent_metrics_retries_total",
            "How often something had to be sent again.",
            [Sample(one.retries, labels) for labels, one in sent],
        ),
        gauge(
            "edgeagent_metrics_exporter_up",
            "Whether what was sent last arrived.",
            [Sample(float(not one.problem), labels) for labels, one in sent],
        ),
        gauge(
            "edgeagent_metrics_delivered_timestamp_seconds",
            "When the newest metrics that arrived were gathered.",
            [Sample(one.latest, {"exporter": one.name}) for one in flow.shippers if one.latest],
        ),
        gauge(
            "edgeagent_metrics_memory_samples",
            "Samples that are in memory alone.",
            [Sample(queue.in_memory)],
        ),
        counter(
            "edgeagent_metrics_left_out_samples_total",
            "Samples that were gathered and are not sent on.",
            [Sample(count, {"reason": reason}) for reason, count in sorted(queue.left_out.items())],
        ),
        counter(
            "edgeagent_metrics_dropped_gatherings_total",
            "Gatherings that were lost before they arrived, but for those that the budget cost.",
            [Sample(count, {"reason": reason}) for reason, count in sorted(queue.dropped.items())],
        ),
        counter(
            "edgeagent_metrics_missed_gatherings_total",
            "How often nothing could be gathered when it was time.",
            [Sample(sampler.missed)],
        ),
    ]
