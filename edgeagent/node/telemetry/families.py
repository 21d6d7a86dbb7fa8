"""Short ways to write metric families down. One without samples is left out by who puts a page together."""

from collections.abc import Sequence

from edgeagent.api.metrics import MetricFamily, MetricType, Sample
from edgeagent.node.histogram import Histogram


def gauge(name: str, help: str, samples: float | Sequence[Sample]) -> MetricFamily:
    """What goes up and down: one number, or samples with labels."""
    return _family(name, "gauge", help, samples)


def counter(name: str, help: str, samples: float | Sequence[Sample]) -> MetricFamily:
    """What only rises, until the agent restarts."""
    return _family(name, "counter", help, samples)


def histogram(name: str, help: str, counts: Histogram) -> MetricFamily:
    """How often something took how long."""
    buckets = counts.cumulative()
    samples = [Sample(count, {"le": _bound(bound)}, "_bucket") for bound, count in buckets]
    total = [Sample(counts.sum, {}, "_sum"), Sample(buckets[-1][1], {}, "_count")]
    return MetricFamily(name, "histogram", help, samples + total)


def _family(name: str, kind: MetricType, help: str, samples: float | Sequence[Sample]) -> MetricFamily:
    found = [Sample(samples)] if isinstance(samples, int | float) else list(samples)
    return MetricFamily(name, kind, help, found)


def _bound(bound: float) -> str:
    """As Prometheus writes ``le``: https://prometheus.io/docs/specs/om/open_metrics_spec/#numbers"""
    return "+Inf" if bound == float("inf") else repr(float(bound))
