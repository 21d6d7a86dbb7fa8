"""What pods use, on a real Podman, as the node itself tells it: no hub is needed.

The figures are held against what the containers do: a quota that is used up, memory that is filled, bytes
that are sent.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.quantity import parse_quantity
from edgeagent.api.usage import InterfaceUsage
from edgeagent.node.usage.cgroups import container_cgroup
from edgeagent.node.usage.counters import cpu_usage, io_usage, memory_usage, pids_usage
from edgeagent.node.usage.interfaces import process_interfaces
from tests.support.lone import LoneAgent, static_pod
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

MIB = 1 << 20
METRICS = "/apis/metrics.k8s.io/v1beta1"


@pytest.fixture(scope="module")
def lone(podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent with a network for pods."""
    with LoneAgent(tmp_path_factory.mktemp("lone"), podman_service, name="usage") as agent:
        yield agent
        agent.clear()
        agent.assert_nothing_left()


def usage_of(metrics: dict[str, Any], container: str = "main") -> dict[str, float]:
    """In cores and bytes."""
    (found,) = [one["usage"] for one in metrics["containers"] if one["name"] == container]
    return {name: parse_quantity(text) for name, text in found.items()}


def test_top_is_what_the_containers_do(lone: LoneAgent) -> None:
    burn = ["sh", "-c", "while :; do :; done"]
    hold = ["sh", "-c", "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null; exec sleep 3600"]
    limits = {"limits": {"cpu": "250m", "memory": "64Mi"}}
    with lone.running(static_pod("busy", burn, hold, container={"resources": limits}, hostNetwork=False)):
        name = lone.full_name("busy")
        path = f"{METRICS}/namespaces/default/pods/{name}"
        wait_for(
            lambda: usage_of(lone.read(path), "c1").get("memory", 0) > 24 * MIB, what="the memory to be held"
        )
        found = lone.read(path)
        assert found["kind"] == "PodMetrics"
        assert found["metadata"]["name"] == name
        busy, held = usage_of(found), usage_of(found, "c1")
        assert 0.02 < busy["cpu"] < 0.4, "the quota is a quarter of a core"
        assert held["cpu"] < 0.02
        assert busy["memory"] < 24 * MIB < held["memory"] < 64 * MIB
        assert [one["metadata"]["name"] for one in lone.read(f"{METRICS}/pods")["items"]] == [name]
        assert lone.read(f"{METRICS}/namespaces/other/pods")["items"] == []
        node = lone.read(f"{METRICS}/nodes/{lone.node}")
        assert parse_quantity(node["usage"]["cpu"]) > busy["cpu"] / 2
        assert parse_quantity(node["usage"]["memory"]) > held["memory"]
    assert lone.read(f"{METRICS}/pods")["items"] == []
    assert lone.read(path) is None


def test_counters_of_a_real_container(lone: LoneAgent) -> None:
    script = (
        "dd if=/dev/zero of=/data bs=1M count=4 conv=fsync 2>/dev/null;"
        f"ping -c 3 -W 1 10.99.{lone.third}.1 >/dev/null; while :; do :; done"
    )
    limits = {"limits": {"cpu": "20m", "memory": "64Mi"}}
    pod = static_pod("counted", ["sh", "-c", script], container={"resources": limits}, hostNetwork=False)
    with lone.running(pod):
        seen = lone.container("counted")
        pid = lone.inspect("counted")["State"]["Pid"]
        folders = container_cgroup(Path("/"), pid, seen.id)

        def throttled() -> bool:
            cpu = cpu_usage(folders)
            return cpu is not None and bool(cpu.throttled_periods)

        wait_for(throttled, 30, "the quota to run out")
        cpu, memory, pids = cpu_usage(folders), memory_usage(folders), pids_usage(folders)
        assert cpu is not None
        assert memory is not None
        assert pids is not None
        assert cpu.user is not None
        assert cpu.system is not None
        assert cpu.usage == pytest.approx(cpu.user + cpu.system, rel=0.2)
        assert cpu.throttled is not None
        assert cpu.throttled > 0
        assert memory.limit == 64 * MIB
        assert memory.oom_kills == 0
        assert 0 < memory.working_set <= memory.usage < 64 * MIB
        assert pids.current >= 1
        assert pids.limit is None or pids.limit > 1
        written = sum(one.written_bytes for one in io_usage(folders, str))
        assert written in (0, *range(4 * MIB, 32 * MIB)), "some file systems account for no device"
        (link,) = wait_for(lambda: sent(pid), 30, "three packets to be sent")
        assert link.interface == "eth0"
        assert link.received_bytes > 0


def sent(pid: int) -> list[InterfaceUsage]:
    """The interfaces of a process that have sent something."""
    return [one for one in process_interfaces(Path("/"), pid) if one.sent_packets >= 3]
