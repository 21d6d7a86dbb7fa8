"""Pages of metrics for tests: a machine in a folder, a page read by Prometheus' own parsers, promtool."""

import gzip
import http.client
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edgeagent.api.metrics import MetricFamily
from edgeagent.api.usage import NodeUsage
from edgeagent_metrics.collectors import NodeMetrics
from edgeagent_metrics.config import MetricsConfig
from edgeagent_metrics.exposition import Format, render

NOTHING = NodeUsage(node="n1", time=1_700_000_000.0, monotonic=5.0)
ACCEPT: dict[Format, str] = {
    "text": "text/plain",
    "openmetrics": "application/openmetrics-text;version=1.0.0",
}
Values = dict[frozenset[tuple[str, str]], float]


def machine(root: Path, files: Mapping[str, str]) -> Path:
    """A root with these files; a value that begins with ``->`` makes a symbolic link."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text.removeprefix("->"))
        else:
            path.write_text(text)
    return root


def collected(
    root: Path | str = "", usage: NodeUsage = NOTHING, *, only: Iterable[str] = (), **config: object
) -> dict[str, MetricFamily]:
    """What the plugin has, by name; ``only``: the collectors that are on, where not all."""
    known = set(NodeMetrics(MetricsConfig()).names)
    off = sorted(known - set(only)) if only else []
    made = NodeMetrics(
        MetricsConfig(collectors_off=off, **config),  # type: ignore[arg-type]
        root=str(root),
        now=lambda: 1_700_000_000.5,
    )
    found = {family.name: family for family in made.collect(usage)}
    success = values(found["node_scrape_collector_success"])
    failed = [dict(labels)["collector"] for labels, value in success.items() if not value]
    assert failed == [], f"collectors failed: {failed}"
    return {name: family for name, family in found.items() if not name.startswith("node_scrape_")}


def values(family: MetricFamily) -> Values:
    """The samples by their labels, each of which is there once."""
    found = {frozenset(sample.labels.items()): sample.value for sample in family.samples}
    assert len(found) == len(family.samples)
    return found


def labelled(**labels: str) -> frozenset[tuple[str, str]]:
    """The key of a sample in ``values``."""
    return frozenset(labels.items())


def parsed(page: str, format: Format) -> dict[str, Metric]:
    """What Prometheus' own parser makes of the page, by name with ``_total``; OpenMetrics' is strict."""
    parse = parse_openmetrics if format == "openmetrics" else parse_text
    found = {}
    for metric in parse(page):
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert name not in found, f"{name} is there twice"
        found[name] = metric
    return found


def rendered(families: Iterable[MetricFamily], format: Format) -> dict[str, Metric]:
    """The families written down and read back."""
    return parsed(render(families, format).decode(), format)


def lint(page: str) -> set[str]:
    """What ``promtool check metrics`` finds, a line each; AssertionError where the page is none."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False
    )
    findings = {line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()}
    assert done.returncode in (0, 3), findings
    return findings


def fetch(
    port: int,
    path: str = "/metrics",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and (uncompressed) text of an answer."""
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(host, port, timeout=30)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=30, context=tls)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        body = answer.read()
        found = dict(answer.getheaders())
        if found.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return answer.status, found, body.decode()
    finally:
        connection.close()


def page_of(port: int, format: Format = "text") -> str:
    """The whole page."""
    status, _, page = fetch(port, headers={"Accept": ACCEPT[format], "Accept-Encoding": "gzip"})
    assert status == 200, page
    return page


def value(page: str, name: str, **labels: str) -> float:
    """Of the one sample with all these labels, and perhaps others."""
    found = [
        sample.value
        for metric in parsed(page, "text").values()
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return float(found[0])


def expressions(dashboard: Any) -> list[str]:
    """All that the panels ask for."""
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
