"""What clients ask for in headers, as real ones write them."""

import pytest

from edgeagent_metrics.negotiation import patience, wanted_format, wants_gzip

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", "text"),
        ("*/*", "text"),
        (PROMETHEUS_2, "openmetrics"),
        (PROMETHEUS_3, "openmetrics"),
        ("text/plain", "text"),
        ("application/openmetrics-text", "openmetrics"),
        ("application/openmetrics-text; version=2.0.0, text/plain;q=0.1", "text"),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", "openmetrics"),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.7", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text"),
        (";;,=,q=,application/openmetrics-text;q=x", "openmetrics"),
    ],
)
def test_the_format(accept: str, format: str) -> None:
    assert wanted_format(accept) == format


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("identity", False),
        ("GZip", True),
    ],
)
def test_compression(accept: str, wanted: bool) -> None:
    assert wants_gzip(accept) is wanted


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("10", 9.5),
        ("0.5", 0.25),
        ("3600", 59.5),
        ("", 10),
        ("nan", 9.5),
        ("-1", 9.5),
        ("0", 9.5),
        ("soon", 10),
    ],
)
def test_how_long_collecting_may_take(header: str, seconds: float) -> None:
    assert patience(header) == seconds
