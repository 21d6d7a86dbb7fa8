"""Containers under cAdvisor's names: each on its list, with its type and kubelet's labels."""

from pathlib import Path
from typing import get_args

import pytest

from edgeagent.api.usage import (
    ContainerUsage,
    CpuUsage,
    DeviceUsage,
    InterfaceUsage,
    MachineUsage,
    MemoryUsage,
    NodeUsage,
    PidsUsage,
    PodUsage,
)
from edgeagent_metrics.exposition import Format, render
from tests.plugins.metrics.metricskit import collected, labelled, lint, rendered, values

_LIST = Path(__file__).parents[2] / "data/cadvisor-metrics.txt"
CADVISOR: dict[str, str] = dict(
    line.split() for line in _LIST.read_text().splitlines() if not line.startswith("#")
)
CONTAINER = ContainerUsage(
    namespace="shop", pod="till", uid="u1", container="main", id="c1", image="example.com/till:1",
    labels={"app": "till"}, pid=1, started_at=1_699_999_000.5, restarts=2,
    cpu=CpuUsage(usage=1.5, user=1.0, system=0.5, periods=10, throttled_periods=3, throttled=0.25),
    memory=MemoryUsage(
        usage=100, working_set=80, rss=60, cache=30, swap=5, limit=200, failures=7, oom_kills=1,
        page_faults=11, major_page_faults=2,
    ),
    pids=PidsUsage(current=4, limit=100),
    io=[DeviceUsage(device="mmcblk0", read_bytes=1, written_bytes=2, reads=3, writes=4)],
)  # fmt: skip
BARE = ContainerUsage(
    namespace="shop", pod="bare", uid="u2", container="main", id="c2", cpu=CpuUsage(usage=2.0),
    memory=MemoryUsage(usage=10, working_set=10), pids=PidsUsage(current=1),
)  # fmt: skip
ENDED = ContainerUsage(namespace="shop", pod="bare", uid="u2", container="done", id="c3")
NETWORK = InterfaceUsage(
    interface="eth0", received_bytes=1, received_packets=2, received_errors=3, received_drops=4, sent_bytes=5,
    sent_packets=6, sent_errors=7, sent_drops=8,
)  # fmt: skip
USAGE = NodeUsage(
    node="n1",
    time=1_700_000_000.0,
    monotonic=5.0,
    machine=MachineUsage(
        cpu=CpuUsage(usage=9.0, user=6.0, system=3.0), memory=MemoryUsage(usage=900, working_set=700)
    ),
    pods=[
        PodUsage(namespace="shop", pod="till", uid="u1", containers=[CONTAINER], network=[NETWORK]),
        PodUsage(namespace="shop", pod="bare", uid="u2", containers=[BARE, ENDED]),
    ],
)
FOUND = collected("/", USAGE, only=["containers", "kubelet", "machine"])
LABELS = {
    "container": "main", "id": "/kubepods/podu1/c1", "image": "example.com/till:1", "name": "c1",
    "namespace": "shop", "pod": "till",
}  # fmt: skip
BARE_LABELS = {**LABELS, "id": "/kubepods/podu2/c2", "image": "", "name": "c2", "pod": "bare"}
MACHINE = {"container": "", "id": "/", "image": "", "name": "", "namespace": "", "pod": ""}


def test_every_name_is_on_cadvisors_list_with_its_type() -> None:
    for name, family in FOUND.items():
        if not name.startswith("kubelet_"):
            assert CADVISOR[name] == family.type, name
    assert len([name for name in FOUND if name.startswith("container_")]) >= 30


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("container_cpu_user_seconds_total", 1.0),
        ("container_cpu_system_seconds_total", 0.5),
        ("container_cpu_cfs_periods_total", 10),
        ("container_cpu_cfs_throttled_periods_total", 3),
        ("container_cpu_cfs_throttled_seconds_total", 0.25),
        ("container_memory_usage_bytes", 100),
        ("container_memory_working_set_bytes", 80),
        ("container_memory_rss", 60),
        ("container_memory_cache", 30),
        ("container_memory_swap", 5),
        ("container_memory_failcnt", 7),
        ("container_oom_events_total", 1),
        ("container_spec_memory_limit_bytes", 200),
        ("container_start_time_seconds", 1_699_999_000.5),
        ("container_last_seen", 1_700_000_000.0),
        ("container_threads", 4),
        ("container_threads_max", 100),
    ],
)
def test_what_a_container_uses(name: str, value: float) -> None:
    assert values(FOUND[name])[labelled(**LABELS)] == value


def test_labels_beside_the_usual_ones() -> None:
    assert values(FOUND["container_cpu_usage_seconds_total"])[labelled(**LABELS, cpu="total")] == 1.5
    failures = values(FOUND["container_memory_failures_total"])
    assert failures[labelled(**LABELS, failure_type="pgfault", scope="hierarchy")] == 11
    assert failures[labelled(**LABELS, failure_type="pgmajfault", scope="hierarchy")] == 2
    for name, value in (("reads_bytes", 1), ("writes_bytes", 2), ("reads", 3), ("writes", 4)):
        found = values(FOUND[f"container_fs_{name}_total"])
        assert found == {labelled(**LABELS, device="/dev/mmcblk0"): value}


def test_the_network_is_the_pods() -> None:
    labels = {
        "container": "POD", "id": "/kubepods/podu1", "image": "", "interface": "eth0", "name": "u1",
        "namespace": "shop", "pod": "till",
    }  # fmt: skip
    for name, value in (
        ("receive_bytes", 1), ("receive_packets", 2), ("receive_errors", 3), ("receive_packets_dropped", 4),
        ("transmit_bytes", 5), ("transmit_packets", 6), ("transmit_errors", 7),
        ("transmit_packets_dropped", 8),
    ):  # fmt: skip
        assert values(FOUND[f"container_network_{name}_total"]) == {labelled(**labels): value}


def test_what_was_not_counted_is_not_there() -> None:
    """Rather than a zero; but no limit is zero, in cAdvisor's words."""
    assert values(FOUND["container_spec_memory_limit_bytes"])[labelled(**BARE_LABELS)] == 0
    assert values(FOUND["container_threads_max"])[labelled(**BARE_LABELS)] == 0
    for name in ("container_memory_rss", "container_oom_events_total", "container_cpu_cfs_periods_total"):
        assert labelled(**BARE_LABELS) not in values(FOUND[name])
    assert all(
        sample.labels["name"] != "c3"
        for one in FOUND.values()
        for sample in one.samples
        if "name" in sample.labels
    )


def test_the_machine_is_the_root() -> None:
    assert values(FOUND["container_cpu_usage_seconds_total"])[labelled(**MACHINE, cpu="total")] == 9.0
    assert values(FOUND["container_memory_working_set_bytes"])[labelled(**MACHINE)] == 700


def test_kubelets_own() -> None:
    assert values(FOUND["kubelet_node_name"]) == {labelled(node="n1"): 1}
    assert values(FOUND["kubelet_running_pods"]) == {labelled(): 2}
    assert values(FOUND["kubelet_running_containers"]) == {labelled(container_state="running"): 3}


def test_promtool_minds_one_name_which_is_cadvisors() -> None:
    found = lint(render(FOUND.values(), "text").decode())
    assert found == {'container_memory_failcnt counter metrics should have "_total" suffix'}


@pytest.mark.parametrize("format", get_args(Format))
def test_all_of_it_can_be_read(format: Format) -> None:
    assert len(rendered(FOUND.values(), format)) == len(FOUND)
