"""QoS classes, sums and out-of-memory scores.

https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.pod import Pod
from edgeagent.node.pods.qos import is_critical, oom_score_adj, pod_limits, pod_requests, qos_class
from tests.node.podkit import main, make_pod

GIB = 2**30


def uses(
    limits: dict[str, Any] | None = None, requests: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"resources": {"limits": limits or {}, "requests": requests or {}}, **more}


FULL = {"cpu": "700m", "memory": "200Mi"}


def with_init(init: dict[str, Any], *containers: dict[str, Any]) -> Pod:
    return make_pod(*containers, initContainers=[{"name": "setup", "image": "i:1", **init}])


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make_pod(), "BestEffort"),
        (make_pod({}, {}), "BestEffort"),
        (make_pod(uses({"cpu": 0, "memory": "0"})), "BestEffort"),
        (make_pod(uses({"ephemeral-storage": "1Gi"})), "BestEffort"),
        (make_pod(uses(FULL, FULL)), "Guaranteed"),
        (make_pod(uses(FULL)), "Guaranteed"),
        (make_pod(uses(FULL, {"cpu": "0.7", "memory": 200 * 2**20})), "Guaranteed"),
        (
            make_pod(uses({**FULL, "ephemeral-storage": "2Gi"}, {**FULL, "ephemeral-storage": "1Gi"})),
            "Guaranteed",
        ),
        (make_pod(uses(FULL, {"cpu": "500m"})), "Burstable"),
        (make_pod(uses(None, FULL)), "Burstable"),
        (make_pod(uses({"memory": "200Mi"}, {"memory": "100Mi"}), {}), "Burstable"),
        (make_pod(uses({"memory": "200Mi"})), "Burstable"),
        (make_pod(uses({"cpu": 1})), "Burstable"),
        (make_pod(uses(FULL), {}), "Burstable"),
        (make_pod(uses(FULL), uses(FULL)), "Guaranteed"),
        (with_init({}, uses(FULL)), "Burstable"),
        (with_init(uses(FULL), uses(FULL)), "Guaranteed"),
        (with_init(uses(FULL), {}), "Burstable"),
    ],
)
def test_classes(pod: Pod, expected: str) -> None:
    assert qos_class(pod) == expected


@pytest.mark.parametrize(
    ("spec", "critical"),
    [
        ({}, False),
        ({"priority": 1_000_000_000}, False),
        ({"priority": 2_000_000_000, "priorityClassName": "system-cluster-critical"}, True),
        ({"priorityClassName": "system-cluster-critical"}, True),
        ({"priorityClassName": "system-node-critical"}, True),
        ({"priorityClassName": "high"}, False),
    ],
)
def test_critical_pods(spec: dict[str, Any], critical: bool) -> None:
    assert is_critical(make_pod(**spec)) is critical


def score(pod: Pod, capacity: int = 4 * GIB) -> int:
    return oom_score_adj(pod, main(pod), capacity)


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (make_pod(), 1000),
        (make_pod(uses(FULL)), -997),
        (make_pod(priorityClassName="system-node-critical"), -997),
        (make_pod(priority=2_000_001_000, priorityClassName="system-node-critical"), -997),
        (make_pod(priorityClassName="system-cluster-critical"), 1000),
        (make_pod(uses(None, {"memory": "1Gi"})), 750),
        (make_pod(uses(None, {"memory": "4Gi"})), 3),
        (make_pod(uses(None, {"memory": "400Gi"})), 3),
        (make_pod(uses(None, {"memory": "1"})), 999),
        (make_pod(uses(None, {"cpu": "1"})), 999),
        (make_pod(uses({"memory": "2Gi"})), 500),
    ],
)
def test_scores(pod: Pod, expected: int) -> None:
    assert score(pod) == expected


def test_a_sidecar_is_not_ended_before_the_other_containers() -> None:
    small = uses(None, {"memory": "64Mi"})
    sidecar = {"name": "proxy", "image": "p:1", "restartPolicy": "Always", **small}
    pod = make_pod(
        uses(None, {"memory": "2Gi"}),
        uses(None, {"memory": "1Gi"}),
        initContainers=[sidecar, {"name": "setup", "image": "i:1", **small}],
    )
    proxy, setup = pod.spec.init_containers
    assert oom_score_adj(pod, proxy, 4 * GIB) == 750
    assert oom_score_adj(pod, setup, 4 * GIB) == 985
    large = make_pod(small, initContainers=[{**sidecar, **uses(None, {"memory": "2Gi"})}])
    assert oom_score_adj(large, large.spec.init_containers[0], 4 * GIB) == 500


def test_a_node_whose_memory_is_not_known() -> None:
    assert score(make_pod(uses(None, {"memory": "1Gi"})), 0) == 999


@given(memory=st.integers(0, 2**40), capacity=st.integers(1, 2**40))
def test_a_burstable_pod_stands_between_the_other_classes(memory: int, capacity: int) -> None:
    pod = make_pod(uses(None, {"memory": str(memory), "cpu": "1m"}))
    assert 3 <= score(pod, capacity) <= 999


def test_sums() -> None:
    pod = make_pod(
        uses({"cpu": "1", "memory": "64Mi"}, {"cpu": "250m"}),
        uses(None, {"cpu": "250m", "ephemeral-storage": "1G"}),
    )
    assert pod_requests(pod) == {"cpu": 0.5, "memory": 64 * 2**20, "ephemeral-storage": 1e9}
    assert pod_limits(pod) == {"cpu": 1.0, "memory": 64 * 2**20}
    assert pod_requests(make_pod()) == pod_limits(make_pod()) == {}


def cpus(*init: tuple[str, bool], main: str = "0") -> float:
    pod = make_pod(
        uses(None, {"cpu": main}),
        initContainers=[
            {
                "name": f"i{index}",
                "image": "i:1",
                **uses(None, {"cpu": cpu}),
                **({"restartPolicy": "Always"} if sidecar else {}),
            }
            for index, (cpu, sidecar) in enumerate(init)
        ],
    )
    return pod_requests(pod)["cpu"]


@pytest.mark.parametrize(
    ("init", "main", "expected"),
    [
        ([("5", False)], "1", 5),
        ([("1", False), ("2", False)], "4", 4),
        ([("1", True)], "4", 5),
        ([("1", True), ("6", False)], "4", 7),
        ([("6", False), ("1", True)], "4", 6),
        ([("1", True), ("1", True)], "4", 6),
        ([("1", True), ("3", False), ("2", True)], "0", 4),
        ([("1", True), ("3", False), ("5", True)], "0", 6),
    ],
)
def test_init_containers_run_with_the_sidecars_before_them(
    init: list[tuple[str, bool]], main: str, expected: float
) -> None:
    assert cpus(*init, main=main) == expected
