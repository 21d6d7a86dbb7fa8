"""The metrics of this machine beside those of a real node_exporter, in the same moment.

Two scrapes of node_exporter stand around a collection of ours: a counter of ours must lie between theirs, and
a gauge that was the same twice must be the same here too.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from edgeagent.api.metrics import MetricFamily
from edgeagent_metrics.config import MetricsConfig
from edgeagent_metrics.exposition import render
from tests.plugins.metrics.metricskit import collected, fetch, lint, parsed, rendered, values
from tests.support.proc import Process, free_port, port_answers

PROGRAM = "prometheus-node-exporter"
OURS_ALONE = frozenset({"kubelet", "machine"})
"""What our names begin with that node_exporter never has."""
ROUNDING = 1e-6


@dataclass(frozen=True)
class Sandwich:
    """What node_exporter said before and after we collected."""

    before: dict[str, Metric]
    after: dict[str, Metric]
    page: str
    ours: dict[str, MetricFamily]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Sandwich:
    """Both, with the same devices and file systems left out."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    port, config = free_port(), MetricsConfig()
    process = Process(
        [
            PROGRAM, f"--web.listen-address=127.0.0.1:{port}",
            f"--collector.netdev.device-exclude={config.network_devices_ignored}",
            f"--collector.netclass.ignored-devices={config.network_devices_ignored}",
            f"--collector.diskstats.device-exclude={config.disk_devices_ignored}",
            f"--collector.filesystem.mount-points-exclude={config.mount_points_ignored}",
            f"--collector.filesystem.fs-types-exclude={config.filesystem_types_ignored}",
        ],
        log=tmp_path_factory.mktemp("node-exporter") / "log",
    )  # fmt: skip
    process.start()
    try:
        process.wait_until(lambda: port_answers(port), what="listening")
        before = fetch(port)[2]
        ours = collected()
        after = fetch(port)[2]
    finally:
        process.terminate()
    return Sandwich(parsed(before, "text"), parsed(after, "text"), before, ours)


def test_there_is_what_dashboards_look_for(seen: Sandwich) -> None:
    wanted = {
        "node_cpu_seconds_total", "node_load1", "node_memory_MemTotal_bytes",
        "node_memory_MemAvailable_bytes",
        "node_filesystem_avail_bytes", "node_filesystem_files_free", "node_disk_io_time_seconds_total",
        "node_network_receive_bytes_total", "node_network_up", "node_boot_time_seconds", "node_uname_info",
        "node_vmstat_pgmajfault", "node_time_seconds", "node_os_info", "node_filefd_allocated",
        "node_context_switches_total",
    }  # fmt: skip
    if Path("/proc/pressure/cpu").exists():
        wanted |= {"node_pressure_cpu_waiting_seconds_total", "node_pressure_memory_stalled_seconds_total"}
    assert wanted <= seen.ours.keys()


def test_type_help_and_labels_are_node_exporters(seen: Sandwich) -> None:
    theirs = seen.before
    compared = 0
    for name, family in seen.ours.items():
        if name.partition("_")[0] in OURS_ALONE:
            continue
        assert name in theirs, f"node_exporter on this machine has no {name}"
        metric = theirs[name]
        assert (family.type, family.help) == (metric.type, metric.documentation), name
        our_labels = {frozenset(sample.labels) for sample in family.samples}
        assert our_labels == {frozenset(sample.labels) for sample in metric.samples}, name
        compared += 1
    assert compared > 100


def test_counters_lie_between_theirs(seen: Sandwich) -> None:
    compared = 0
    for name, family in seen.ours.items():
        if family.type not in ("counter", "unknown") or name.partition("_")[0] in OURS_ALONE:
            continue
        before = {frozenset(s.labels.items()): s.value for s in seen.before[name].samples}
        after = {frozenset(s.labels.items()): s.value for s in seen.after[name].samples}
        for labels, value in values(family).items():
            if labels in before and labels in after:
                low, high = before[labels] - ROUNDING, after[labels] + ROUNDING
                assert low <= value <= high, (name, dict(labels))
                compared += 1
    assert compared > 100


def test_gauges_that_stood_still_are_the_same(seen: Sandwich) -> None:
    compared = 0
    for name, family in seen.ours.items():
        if family.type != "gauge" or name.partition("_")[0] in OURS_ALONE:
            continue
        before = {frozenset(s.labels.items()): s.value for s in seen.before[name].samples}
        after = {frozenset(s.labels.items()): s.value for s in seen.after[name].samples}
        for labels, value in values(family).items():
            if labels in before and before[labels] == after.get(labels):
                if name in ("node_procs_running", "node_filefd_allocated"):
                    continue  # may have been different in between
                assert value == pytest.approx(before[labels]), (name, dict(labels))
                compared += 1
    assert compared > 60


def test_devices_are_the_same(seen: Sandwich) -> None:
    """Also those that have nothing to tell: what is left out is left out by both."""
    for name in ("node_disk_io_now", "node_network_up", "node_network_receive_bytes_total"):
        theirs = {frozenset(s.labels.items()) for s in seen.before[name].samples}
        assert values(seen.ours[name]).keys() == theirs, name


def test_promtool_finds_nothing_that_is_not_in_node_exporters_own_names(seen: Sandwich) -> None:
    found = lint(render(seen.ours.values(), "text").decode())
    assert found <= lint(seen.page)
    assert all("snake_case" in line for line in found)
    rendered(seen.ours.values(), "openmetrics")
