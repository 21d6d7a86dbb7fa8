"""The priority of pods on a real node that is short of memory: who has to go first, and who never does.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import AgentProcess, Cluster, container, pod
from tests.support.podman import PodmanService
from tests.support.podtable import covers
from tests.support.waiting import wait_for

NODE = "n1"
NEVER_ENOUGH = '[eviction.hard]\n"memory.available" = "900Ti"\n'


@pytest.fixture
def node(podman: PodmanService, tmp_path: Path) -> Iterator[AgentProcess]:
    """The node of a cluster."""
    with Cluster(tmp_path / "cluster", podman) as cluster:
        node = cluster.add_node(NODE)
        node.start()
        cluster.apply(
            # The one of low priority is the one that is furthest below its request.
            waiter("low", "1Gi", priority=10, priorityClassName="batch"),
            waiter("high", "64Mi", priority=1000),
            waiter("cluster-critical", "64Mi", priorityClassName="system-cluster-critical"),
            waiter("node-critical", "64Mi", priorityClassName="system-node-critical"),
        )
        wait_for(lambda: len(running(node)) == 4, 30, "all pods to run")
        described = cluster.ctl("describe", "pod", "low").stdout
        assert [line.split() for line in described.splitlines() if line.startswith("Priority")] == [
            ["Priority:", "10"],
            ["Priority", "Class", "Name:", "batch"],
        ]
        yield node


def waiter(name: str, memory: str, **spec: object) -> dict[str, object]:
    """A pod that requests memory, uses hardly any, and waits."""
    return pod(
        name,
        NODE,
        [{**container("main", ["sleep", "3600"]), "resources": {"requests": {"memory": memory}}}],
        **spec,
    )


def running(node: AgentProcess) -> set[str]:
    """The names of the pods that run."""
    return {one["metadata"]["name"] for one in node.pods() if one.get("status", {}).get("phase") == "Running"}


def evicted(node: AgentProcess) -> list[str]:
    """The names of the pods that were evicted, in this order."""
    events: list[dict[str, Any]] = (node.read("/api/v1/events") or {"items": []})["items"]
    found = [event for event in events if event["reason"] == "Evicted"]
    found.sort(key=lambda event: str(event["lastTimestamp"]))
    return [str(event["involvedObject"]["name"]) for event in found]


def score(podman: PodmanService, name: str) -> int:
    """How soon the kernel ends the pod's container where there is no memory left."""
    labelled = ("ps", "--quiet", "--filter", f"name=edge_main_{name}_")
    (found,) = podman.run(*labelled).stdout.split()
    return int(podman.run("exec", found, "cat", "/proc/1/oom_score_adj").stdout)


@pytest.mark.slow
@covers("PodSpec.priority", "PodSpec.priorityClassName")
def test_a_node_short_of_memory_ends_the_pod_of_lowest_priority_first(
    node: AgentProcess, podman: PodmanService
) -> None:
    mine = int(Path("/proc/self/oom_score_adj").read_text())
    assert score(podman, "node-critical") <= max(-997, mine)
    assert score(podman, "cluster-critical") == score(podman, "high") > mine
    node.process.terminate()
    with node.config.open("a") as config:
        config.write(NEVER_ENOUGH)
    node.start()
    wait_for(lambda: evicted(node), 40, "an eviction")
    wait_for(lambda: node.pod("low")["status"].get("reason") == "Evicted", 20, "the pod to have ended")
    assert node.pod("low")["status"]["phase"] == "Failed"
    wait_for(lambda: len(evicted(node)) == 2, 40, "another eviction")
    assert evicted(node) == ["low", "high"]
    # Without a number they count as 0, less than the others, and yet they stay.
    assert running(node) >= {"cluster-critical", "node-critical"}
