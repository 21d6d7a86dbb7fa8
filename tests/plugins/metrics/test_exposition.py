"""Pages as text: whatever is on them, Prometheus' own parsers read back what was written."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric

from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent_metrics.exposition import Format, render
from tests.plugins.metrics.metricskit import lint, rendered

FORMATS: tuple[Format, ...] = get_args(Format)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
label_names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,10}", fullmatch=True)
numbers = st.one_of(st.integers(-(2**63), 2**63), st.floats())
label_sets = st.dictionaries(label_names, texts, max_size=4)


def sample_values(metric: Metric) -> list[tuple[str, dict[str, str], float]]:
    return [(sample.name, sample.labels, sample.value) for sample in metric.samples]


@pytest.mark.parametrize("format", FORMATS)
@given(help=texts, samples=st.lists(st.tuples(label_sets, numbers), min_size=1, max_size=5, unique_by=str))
def test_what_is_written_is_read_back(
    format: Format, help: str, samples: list[tuple[dict[str, str], float]]
) -> None:
    unique = {frozenset(labels.items()): (labels, value) for labels, value in samples}
    family = MetricFamily(
        "some_metric", "gauge", help, [Sample(value, lab) for lab, value in unique.values()]
    )
    found = rendered([family], format)["some_metric"]
    for (name, labels, value), (_, wanted) in zip(sample_values(found), unique.values(), strict=True):
        assert name == "some_metric"
        assert float(value) == float(wanted) or (math.isnan(value) and math.isnan(wanted))
        assert labels in [lab for lab, _ in unique.values()]
    if "\r" not in help and help == " ".join(help.split()):
        assert found.documentation == help


@pytest.mark.parametrize("format", FORMATS)
def test_what_stands_for_numbers_that_are_none(format: Format) -> None:
    samples = [Sample(math.inf, {"a": "1"}), Sample(-math.inf, {"a": "2"}), Sample(math.nan, {"a": "3"})]
    page = render([MetricFamily("odd", "gauge", "Odd.", samples)], format).decode()
    assert 'odd{a="1"} +Inf\nodd{a="2"} -Inf\nodd{a="3"} NaN\n' in page


def test_a_counter_in_both_formats() -> None:
    family = MetricFamily(
        "things_total", "counter", 'Things, "so" called.', [Sample(3, {"kind": 'a"b\\c\nd'})]
    )
    assert render([family], "text").decode() == (
        '# HELP things_total Things, "so" called.\n'
        "# TYPE things_total counter\n"
        'things_total{kind="a\\"b\\\\c\\nd"} 3\n'
    )
    assert render([family], "openmetrics").decode() == (
        '# HELP things Things, \\"so\\" called.\n'
        "# TYPE things counter\n"
        'things_total{kind="a\\"b\\\\c\\nd"} 3\n'
        "# EOF\n"
    )


def test_a_counter_of_another_name_is_no_counter_in_openmetrics() -> None:
    """As Prometheus' own library for Go has it: OpenMetrics knows counters by ``_total`` alone."""
    family = MetricFamily("container_memory_failcnt", "counter", "Hits.", [Sample(3)])
    assert "# TYPE container_memory_failcnt counter\n" in render([family], "text").decode()
    assert "# TYPE container_memory_failcnt unknown\n" in render([family], "openmetrics").decode()
    assert rendered([family], "openmetrics")["container_memory_failcnt"].type == "unknown"


@pytest.mark.parametrize("format", FORMATS)
def test_a_histogram(format: Format) -> None:
    buckets = [Sample(1, {"le": "0.5"}, "_bucket"), Sample(2, {"le": "+Inf"}, "_bucket")]
    family = MetricFamily(
        "wait_seconds", "histogram", "Waits.", [*buckets, Sample(7.5, {}, "_sum"), Sample(2, {}, "_count")]
    )
    found = rendered([family], format)["wait_seconds"]
    assert found.type == "histogram"
    assert sample_values(found) == [
        ("wait_seconds_bucket", {"le": "0.5"}, 1),
        ("wait_seconds_bucket", {"le": "+Inf"}, 2),
        ("wait_seconds_sum", {}, 7.5),
        ("wait_seconds_count", {}, 2),
    ]
    if format == "text":
        assert lint(render([family], format).decode()) == set()


def test_a_time_is_in_the_units_of_the_format() -> None:
    family = MetricFamily("old", "unknown", "Old.", [Sample(1.5, {}, "", 1_700_000_000.25)])
    assert "old 1.5 1700000000250\n" in render([family], "text").decode()
    assert "# TYPE old untyped\n" in render([family], "text").decode()
    assert "old 1.5 1700000000.25\n" in render([family], "openmetrics").decode()


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_no_unicode_is_replaced(format: Format) -> None:
    family = MetricFamily("odd", "gauge", "Odd.", [Sample(1, {"path": "/mnt/\udcff"})])
    (sample,) = rendered([family], format)["odd"].samples
    assert sample.labels == {"path": "/mnt/?"}
