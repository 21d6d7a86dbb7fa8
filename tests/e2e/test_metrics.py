"""Metrics on real parts: Debian's Prometheus scrapes an agent that runs pods for a hub.

What the dashboard and the alert rules in ``examples`` ask for is held against what there is.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from edgeagent_metrics.exposition import Format
from tests.plugins.metrics.metricskit import (
    collected,
    expressions,
    lint,
    machine,
    page_of,
    parsed,
    value,
)
from tests.plugins.metrics.test_boards import GATEWAY, RASPBERRY
from tests.plugins.metrics.test_containers import FOUND as CONTAINERS
from tests.support.broker import tls_material
from tests.support.cluster import Cluster, container, pod
from tests.support.podman import PodmanService
from tests.support.proc import free_port
from tests.support.prometheus import Prometheus
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

NODE = "n1"
ACCEPT: dict[Format, str] = {
    "text": "text/plain",
    "openmetrics": "application/openmetrics-text;version=1.0.0",
}
NAME = re.compile(r"\b(?:up|(?:node|container|machine|kubelet|process|edgeagent)_\w+)\b")
OFFLINE = {"edgeagent_spool_bytes", "edgeagent_spool_dropped_items_total", "edgeagent_log_sink_ok"}
"""What there is only where telemetry is sent somewhere."""


@pytest.fixture(scope="module")
def port() -> int:
    """Where the agent's metrics are."""
    return free_port()


@pytest.fixture(scope="module")
def cluster(
    podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[Cluster]:
    """A cluster whose one node runs a pod and is connected."""
    podman_service.start()
    with Cluster(tmp_path_factory.mktemp("metrics"), podman_service) as made:
        made.add_node(NODE, extra=f'[plugins.metrics]\nlisten = "127.0.0.1:{port}"\n').start()
        limits = {"cpu": "500m", "memory": "64Mi"}
        busy = container("busy", ["sh", "-c", "while :; do :; done"], resources={"limits": limits})
        made.apply(pod("till", NODE, [busy, container("idle", ["sleep", "3600"])]))
        made.wait_phase("till", "Running")
        yield made
    podman_service.kill_all_containers()


@pytest.mark.installed
def test_prometheus_scrapes_the_agent(cluster: Cluster, port: int, tmp_path: Path) -> None:
    with Prometheus(tmp_path / "prometheus", scrape=f"127.0.0.1:{port}") as prometheus:
        prometheus.wait_ready()
        wait_for(lambda: set(prometheus.now("up").values()) == {1.0}, 30, "the target to be up")
        wait_for(lambda: prometheus.now('rate(container_cpu_usage_seconds_total{container="busy"}[10s])'), 30,
                 "two scrapes")  # fmt: skip
        (samples,) = prometheus.now("scrape_samples_scraped").values()
        assert samples > 300
        names = prometheus.names()
        assert {
            "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_filesystem_avail_bytes",
            "node_load1", "machine_cpu_cores", "container_memory_working_set_bytes", "kubelet_running_pods",
            "container_cpu_cfs_throttled_periods_total", "container_start_time_seconds", "process_open_fds",
            "edgeagent_build_info", "edgeagent_pod_reconcile_duration_seconds_bucket",
            "edgeagent_lane_calls_total", "edgeagent_mqtt_connected", "edgeagent_outbox_bytes",
        } <= names  # fmt: skip
        one = json.loads(next(iter(prometheus.now('container_memory_rss{container="busy"}'))))
        assert (one["namespace"], one["pod"]) == ("default", "till")
        assert one["image"].startswith("localhost/busybox")
        wait_for(
            lambda: prometheus.now('container_cpu_cfs_throttled_periods_total{container="busy"} > 0'),
            30,
            "the quota of half a core to be used up",
        )
        types = prometheus.types()
        assert types["node_load1"] == types["container_memory_rss"] == "gauge"
        assert types["edgeagent_pod_reconcile_duration_seconds"] == "histogram"
        assert types["node_vmstat_pgfault"] == "unknown"


@pytest.mark.parametrize("format", get_args(Format))
def test_the_page_is_one_by_prometheus_own_judgement(cluster: Cluster, port: int, format: Format) -> None:
    """Names in camelCase, which are node_exporter's, and one of cAdvisor's are all that promtool minds."""
    page = page_of(port, format)
    assert len(parsed(page, format)) > 150
    if format == "text":
        findings = lint(page)
        minded = {line for line in findings if not re.match(r"node_memory_\w+ .* 'snake_case'", line)}
        assert minded == {'container_memory_failcnt counter metrics should have "_total" suffix'}
        assert len(findings) > 10


def test_what_the_agent_says_of_itself(cluster: Cluster, port: int) -> None:
    page = page_of(port)
    assert value(page, "edgeagent_node_condition", condition="Ready") == 1
    assert value(page, "edgeagent_mqtt_connected") == 1
    assert value(page, "edgeagent_mqtt_connections_total") == 1
    assert value(page, "edgeagent_mqtt_sent_bytes_total") > 500
    assert value(page, "edgeagent_mqtt_received_bytes_total") > 500
    generation = value(page, "edgeagent_observed_generation")
    assert generation == value(page, "edgeagent_desired_generation") > 0
    assert value(page, "edgeagent_sync_lag_seconds") == 0
    assert value(page, "edgeagent_pods", phase="Running") == 1
    assert value(page, "edgeagent_container_restarts_total", container="busy") == 0
    assert value(page, "edgeagent_plugin_state", plugin="podman", state="Running") == 1
    assert value(page, "edgeagent_lane_calls_total", plugin="podman") > 5
    assert value(page, "edgeagent_lane_faults_total", plugin="podman") == 0
    assert value(page, "edgeagent_collector_success", plugin="metrics") == 1
    assert value(page, "edgeagent_pod_reconcile_duration_seconds_count") > 2
    assert value(page, "edgeagent_outbox_budget_bytes", **{"class": "events"}) == 1_000_000
    assert value(page, "process_resident_memory_bytes") > 10e6
    assert value(page, "kubelet_running_pods") == 1
    assert value(page, "kubelet_running_containers") == 2
    assert value(page, "container_spec_memory_limit_bytes", container="busy") == 64 << 20
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": {}})
    cluster.apply(pod("second", NODE, [container("main", ["true"])], restartPolicy="Never"))
    wait_for(lambda: value(page_of(port), "edgeagent_pods", phase="Succeeded") == 1, 30, "the pod to end")
    assert value(page_of(port), "edgeagent_observed_generation") > generation


def test_a_restart_of_a_container_is_counted(cluster: Cluster, port: int) -> None:
    cluster.apply(pod("crashing", NODE, [container("main", ["sh", "-c", "sleep 0.2; exit 3"])]))
    wait_for(
        lambda: (
            "crashing" in page_of(port)
            and value(page_of(port), "edgeagent_container_restarts_total", pod="crashing") >= 1
        ),
        30,
        "a restart",
    )
    cluster.ctl("delete", "pod", "crashing")


def test_an_index_that_is_none_is_seen(cluster: Cluster, port: int) -> None:
    """Whoever owns the broker can put one there; the state before it stays in force."""
    generation = value(page_of(port), "edgeagent_observed_generation")
    cluster.publish(f"nodes/{NODE}/desired", b"\x00no index")
    name = "edgeagent_sync_failures_total"
    wait_for(lambda: name in page_of(port), 30, "the refusal to be counted")
    page = page_of(port)
    assert value(page, "edgeagent_sync_lag_seconds") > 0
    assert value(page, "edgeagent_node_condition", condition="DesiredStateInForce") == 0
    assert value(page, "edgeagent_observed_generation") == generation
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {}})
    cluster.apply(pod("third", NODE, [container("main", ["true"])], restartPolicy="Never"))
    wait_for(lambda: value(page_of(port), "edgeagent_sync_lag_seconds") == 0, 30, "a good index")
    assert value(page_of(port), "edgeagent_observed_generation") > generation


def test_a_lost_broker_is_seen(cluster: Cluster, port: int) -> None:
    before = page_of(port)
    cluster.broker.terminate()
    wait_for(lambda: value(page_of(port), "edgeagent_mqtt_connected") == 0, 30, "the session to be lost")
    lost = page_of(port)
    assert value(lost, "edgeagent_node_condition", condition="Connected") == 0
    sent = "edgeagent_mqtt_sent_bytes_total"
    assert value(lost, sent) >= value(before, sent), "what a lost connection carried still counts"
    cluster.start_broker()
    wait_for(lambda: value(page_of(port), "edgeagent_mqtt_connections_total") == 2, 60, "a new session")
    assert value(page_of(port), sent) > value(lost, sent)


def test_over_mutual_tls_with_an_operators_certificate(cluster: Cluster, tmp_path: Path) -> None:
    """The cluster's CA vouches for Prometheus; what the node shows is from another."""
    shown, number = tls_material(tmp_path / "shown"), free_port()
    extra = (
        f'[plugins.metrics]\nlisten = "127.0.0.1:{number}"\n[plugins.metrics.tls]\n'
        f'certificate_file = "{shown.server.cert}"\nkey_file = "{shown.server.key}"\n'
    )
    node = cluster.add_node("n2", extra=extra)
    node.process.start()
    try:
        operator = json.loads((cluster.hub_dir / "operator.json").read_text())
        (tmp_path / "client.crt").write_text(operator["certificate"])
        (tmp_path / "client.key").write_text(operator["privateKey"])
        tls = {
            "ca_file": str(shown.ca.cert),
            "cert_file": str(tmp_path / "client.crt"),
            "key_file": str(tmp_path / "client.key"),
        }
        with Prometheus(tmp_path / "prometheus", scrape=f"127.0.0.1:{number}", tls=tls) as prometheus:
            prometheus.wait_ready()
            wait_for(lambda: set(prometheus.now("up").values()) == {1.0}, 30, "the target to be up")
            assert "edgeagent_build_info" in prometheus.names()
    finally:
        node.process.terminate()


# What examples/ ask for


def exported(page: str, tmp_path: Path) -> set[str]:
    """Names on the page, and those that only other machines and containers have."""
    boards = [
        collected(machine(tmp_path / "pi", RASPBERRY), only=["hwmon", "thermal_zone", "cpufreq"]),
        collected(machine(tmp_path / "gateway", GATEWAY), only=["hwmon", "cpu"]),
    ]
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    suffixed = {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if line[:1] != "#"}
    return names | suffixed | {name for found in (*boards, CONTAINERS) for name in found}


@pytest.mark.parametrize("example", ["grafana/edgeagent-node.json", "prometheus/edgeagent-alerts.yml"])
def test_all_that_the_examples_ask_for_is_exported(
    cluster: Cluster, port: int, checkout: Path, tmp_path: Path, example: str
) -> None:
    text = (checkout / "examples" / example).read_text()
    if example.endswith(".json"):
        text = "\n".join(expressions(json.loads(text)))
    else:
        text = "\n".join(re.sub(r"#.*", "", line) for line in text.splitlines() if "annot" not in line)
        text = re.sub(r"(?m)^\s+(summary|description):.*$", "", text)
    asked = set(NAME.findall(text)) - {"up"}
    assert asked - exported(page_of(port), tmp_path) - OFFLINE == set()
    assert len(asked) > 25
